/* SPDX-License-Identifier: GPL-2.0 */
/*
 * kFlux's own objects. The contract is in ../abi/kflux.h, the protocol in ../abi/handoff.h.
 *
 * LOCKS, outermost first:
 *
 *   domain->mutex       VMs come and go, vCPUs register, the lease changes hands
 *   kf_claims_mutex     which core is claimed by which domain; the list of domains
 *   core->lock          raw: who owns the core, who is next, the request in flight
 *   (runqueue locks)    so nothing under a vcpu->lock may wake a task, move one or start
 *                       a timer, and no core->lock is ever taken by the notifier
 *   vcpu->lock          raw: the vCPU's state; also taken by the notifier that the
 *                       scheduler calls with the runqueue locked
 *   domain->event_lock  raw: the event ring and the domain's counters
 *
 * Never two core->locks, never two vcpu->locks. What has to follow a change of hands and
 * may sleep or take a runqueue lock (affinity, wake-up) is done after both are dropped, by
 * kf_deliver() and kf_place(), which both cope with whatever happened in between.
 *
 * A vCPU's state and its core change together: under its own lock and, as long as it has a
 * core or is about to get one, that core's lock too. So who holds core->lock can trust
 * the states of its owner and its successor, and who holds vcpu->lock that of the vCPU.
 *
 * PUBLISHED STRUCTURES have a private twin, `own`. kf_show() writes both; only the twin is
 * ever read back, so what others scribble into a page that they may write is not believed.
 */
#ifndef KF_KF_H
#define KF_KF_H

#include <linux/cpumask.h>
#include <linux/fs.h>
#include <linux/hrtimer.h>
#include <linux/irq_work.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/preempt.h>
#include <linux/refcount.h>
#include <linux/sched.h>
#include <linux/spinlock.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "compat.h"
#include "../abi/kflux.h"

#define KF_CORES_PAGES ((FLUX_VMS_OFFSET - FLUX_CORES_OFFSET) / PAGE_SIZE)
#define KF_EVENTS_PAGES (FLUX_KF_EVENTS * FLUX_KF_EVENT_BYTES / PAGE_SIZE)
/* Each has its pages and tables; whoever needs more is lost in a loop. */
#define KF_MAX_DOMAINS 64

/* Where a thread's affinity is to be, if not at a core (which is its number). */
#define KF_AT_HOME (-1) /* what it was when the thread registered */
#define KF_HOUSEKEEPING (-2) /* off the claimed cores */
#define KF_NOBODY_KNOWS (-3)

struct kf_domain;
struct kf_vcpu;
struct kf_vm;

/* One claimable core of a domain. */
struct kf_core {
	raw_spinlock_t lock;
	u32 id;
	struct kf_domain *domain;
	struct flux_core *line; /* in the domain's pages */
	struct flux_core own;
	/* All below: core->lock. */
	struct kf_vcpu *owner;
	struct kf_vcpu *successor; /* GRANTING; NULL with `requested`: the core shall fall idle */
	struct kf_vcpu *heir;
	u32 generation;
	u32 epoch; /* of the lease that claimed it */
	bool claimed;
	bool online;
	bool requested; /* the owner has been asked to leave */
	bool forced;
	bool overdue; /* was forced, and has not left: it is to be taken */
	/* The request in flight. KTIME_MAX: never. */
	u32 deadline_us;
	ktime_t kick_at;
	ktime_t force_at;
	ktime_t take_at;
	ktime_t armed; /* when the timer runs; KTIME_MAX: perhaps not at all */
	struct hrtimer timer;
	/* From where no core->lock may be taken: nudge -> look -> kf_core_look(). */
	struct irq_work nudge;
	struct work_struct look;
} ____cacheline_aligned_in_smp;

/* A place for a vCPU, and from REGISTER on the thread that is it. */
struct kf_vcpu {
	raw_spinlock_t lock;
	u32 handle;
	u32 id;
	struct kf_vm *vm;
	struct flux_vcpu *line; /* in the VM's page */
	struct flux_vcpu own; /* own.word: the state; may be read without the lock */
	/* vcpu->lock; `core` also by that core's lock, see above. */
	struct kf_core *core; /* that it owns or is the successor on */
	bool asleep; /* in kf_sleep(): its context is whole */
	u8 recall_looks; /* looks at the heartbeat since MANAGE that it has not parked for */
	bool leaving; /* its core is just going on without it: not to be claimed yet */
	bool news; /* granted or unmanaged since its thread was last told */
	bool gone; /* its thread exits, or has become another program */
	bool preempting; /* own.preempt is to be looked at; ends with the tenure */
	u8 off; /* FLUX_HOST_*: why the thread is off the CPU, whatever it does */
	int place; /* where its affinity should be */
	int placed; /* where it was last put */
	bool placing; /* somebody is on the way to put it there: see place.c */
	struct wait_queue_head place_wait;
	/* Its own thread's, or constant since REGISTER. */
	bool registered;
	bool entered; /* the guest has run since the vCPU got its core */
	bool began; /* the guest has run at all: there is a context to leave behind */
	bool told; /* its VMM may have resumed that context since it was last marked as held */
	bool mid_guest; /* KVM holds the whole context of an interrupted guest; within one RUN */
	bool inside; /* ...which was parked in FluxOS's own code, and has not run since */
	struct task_struct *task; /* referenced until the VM is freed */
	cpumask_var_t home;
	cpumask_var_t scratch;
	u32 __user *critical;
	u32 __user *held_hint;
	struct file *kvm;
	struct preempt_notifier notifier;
	struct irq_work exit_irq;
	struct work_struct exit_work;
};

struct kf_vm {
	refcount_t refs; /* the descriptor, maps, registered threads, whoever works on it */
	struct kf_domain *domain;
	u32 slot;
	u32 count;
	bool hello;
	bool ended; /* domain->mutex */
	struct mm_struct *mm; /* of the thread that registered first; domain->mutex to set */
	struct page *page;
	struct work_struct free_work;
	struct rcu_head rcu;
	struct kf_vcpu vcpu[];
};

struct kf_domain {
	refcount_t refs; /* files that joined, VMs */
	u32 id;
	u32 cores;
	struct kf_core *core;
	struct mutex mutex; /* see LOCKS */
	struct list_head files; /* that joined */
	struct kf_vm __rcu *vm[FLUX_MAX_VMS];

	/* The lease: domain->mutex; holder may be looked at without. */
	struct kf_file *holder;
	u32 lease_ms;
	u32 heartbeat;
	u32 still; /* looks at the heartbeat that found it unchanged */
	struct delayed_work watch;

	raw_spinlock_t event_lock;
	struct flux_kf_status *line;
	struct flux_kf_status own;

	spinlock_t page_lock; /* which page stands for which slot */
	struct page *status_page;
	struct page *core_page[KF_CORES_PAGES];
	struct page *event_page[KF_EVENTS_PAGES];
	struct page *empty_page; /* of slots that had no VM yet */
	struct page *slot_page[FLUX_MAX_VMS];
	struct work_struct free_work;
};

/* An open file of /dev/kflux. */
struct kf_file {
	struct mutex mutex; /* HELLO and JOIN */
	bool hello;
	bool view;
	u32 epoch; /* of the lease that it holds or held */
	struct kf_domain *domain; /* set once */
	struct file *filp;
	struct list_head joined; /* domain->files, domain->mutex */
	struct page *retired; /* what it writes into when it has lost the lease */
};

/* Changes a word of a published structure in its private twin, and publishes it. */
#define kf_change(object, field, operator, value)			\
do {									\
	typeof(object) kf_object = (object);				\
	__auto_type kf_word = &kf_object->own.field;			\
									\
	*kf_word operator(value);					\
	WRITE_ONCE(*(typeof(kf_word))((char *)kf_object->line +		\
		   ((char *)kf_word - (char *)&kf_object->own)),	\
		   *kf_word);						\
} while (0)
#define kf_show(object, field, value) kf_change(object, field, =, value)
#define kf_count(object, field) kf_change(object, field, +=, 1)

static inline u32 kf_state(u32 word)
{
	return word & 0xff;
}

static inline u32 kf_core_in(u32 word)
{
	return word >> 8;
}

static inline bool kf_has_core(u32 word)
{
	return kf_state(word) == FLUX_VCPU_RUNNING ||
	       (kf_state(word) == FLUX_VCPU_CEDING && kf_core_in(word) != FLUX_CORE_NONE);
}

/* Whether a thread whose context is whole has to sleep in this state. */
static inline bool kf_waits(u32 word)
{
	return !kf_has_core(word) && kf_state(word) != FLUX_VCPU_UNMANAGED &&
	       kf_state(word) != FLUX_VCPU_DEAD;
}

static inline u32 kf_handle(const struct kf_vcpu *v)
{
	return v ? v->handle : FLUX_HANDLE_NONE;
}

/* main.c */
extern struct workqueue_struct *kf_wq;
extern struct workqueue_struct *kf_lease_wq;
extern unsigned int kf_first_generation;
extern unsigned int kf_first_park_req;
bool kf_allowed(const char *what);

/* claims.c */
extern struct mutex kf_claims_mutex;
extern struct cpumask kf_housekeeping;
int kf_claims_reserve(struct kf_domain *domain, const u32 managed[8]);
void kf_claims_keep(struct kf_domain *domain, const u32 managed[8]);
int kf_claims_init(void);
void kf_claims_exit(void);

/* domain.c */
struct kf_domain *kf_domain_new(void);
struct kf_domain *kf_domain_find(u32 id);
struct kf_domain *kf_domain_next(unsigned long *id);
void kf_domain_put(struct kf_domain *domain);

/* vm.c */
extern const struct file_operations kf_vm_fops;
int kf_vm_create(struct kf_domain *domain, struct flux_kf_vm __user *arg);
void kf_vm_end(struct kf_vm *vm);
int kf_vm_detach_map(struct kf_vm *vm, struct vm_area_struct *vma);
void kf_vm_end_if_defunct(struct kf_vm *vm);
void kf_vm_get(struct kf_vm *vm);
void kf_vm_put(struct kf_vm *vm);
struct kf_vcpu *kf_vcpu_find(struct kf_domain *domain, u32 handle);
bool kf_vcpu_exists(struct kf_domain *domain, u32 handle);

/* manage.c */
void kf_recall_look(struct kf_vcpu *v);
int kf_vm_manage(struct kf_vm *vm);
int kf_vm_unmanage(struct kf_vm *vm);

/* vmioctl.c */
long kf_vm_ioctl(struct file *filp, unsigned int cmd, unsigned long arg);

/* ioctl.c */
extern const struct file_operations kf_fops;
int kf_hello(struct flux_kf_hello __user *arg);

/* lease.c */
int kf_lease_claim(struct kf_file *file, struct flux_kf_claim *claim);
int kf_lease_release(struct kf_file *file);
void kf_lease_watch(struct work_struct *work);

/* command.c */
int kf_submit(struct kf_file *file, struct flux_kf_submit *batch);

/* pages.c */
int kf_pages_alloc(struct kf_domain *domain);
void kf_pages_free(struct kf_domain *domain);
struct page *kf_page_alloc(void);
void kf_pages_replace_slot(struct kf_domain *domain, u32 slot, struct page *page);
void kf_pages_holder_changed(struct kf_domain *domain);
int kf_mmap(struct file *filp, struct vm_area_struct *vma);
int kf_vm_mmap(struct file *filp, struct vm_area_struct *vma);

/* event.c */
struct kf_event {
	u16 kind;
	u16 core;
	u16 from;
	u16 to;
	u32 generation;
	u32 arg;
};

void kf_event(struct kf_domain *domain, const struct kf_event *event);
void kf_event_vcpu(struct kf_vcpu *v, u16 kind);
void kf_event_core(struct kf_core *c, u16 kind, u32 from, u32 to, u32 arg);
void kf_commands_done(struct kf_domain *domain, u32 commands);

/* core.c: a core changes hands */
void kf_core_init(struct kf_core *c, struct kf_domain *domain, u32 id, struct flux_core *line);
void kf_set_word(struct kf_vcpu *v, u32 state, struct kf_core *c);
void kf_core_changed(struct kf_core *c, const char *why);
int kf_may_claim(struct kf_vcpu *v);
int kf_claim(struct kf_vcpu *v, struct kf_core *c);
void kf_unclaim(struct kf_vcpu *v);
void kf_core_give(struct kf_core *c, struct kf_vcpu *next);
struct kf_vcpu *kf_pass_on(struct kf_core *c, struct kf_vcpu *from, u32 how);
void kf_end_tenure(struct kf_vcpu *v, u32 how, u64 now);
void kf_deliver(struct kf_vcpu *next);
void kf_leave(struct kf_vcpu *v, u32 how);

/* request.c */
int kf_core_usable(struct kf_file *file, struct kf_core *c);
bool kf_is_stale(struct kf_core *c, const struct flux_kf_command *cmd);
int kf_grant(struct kf_file *file, struct kf_core *c, struct kf_vcpu *to,
	     const struct flux_kf_command *cmd);
int kf_request(struct kf_file *file, struct kf_core *c, struct kf_vcpu *to,
	       const struct flux_kf_command *cmd, u32 *park_req);
int kf_set_heir(struct kf_file *file, struct kf_core *c, struct kf_vcpu *to,
		const struct flux_kf_command *cmd);
int kf_force_now(struct kf_file *file, struct kf_core *c, const struct flux_kf_command *cmd);

/* preempt.c */
enum kf_preempt {
	KF_PREEMPT_NONE,
	KF_PREEMPT_AFTER_THIS, /* first KVM has to finish the instruction that the guest left by */
	KF_PREEMPT_LEFT_TO_GUEST, /* in FluxOS's own code */
	KF_PREEMPT_NOW,
};

int kf_preempt(struct kf_file *file, struct kf_core *c, const struct flux_kf_command *cmd);
enum kf_preempt kf_preempt_look(struct kf_vcpu *v);

/* take.c: a core goes on without its owner's doing */
bool kf_owner_blocked(struct kf_core *c);
void kf_core_look(struct kf_core *c);
void kf_core_look_work(struct work_struct *work);
void kf_core_nudge(struct irq_work *work);
void kf_core_offline(struct kf_core *c);
void kf_core_online(struct kf_core *c);
void kf_core_claim(struct kf_core *c, u32 epoch);
void kf_core_unclaim(struct kf_core *c);

/* withdraw.c */
void kf_withdraw(struct kf_vcpu *v, u32 state);

/* place.c */
bool kf_place(struct kf_vcpu *v);
void kf_place_settle(struct kf_vcpu *v);
void kf_place_here(struct kf_vcpu *v, u32 core);

/* kick.c */
void kf_kick(struct kf_vcpu *v);
void kf_kick_owner(struct kf_core *c);
void kf_kicked_owner(struct kf_core *c);
bool kf_swallow_kick(void);

/* deadline.c */
enum hrtimer_restart kf_deadline(struct hrtimer *timer);
void kf_deadline_begin(struct kf_core *c, const struct flux_kf_command *cmd, bool kicked);
void kf_deadline_force(struct kf_core *c, ktime_t now);

/* vcpu.c */
int kf_register(struct kf_vm *vm, const struct flux_kf_register *arg);
int kf_unregister(struct kf_vcpu *v);
void kf_vcpu_init(struct kf_vcpu *v, struct kf_vm *vm, u32 id);
void kf_vcpu_free(struct kf_vcpu *v);
void kf_exit_irq(struct irq_work *work);
void kf_exit_work(struct work_struct *work);

/* notifier.c */
extern struct preempt_ops kf_preempt_ops;
void kf_blocks(struct kf_vcpu *v);

/* park.c */
int kf_sleep(struct kf_vcpu *v);
bool kf_tell(struct kf_vcpu *v, struct flux_kf_turn *turn, u32 *word);
int kf_park(struct kf_vcpu *v, struct flux_kf_turn *turn);

/* run.c */
bool kf_is_critical(struct kf_vcpu *v);
int kf_run(struct kf_vcpu *v, struct flux_kf_turn *turn);

/* debugfs.c */
void kf_debugfs_init(void);
void kf_debugfs_exit(void);

#endif

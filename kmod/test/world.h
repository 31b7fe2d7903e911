/* SPDX-License-Identifier: GPL-2.0 */
/* A domain, its VMs and their vCPU threads, as the arbiter and the VMM would have them. */
#ifndef KFLUX_TEST_WORLD_H
#define KFLUX_TEST_WORLD_H

#include "harness.h"
#include "../../abi/kflux.h"

#include <pthread.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/types.h>

#define VCPUS_AREA (FLUX_TABLE_BYTES - FLUX_TVCPUS_OFFSET)
#define CORES_AREA (FLUX_VMS_OFFSET - FLUX_CORES_OFFSET)
#define EVENTS_AREA (FLUX_KF_EVENTS * FLUX_KF_EVENT_BYTES)

/* Managed cores of most cases; the rest of the machine, core 0 at least, is housekeeping. */
#define CORE_A 1
#define CORE_B 2
#define MASK_AB 0x6u

struct domain {
	int fd;
	uint32_t id;
	uint32_t epoch;
	volatile struct flux_kf_status *status;
	const volatile struct flux_core *core;
	const volatile struct flux_vcpu *vcpu; /* all, by handle - 1 */
	const volatile struct flux_kf_event *event;
};

/* What a vCPU's thread does while it has a core. */
enum manner {
	OBEY, /* looks whether it has been asked, and leaves */
	STUBBORN, /* spins in user space, looks at nothing */
	SLEEPS, /* reads from an empty pipe: blocked in the host */
	YIELD, /* leaves by itself, once; then obeys */
	QUIT, /* ends its thread, without a word */
	LEAVE_FOR_GOOD, /* UNREGISTER, then ends */
	NAPS, /* like OBEY, with naps in between */
};

struct vm;

struct worker {
	struct vm *vm;
	uint32_t vcpu;
	pthread_t thread;
	_Atomic pid_t tid;
	_Atomic enum manner manner;
	atomic_uint grants; /* PARK came back with a core */
	atomic_uint signalled; /* PARK came back with EINTR */
	atomic_uint unmanaged; /* PARK came back UNMANAGED */
	atomic_uint turns; /* of its loop "in the guest" */
	atomic_uint wrong_core; /* it had a core and ran elsewhere */
	char where[160];
	atomic_int core; /* that it believes to have; -1 */
	atomic_bool dead; /* PARK came back DEAD */
	atomic_bool ended;
	atomic_int error; /* an errno that it did not expect */
	atomic_bool stop;
	int pipe[2];
	uint32_t flags; /* of REGISTER */
};

struct vm {
	int fd;
	uint32_t slot, vcpus;
	volatile struct flux_vcpu *page;
	const volatile struct flux_core *core;
	struct worker *worker[FLUX_MAX_VCPUS];
};

/* An ioctl's result: 0 or a negative errno. */
int kf_ioctl(int fd, unsigned long request, void *arg);

int kf_open(void); /* /dev/kflux, nothing said yet */
int kf_hello(int fd);
int kf_opened(void); /* with HELLO */
int kf_join(int fd, uint32_t *id, uint32_t flags);
int kf_claim(int fd, uint32_t mask, uint32_t lease_ms, uint32_t flags, uint32_t *epoch);
/* A file and a lease of its own over the cores of the mask; a minute's lease, so that most cases need no heartbeat. */
struct domain *domain_new(uint32_t mask);
struct domain *domain_on(int fd, uint32_t id, bool writable);
void domain_close(struct domain *domain);
void domain_beat(struct domain *domain);
/* Beats until the process ends. */
void domain_keep(struct domain *domain);

int vm_create(struct domain *domain, uint32_t slot, uint32_t vcpus, int *fd);
/* Maps what a VMM maps. */
struct vm *vm_on(int fd, uint32_t slot, uint32_t vcpus);
struct vm *vm_new(struct domain *domain, uint32_t slot, uint32_t vcpus);
/* Unmaps and closes: its maps would keep the VM. */
void vm_close(struct vm *vm);
/* A VM whose vCPUs are threads that have registered, PARKED. */
struct vm *vm_with_workers(struct domain *domain, uint32_t slot, uint32_t vcpus);
/* One VM in slot 0 of two vCPUs, the first of which runs on core A. */
struct vm *vm_running(struct domain *domain);
struct worker *worker_start(struct vm *vm, uint32_t vcpu, uint32_t flags);
/* From here on it behaves like this; if it has a core it has seen so. */
void worker_be(struct worker *worker, enum manner manner);
void worker_join(struct worker *worker);
/* Lets a SLEEPS worker come back, with this manner. */
void worker_wake(struct worker *worker, enum manner manner);

/*
 * Called by a vCPU's thread that believes to have this core: false if it is elsewhere all the same and stays there, and
 * says how in `text`. For a moment it may be: until the migration that has been ordered for it interrupts it; and while
 * the CPU goes offline, since the scheduler empties it, waits for a grace period of RCU, and tells the module then.
 */
bool is_on_core(const volatile struct flux_vcpu *block, const volatile struct flux_core *cores, uint32_t core,
		char *text, size_t size);

int vm_register(struct vm *vm, uint32_t vcpu, uint32_t flags);
int vm_park(struct vm *vm, uint32_t vcpu, uint32_t how, struct flux_kf_turn *turn);
int vm_run(struct vm *vm, uint32_t vcpu, struct flux_kf_turn *turn);
int vm_unregister(struct vm *vm, uint32_t vcpu);

/* One command; the result, 0 or a negative errno. */
int command(struct domain *domain, struct flux_kf_command one);
int submit(struct domain *domain, struct flux_kf_command *commands, uint32_t count, uint32_t *failed);
int grant(struct domain *domain, uint32_t core, uint32_t to);
int park(struct domain *domain, uint32_t core, uint32_t from);
int move(struct domain *domain, uint32_t core, uint32_t from, uint32_t to);
int heir(struct domain *domain, uint32_t core, uint32_t to);
int force(struct domain *domain, uint32_t core, uint32_t from);
int preempt(struct domain *domain, uint32_t core, uint32_t from, uint32_t switches);
/* A park that nobody kicks or forces for ten seconds: for owners that shall stay in the way. */
int ask(struct domain *domain, uint32_t core, uint32_t from, uint32_t to);

static inline uint32_t handle(uint32_t slot, uint32_t vcpu)
{
	return slot * FLUX_MAX_VCPUS + vcpu + 1;
}

/* What the pages say. Acquire: what was published before a word is seen with it. */
uint32_t state_of(struct domain *domain, uint32_t handle);
uint32_t core_of(struct domain *domain, uint32_t handle);
uint32_t owner_of(struct domain *domain, uint32_t core);
uint32_t successor_of(struct domain *domain, uint32_t core);
uint32_t generation_of(struct domain *domain, uint32_t core);
uint64_t core_word(struct domain *domain, uint32_t core);
const volatile struct flux_vcpu *block_of(struct domain *domain, uint32_t handle);
bool idle(struct domain *domain, uint32_t core);
/* The vCPU is on the core by what the pages say, and its thread got there. */
void until_running(struct domain *domain, uint32_t handle, uint32_t core);
void until_parked(struct domain *domain, uint32_t handle);
/* Drives a core to idle, whoever has it. */
void until_idle(struct domain *domain, uint32_t core);

/* The affinity of a thread of this machine as a mask of the first 64 CPUs; 0 if it is gone. */
uint64_t affinity_of(pid_t tid);
uint64_t online_mask(void);
uint32_t cpus(void);

#endif

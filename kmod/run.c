// SPDX-License-Identifier: GPL-2.0
/*
 * RUN: KVM_RUN again and again, until user space is needed. A kick ends it; the core is handed
 * on and the thread sleeps without a trip through user space.
 *
 * WHERE A REQUEST IS SEEN. The requester changes the word, then sets TIF_NOTIFY_SIGNAL. This
 * loop clears the flag, then looks at the word, then calls KVM_RUN, which looks at the
 * flag with interrupts off right before each entry. So a request that the look misses sets the
 * flag after it was cleared, and KVM_RUN comes back at once. A request that is not to be
 * kicked is the guest's to see; if it comes before the entry, it is seen here.
 *
 * WHAT IS LEFT BEHIND. A vCPU that goes before its guest has run leaves nothing (ENTRY). One whose
 * guest has run leaves its context in KVM: it may go in application code only, or by force, and is
 * marked as held. After an exit that context is not whole, because KVM finishes the guest's
 * instruction with the next KVM_RUN: so that is called once more, with the flag set, which
 * finishes the instruction and does not enter the guest. Nor is it whole when user space has had
 * the vCPU since: it may have changed registers in kvm_run, which the next KVM_RUN loads. What is
 * interrupted for a PREEMPT goes on like after an exit, with whatever registers the VMM gave it.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kvm.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>

#include "kf.h"
#include "trace.h"

/* Whether the interrupted guest is in FluxOS's own code and must not be parked there. */
bool kf_is_critical(struct kf_vcpu *v)
{
	u32 critical;

	if (!v->critical)
		return false;
	/* Not readable is as good as critical: force will settle it. */
	if (get_user(critical, v->critical))
		return true;
	return critical;
}

/* Whether the request in flight ignores the critical word. */
static bool is_forced(struct kf_vcpu *v)
{
	unsigned long flags;
	bool forced;

	raw_spin_lock_irqsave(&v->lock, flags);
	forced = v->own.park_req && v->own.force == v->own.park_req;
	raw_spin_unlock_irqrestore(&v->lock, flags);
	return forced;
}

/*
 * KVM holds the context of an interrupted guest: marked, so that another vCPU of the VM may
 * take it, unless it was interrupted where only its own vCPU can go on.
 */
static u32 mark_held(struct kf_vcpu *v)
{
	bool critical = kf_is_critical(v);

	v->inside = critical;
	/* Pairs with the acquire of the thief: KVM_RUN is over when it sees the mark. */
	smp_store_release(&v->line->held, critical ? FLUX_HELD_FORCED : FLUX_HELD_HELD);
	/* A hint for thieves in the guest; a page that is not there has none. */
	if (!critical && v->held_hint && put_user(1, v->held_hint))
		pr_debug("vCPU %u: its held_hint is not writable\n", v->handle);
	trace_kflux_held(v->handle, critical);
	return critical ? FLUX_HOW_FORCED : FLUX_HOW_KICKED;
}

/*
 * A context that was parked in FluxOS's own code, that user space has resumed since, and that has
 * not run: it goes back as it came, and is marked as it was. The arbiter sees by the mark that
 * somebody waits for this vCPU.
 */
static void mark_again(struct kf_vcpu *v)
{
	/* Pairs with the acquire of whoever reads the page, as in mark_held(). */
	smp_store_release(&v->line->held, FLUX_HELD_FORCED);
}

/*
 * The vCPU has to go, or has lost its core already: hands it on and sleeps. Returns what
 * kf_sleep() does.
 */
static int give_up(struct kf_vcpu *v, struct flux_kf_turn *turn, u32 word)
{
	u32 how = FLUX_HOW_ENTRY;

	if (v->mid_guest) {
		how = mark_held(v);
		v->mid_guest = false;
		kf_count(v, kicks);
	} else if (v->inside && v->told) {
		mark_again(v);
	}
	v->entered = false;
	v->told = false;
	if (kf_has_core(word) || kf_state(word) == FLUX_VCPU_BLOCKED) {
		kf_leave(v, how);
		/* Lent or taken, perhaps: that stands there then. */
		turn->left = READ_ONCE(v->own.how);
	}
	return kf_sleep(v);
}

/* Whether the vCPU may go (back) into the guest as things stand. */
static bool may_enter(struct kf_vcpu *v, u32 word)
{
	switch (kf_state(word)) {
	case FLUX_VCPU_UNMANAGED:
		return true;
	case FLUX_VCPU_RUNNING:
		kf_place_here(v, kf_core_in(word));
		return true;
	case FLUX_VCPU_CEDING:
		/*
		 * The guest sees the request itself when it leaves the critical section; without a
		 * core it is that of an arbiter that adopts the VM.
		 */
		return v->mid_guest && !is_forced(v) && kf_is_critical(v);
	default:
		return false;
	}
}

static int enter_guest(struct kf_vcpu *v, struct flux_kf_turn *turn)
{
	u64 entered = rdtsc(), seen;
	int result;

	kf_show(v, t_enter, entered);
	kf_show(v, entered_tsc, entered);
	result = v->kvm->f_op->unlocked_ioctl(v->kvm, KVM_RUN, 0);
	seen = rdtsc();
	kf_show(v, t_seen, seen);
	kf_show(v, used_tsc, v->own.used_tsc + (seen - entered));
	kf_show(v, entered_tsc, 0);
	turn->guest_tsc += seen - entered;
	turn->seen_tsc = seen;
	v->entered = true;
	v->began = true;
	v->inside = false;
	v->mid_guest = result == -EINTR;
	return result;
}

/*
 * Whether a vCPU that has to go leaves nothing of its guest behind that has not been marked: it
 * has not run since it got this core. But what user space has resumed in application code is
 * entered once more, to be marked as held like any other; FluxOS's own code waits for its vCPU.
 */
static bool leaves_nothing(struct kf_vcpu *v)
{
	if (v->entered)
		return false;
	return !v->began || !v->told || kf_is_critical(v);
}

static void tell_core(struct kf_vcpu *v, struct flux_kf_turn *turn, u32 reason)
{
	u32 word = READ_ONCE(v->own.word);

	turn->reason = reason;
	turn->core = kf_has_core(word) ? kf_core_in(word) : FLUX_CORE_NONE;
}

/* The interruption was a kick that needs nothing done: stale, or it met a critical guest. */
static void count_kick(struct kf_vcpu *v, struct flux_kf_turn *turn, u32 word,
		       enum kf_preempt preempt)
{
	turn->kicks++;
	if (kf_state(word) != FLUX_VCPU_CEDING && preempt == KF_PREEMPT_NONE)
		kf_count(v, stale);
}

int kf_run(struct kf_vcpu *v, struct flux_kf_turn *turn)
{
	bool kicked = false, enters;
	enum kf_preempt preempt;
	int result;
	u32 word;

	if (!v->kvm)
		return -EINVAL;
	v->mid_guest = false;
	for (;;) {
		/* A core that user space has not been told of: its own words come first. */
		if (kf_tell(v, turn, &word))
			return 0;
		enters = may_enter(v, word);
		if (!enters && (v->mid_guest || leaves_nothing(v))) {
			result = give_up(v, turn, word);
			if (result == -ERESTARTSYS)
				break;
			if (result)
				return result;
			kicked = false;
			continue;
		}
		preempt = enters ? kf_preempt_look(v) : KF_PREEMPT_NONE;
		if (preempt == KF_PREEMPT_NOW) {
			tell_core(v, turn, FLUX_KF_PREEMPT);
			return 0;
		}
		if (kicked && enters)
			count_kick(v, turn, word, preempt);
		/* It only finishes the instruction that it had left by: see above. */
		enters &= preempt != KF_PREEMPT_AFTER_THIS;
		if (!enters)
			set_thread_flag(TIF_NOTIFY_SIGNAL);
		result = enter_guest(v, turn);
		if (result != -EINTR) {
			/* An error of KVM_RUN's own is what RUN returns. */
			tell_core(v, turn, FLUX_KF_EXIT);
			return result;
		}
		if (fatal_signal_pending(current)) {
			kf_withdraw(v, FLUX_VCPU_DEAD);
			return -EINTR;
		}
		/* A signal that only KVM's own mask lets through is not pending any more here. */
		if (!test_thread_flag(TIF_NOTIFY_SIGNAL) || !kf_swallow_kick())
			break;
		kicked = enters;
	}
	tell_core(v, turn, FLUX_KF_SIGNAL);
	return 0;
}

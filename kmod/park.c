// SPDX-License-Identifier: GPL-2.0
/* A vCPU's thread without a core: it leaves, sleeps, and is told why it woke. */
#include <linux/sched/signal.h>

#include "kf.h"

/* From here on the context is whole, and the notifier makes it PARKED once it is off. */
static void begin_sleep(struct kf_vcpu *v)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&v->lock, flags);
	v->asleep = true;
	/* Its core was lent or taken. */
	if (kf_state(v->own.word) == FLUX_VCPU_BLOCKED)
		kf_set_word(v, FLUX_VCPU_CEDING, NULL);
	raw_spin_unlock_irqrestore(&v->lock, flags);
}

/* Returns false if the vCPU has lost again what its thread was woken for. */
static bool end_sleep(struct kf_vcpu *v)
{
	unsigned long flags;
	bool ended;

	raw_spin_lock_irqsave(&v->lock, flags);
	ended = !kf_waits(v->own.word);
	if (ended)
		v->asleep = false;
	raw_spin_unlock_irqrestore(&v->lock, flags);
	return ended;
}

/*
 * A signal: the thread goes to handle it, PARKED all the same, but not on a claimed core. It
 * may be granted a core while it does, and finds that when it parks again.
 */
static int interrupted(struct kf_vcpu *v)
{
	unsigned long flags;
	bool parked = false;

	if (fatal_signal_pending(current)) {
		kf_withdraw(v, FLUX_VCPU_DEAD);
		raw_spin_lock_irqsave(&v->lock, flags);
		v->asleep = false;
		raw_spin_unlock_irqrestore(&v->lock, flags);
		return -EINTR;
	}
	raw_spin_lock_irqsave(&v->lock, flags);
	v->asleep = false;
	if (kf_waits(v->own.word))
		v->place = KF_HOUSEKEEPING;
	raw_spin_unlock_irqrestore(&v->lock, flags);
	kf_place(v);
	kf_place_settle(v);

	raw_spin_lock_irqsave(&v->lock, flags);
	if (kf_state(v->own.word) == FLUX_VCPU_CEDING && !v->core) {
		/* It never got to sleep. */
		kf_set_word(v, FLUX_VCPU_PARKED, NULL);
		parked = true;
	}
	if (parked)
		kf_event_vcpu(v, FLUX_KF_EV_PARKED);
	raw_spin_unlock_irqrestore(&v->lock, flags);
	return -ERESTARTSYS;
}

/*
 * Sleeps until there is a core, the vCPU is unmanaged or dead. The caller's context is whole
 * and it has left its core. Errors: -ERESTARTSYS for a signal, -EINTR for a fatal one.
 */
int kf_sleep(struct kf_vcpu *v)
{
	int result = 0;

	begin_sleep(v);
	for (;;) {
		/*
		 * A full barrier between `asleep` and this state on one side and the look at the
		 * word on the other. Pairs with kf_place() and wake_up_process() of whoever
		 * changes the word: see the top of core.c.
		 */
		set_current_state(TASK_INTERRUPTIBLE | TASK_FREEZABLE);
		if (!kf_waits(READ_ONCE(v->own.word))) {
			__set_current_state(TASK_RUNNING);
			if (end_sleep(v))
				break;
			continue;
		}
		if (signal_pending(current)) {
			__set_current_state(TASK_RUNNING);
			if (kf_swallow_kick())
				continue;
			result = interrupted(v);
			break;
		}
		schedule();
	}
	return result;
}

/*
 * Tells the thread what has become of its vCPU, once for each change. Returns whether there
 * was anything to tell. *@word is the state at that moment: the caller goes on from there, and
 * not from what may have come right afterwards and is still to be told.
 */
bool kf_tell(struct kf_vcpu *v, struct flux_kf_turn *turn, u32 *word)
{
	unsigned long flags;
	bool told = false;

	raw_spin_lock_irqsave(&v->lock, flags);
	*word = v->own.word;
	turn->core = FLUX_CORE_NONE;
	if (kf_state(v->own.word) == FLUX_VCPU_DEAD) {
		turn->reason = FLUX_KF_DEAD;
		told = true;
	} else if (v->news && kf_state(v->own.word) == FLUX_VCPU_UNMANAGED) {
		turn->reason = FLUX_KF_UNMANAGED;
		told = true;
	} else if (v->news && kf_has_core(v->own.word)) {
		turn->reason = FLUX_KF_GRANTED;
		turn->core = v->core->id;
		kf_show(v, t_woken, rdtsc());
		told = true;
	}
	if (told)
		v->news = false;
	raw_spin_unlock_irqrestore(&v->lock, flags);
	v->told |= told;
	if (told && turn->reason == FLUX_KF_GRANTED) {
		v->entered = false;
		kf_place_here(v, turn->core);
	}
	return told;
}

/* PARK. */
int kf_park(struct kf_vcpu *v, struct flux_kf_turn *turn)
{
	int result;
	u32 word;

	/* A grant that it has not been told of, as after a signal: it keeps that core. */
	if (kf_tell(v, turn, &word))
		return 0;
	if (kf_state(word) == FLUX_VCPU_UNMANAGED) {
		turn->reason = FLUX_KF_UNMANAGED;
		return 0;
	}
	/* Where the guest stands is its VMM's to know: it parked it there. */
	v->entered = false;
	v->told = false;
	v->mid_guest = false;
	if (kf_has_core(word))
		kf_leave(v, turn->how);
	do {
		result = kf_sleep(v);
		if (result)
			return result;
	} while (!kf_tell(v, turn, &word));
	return 0;
}

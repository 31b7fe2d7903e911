// SPDX-License-Identifier: GPL-2.0
/*
 * What the scheduler does with a registered thread, told by the scheduler itself.
 *
 * sched_out runs with the runqueue locked and interrupts off: it changes words under the
 * vcpu->lock, which is why nobody wakes a thread under that lock, and leaves what has to
 * be done to an irq_work, which runs on this CPU once the switch is over.
 */
#include "kf.h"

/* Why the thread goes. A lock of PREEMPT_RT is no sleep: whoever has it will be gone soon. */
static u8 why_off(void)
{
	if (!kf_current_sleeps() || READ_ONCE(current->__state) & TASK_RTLOCK_WAIT)
		return FLUX_HOST_PREEMPTED;
	return FLUX_HOST_BLOCKED;
}

/*
 * The thread is off the CPU, on its way through kf_sleep(), its context whole and its core
 * handed on: only now may it be granted another, so that a grant finds no thread that
 * still runs somewhere.
 */
static void became_parked(struct kf_vcpu *v)
	__must_hold(&v->lock)
{
	kf_set_word(v, FLUX_VCPU_PARKED, NULL);
	kf_event_vcpu(v, FLUX_KF_EV_PARKED);
}

/* It sleeps in the host while it holds a core. */
void kf_blocks(struct kf_vcpu *v)
	__must_hold(&v->lock)
{
	kf_count(v, blocks);
	kf_show(v, blocked_tsc, rdtsc());
	kf_event_vcpu(v, FLUX_KF_EV_BLOCKED);
}

static void sched_out(struct preempt_notifier *notifier, struct task_struct *next)
{
	struct kf_vcpu *v = container_of(notifier, struct kf_vcpu, notifier);
	struct kf_core *c;

	/*
	 * The last time ever. An irq_work is done on this CPU after the switch, when the
	 * list of notifiers that this one is on is not walked any more. It is queued before the
	 * core's, because the last one that is queued is the first one that is done.
	 */
	if (READ_ONCE(current->__state) == TASK_DEAD)
		irq_work_queue(&v->exit_irq);
	raw_spin_lock(&v->lock);
	c = v->core;
	v->off = why_off();
	/* Exiting, or by execve() no thread of the VM's process any more. */
	if (current->flags & PF_EXITING || current->mm != v->vm->mm)
		WRITE_ONCE(v->gone, true);
	if (v->asleep) {
		if (!c && kf_state(v->own.word) == FLUX_VCPU_CEDING)
			became_parked(v);
	} else {
		kf_show(v, host, v->off);
		if (v->off == FLUX_HOST_BLOCKED && c) {
			kf_blocks(v);
			/* Its core is wanted, and it does not hear: lent on. */
			if (kf_state(v->own.word) == FLUX_VCPU_CEDING)
				irq_work_queue(&c->nudge);
		}
	}
	if (v->gone && c)
		irq_work_queue(&c->nudge);
	raw_spin_unlock(&v->lock);
}

static void sched_in(struct preempt_notifier *notifier, int cpu)
{
	struct kf_vcpu *v = container_of(notifier, struct kf_vcpu, notifier);
	unsigned long flags;

	raw_spin_lock_irqsave(&v->lock, flags);
	v->off = FLUX_HOST_ON;
	if (v->own.host != FLUX_HOST_ON)
		kf_show(v, host, FLUX_HOST_ON);
	if (v->own.blocked_tsc) {
		kf_show(v, blocked_tsc, 0);
		kf_event_vcpu(v, FLUX_KF_EV_UNBLOCKED);
	}
	raw_spin_unlock_irqrestore(&v->lock, flags);
}

struct preempt_ops kf_preempt_ops = {
	.sched_in = sched_in,
	.sched_out = sched_out,
};

// SPDX-License-Identifier: GPL-2.0
/*
 * The kick: TIF_NOTIFY_SIGNAL makes KVM_RUN come back with EINTR, or not enter the guest at
 * all, and kick_process() interrupts the guest if the thread is in it. No signal is sent, no
 * handler runs, and both may be done under locks and in hard interrupts.
 *
 * The flag is nothing but a doorbell. It may be rung too often, and the kernel clears it on the
 * way to user space. The vCPU's word is the truth, and it is changed before the bell is rung:
 * kf_run() clears the flag, then looks at the word, then calls KVM_RUN, which looks at
 * the flag again before each entry.
 */
#include <linux/sched/signal.h>
#include <linux/task_work.h>

#include "kf.h"
#include "trace.h"

void kf_kick(struct kf_vcpu *v)
{
	/*
	 * An atomic read-modify-write: ordered after the change of the word on x86. Pairs with
	 * the barrier in clear_notify_signal(), see kf_swallow_kick().
	 */
	set_tsk_thread_flag(v->task, TIF_NOTIFY_SIGNAL);
	kick_process(v->task);
}

/* Shows that the owner of a core has just been kicked on account of the request in flight. */
void kf_kicked_owner(struct kf_core *c)
	__must_hold(&c->lock)
{
	struct kf_vcpu *v = c->owner;

	raw_spin_lock(&v->lock);
	kf_show(v, t_kicked, rdtsc());
	raw_spin_unlock(&v->lock);
	trace_kflux_kick(c->id, v->handle, v->own.park_req);
	kf_event_core(c, FLUX_KF_EV_KICK, v->handle, 0, 0);
}

/* Kicks the owner of a core on account of the request in flight. */
void kf_kick_owner(struct kf_core *c)
	__must_hold(&c->lock)
{
	kf_kick(c->owner);
	kf_kicked_owner(c);
}

/*
 * The thread has been interrupted by TIF_NOTIFY_SIGNAL. True: it was nothing but a kick, and
 * the flag is cleared. False: something waits for this thread on its way to user space.
 */
bool kf_swallow_kick(void)
{
	if (task_sigpending(current))
		return false;
	/*
	 * Cleared first, with a full barrier: task work is queued before the flag is set for
	 * it (task_work_add), so what the look below misses sets the flag again.
	 */
	clear_notify_signal();
	if (!task_work_pending(current))
		return true;
	set_thread_flag(TIF_NOTIFY_SIGNAL);
	return false;
}

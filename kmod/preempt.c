// SPDX-License-Identifier: GPL-2.0
/*
 * PREEMPT: the uThread that a core's owner runs is to give way, and the core stays where it is.
 *
 * kFlux knows nothing of uThreads. It keeps the number that the arbiter names one by
 * (guest_vcpu.switches at the decision), brings the vCPU out of its guest, and lets RUN come back
 * to the VMM, which looks whether that uThread is still there and redirects the guest. In
 * FluxOS's own code there is nothing to interrupt: FluxOS looks for the news itself when it leaves
 * that.
 *
 * A preemption that waits belongs to the tenure. It changes no state, no core's word and no
 * held context, so a request for the core may come at any time and always goes first; and it
 * is seen like one: stored before the kick, looked at after the kick's flag has been cleared and
 * before each entry (see kf_run()).
 */
#include "kf.h"
#include "trace.h"

int kf_preempt(struct kf_file *file, struct kf_core *c, const struct flux_kf_command *cmd)
{
	unsigned long flags;
	int result;

	raw_spin_lock_irqsave(&c->lock, flags);
	result = kf_core_usable(file, c);
	if (!result && (kf_is_stale(c, cmd) || kf_handle(c->owner) != cmd->from))
		result = -EAGAIN;
	if (!result && c->requested)
		result = -EALREADY;
	if (!result) {
		struct kf_vcpu *v = c->owner;

		raw_spin_lock(&v->lock);
		kf_show(v, preempt, cmd->to);
		/* Before the kick: what the kicked thread finds. Pairs with kf_preempt_look(). */
		WRITE_ONCE(v->preempting, true);
		trace_kflux_preempt(c->id, v->handle, cmd->to);
		raw_spin_unlock(&v->lock);
		if (!(cmd->flags & FLUX_FLAG_ASK_ONLY))
			kf_kick(v);
		kf_event_core(c, FLUX_KF_EV_PREEMPT, v->handle, 0, cmd->to);
	}
	raw_spin_unlock_irqrestore(&c->lock, flags);
	return result;
}

/* Whether a preemption is still wanted of a vCPU on its core; it is over with the answer. */
static bool answer(struct kf_vcpu *v, bool critical)
{
	unsigned long flags;
	bool wanted;

	raw_spin_lock_irqsave(&v->lock, flags);
	/* A request for the core that has come meanwhile goes first, and it ends with the tenure. */
	wanted = v->preempting && kf_state(v->own.word) == FLUX_VCPU_RUNNING;
	if (wanted) {
		v->preempting = false;
		if (!critical)
			kf_count(v, preempts);
		trace_kflux_preempted(v->handle, v->own.preempt, critical);
	}
	raw_spin_unlock_irqrestore(&v->lock, flags);
	return wanted;
}

/* What becomes of a preemption that waits, the vCPU being out of its guest and on its core. */
enum kf_preempt kf_preempt_look(struct kf_vcpu *v)
{
	bool critical;

	/* Pairs with the store in kf_preempt(): the kick's flag has been cleared before this. */
	if (likely(!READ_ONCE(v->preempting)))
		return KF_PREEMPT_NONE;
	/* A guest that has never run has no uThread either. */
	critical = !v->began || kf_is_critical(v);
	if (!critical && !v->mid_guest)
		return KF_PREEMPT_AFTER_THIS;
	if (!answer(v, critical))
		return KF_PREEMPT_NONE;
	return critical ? KF_PREEMPT_LEFT_TO_GUEST : KF_PREEMPT_NOW;
}

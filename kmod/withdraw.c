// SPDX-License-Identifier: GPL-2.0
/*
 * A vCPU leaves the protocol, from whatever state it is in: DEAD (its thread, its VM ended) or
 * UNMANAGED (the lease ended, the VMM took it back).
 */
#include "kf.h"

/* The part that is common to vCPUs with and without a core. Returns whether it changed. */
static bool withdraw_locked(struct kf_vcpu *v, u32 state)
	__must_hold(&v->lock)
{
	u32 was = kf_state(v->own.word);

	if (was == state || was == FLUX_VCPU_DEAD)
		return false;
	if (was == FLUX_VCPU_NEW && state != FLUX_VCPU_DEAD)
		return false;
	if (kf_has_core(v->own.word))
		kf_end_tenure(v, 0, rdtsc());
	kf_show(v, lost_tsc, 0);
	kf_set_word(v, state, NULL);
	v->news = true;
	v->place = KF_AT_HOME;
	kf_event_vcpu(v, state == FLUX_VCPU_DEAD ? FLUX_KF_EV_DEAD : FLUX_KF_EV_UNMANAGED);
	return true;
}

static bool withdraw_on_core(struct kf_core *c, struct kf_vcpu *v, u32 state)
{
	struct kf_vcpu *next = NULL;
	unsigned long flags;

	raw_spin_lock_irqsave(&c->lock, flags);
	if (v->core != c) {
		raw_spin_unlock_irqrestore(&c->lock, flags);
		return false;
	}
	raw_spin_lock(&v->lock);
	withdraw_locked(v, state);
	raw_spin_unlock(&v->lock);
	if (c->owner == v) {
		next = kf_pass_on(c, v, 0);
	} else if (c->successor == v) {
		/* The owner still leaves, as it was asked to, and the core falls idle. */
		c->successor = NULL;
		kf_core_changed(c, "successor gone");
	}
	raw_spin_unlock_irqrestore(&c->lock, flags);
	kf_deliver(next);
	return true;
}

static bool withdraw_without_core(struct kf_vcpu *v, u32 state)
{
	unsigned long flags;
	bool done;

	raw_spin_lock_irqsave(&v->lock, flags);
	done = !v->core;
	if (done)
		withdraw_locked(v, state);
	raw_spin_unlock_irqrestore(&v->lock, flags);
	return done;
}

static void forget_heir(struct kf_vcpu *v)
{
	struct kf_domain *domain = v->vm->domain;
	unsigned long flags;
	u32 i;

	for (i = 0; i < domain->cores; i++) {
		struct kf_core *c = &domain->core[i];

		/* With the lock in any case: kf_set_heir() may be about to write it. */
		raw_spin_lock_irqsave(&c->lock, flags);
		if (c->heir == v) {
			c->heir = NULL;
			kf_show(c, heir, FLUX_HANDLE_NONE);
		}
		raw_spin_unlock_irqrestore(&c->lock, flags);
	}
}

/*
 * Takes a vCPU out of the protocol: @state is DEAD or UNMANAGED. Its core goes on, its
 * affinity comes back, its thread is woken or kicked. May be called by anybody, several times.
 */
void kf_withdraw(struct kf_vcpu *v, u32 state)
{
	struct kf_core *c;
	bool done;

	do {
		/* It may be claimed for a core between this look and the lock: then again. */
		c = READ_ONCE(v->core);
		if (c)
			done = withdraw_on_core(c, v, state);
		else
			done = withdraw_without_core(v, state);
	} while (!done);
	if (state == FLUX_VCPU_DEAD)
		forget_heir(v);
	if (!v->task)
		return;
	/* Pairs with set_current_state() in kf_sleep(), as in kf_deliver(). */
	if (kf_place(v))
		wake_up_process(v->task);
	else
		kf_kick(v);
}

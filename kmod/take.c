// SPDX-License-Identifier: GPL-2.0
/*
 * A core goes on without its owner's doing: lent, taken, offline, unclaimed.
 *
 * A core is LENT on when its owner sleeps in the host, TAKEN when it was forced and did not
 * come. In both cases the owner is BLOCKED with no core, its thread is sent off the claimed
 * cores, and TIF_NOTIFY_SIGNAL keeps it out of the guest: KVM looks at the flag before
 * each entry, and the thread cannot clear it and enter without passing kf_run(), which
 * sees that there is no core. There it becomes PARKED.
 */
#include "kf.h"

/* Whether the owner's thread sleeps in the host, and not on its way through kf_sleep(). */
bool kf_owner_blocked(struct kf_core *c)
	__must_hold(&c->lock)
{
	struct kf_vcpu *v = c->owner;
	bool blocked;

	raw_spin_lock(&v->lock);
	blocked = v->off == FLUX_HOST_BLOCKED && !v->asleep;
	raw_spin_unlock(&v->lock);
	return blocked;
}

/* Takes the core from its owner, *@left, who is to be placed. Returns whom to deliver it to. */
static struct kf_vcpu *take(struct kf_core *c, u32 how, struct kf_vcpu **left)
	__must_hold(&c->lock)
{
	struct kf_vcpu *v = c->owner, *next;

	raw_spin_lock(&v->lock);
	v->leaving = true;
	kf_end_tenure(v, how, rdtsc());
	/* Granted and not even awake yet: its context is whole, it is PARKED again. */
	kf_set_word(v, v->asleep ? FLUX_VCPU_PARKED : FLUX_VCPU_BLOCKED, NULL);
	if (v->asleep)
		kf_event_vcpu(v, FLUX_KF_EV_PARKED);
	v->news = false;
	v->place = KF_HOUSEKEEPING;
	raw_spin_unlock(&v->lock);
	kf_kick(v);
	if (how == FLUX_HOW_LENT)
		kf_count(c, lent);
	else
		kf_count(c, taken);
	kf_vm_get(v->vm);
	*left = v;
	next = kf_pass_on(c, v, how);
	/* From here on it may own another core. */
	raw_spin_lock(&v->lock);
	v->leaving = false;
	raw_spin_unlock(&v->lock);
	return next;
}

/* Sends a thread that has lost its core away from it. Drops take()'s reference. */
static void send_away(struct kf_vcpu *left)
{
	if (!left)
		return;
	kf_place(left);
	kf_vm_put(left->vm);
}

/* A vCPU whose thread exits, on this core or about to get it. Referenced. */
static struct kf_vcpu *gone_from(struct kf_core *c)
	__must_hold(&c->lock)
{
	struct kf_vcpu *v = NULL;

	if (c->owner && READ_ONCE(c->owner->gone))
		v = c->owner;
	else if (c->successor && READ_ONCE(c->successor->gone))
		v = c->successor;
	if (v)
		kf_vm_get(v->vm);
	return v;
}

/*
 * Does for a core whatever is due and could not be done where it was noticed (the
 * notifier, the timer). Everything is decided anew here, so to be called too often or too
 * late does no harm.
 */
void kf_core_look(struct kf_core *c)
{
	struct kf_vcpu *gone, *next = NULL, *left = NULL;
	unsigned long flags;

	do {
		raw_spin_lock_irqsave(&c->lock, flags);
		gone = gone_from(c);
		if (!gone && c->owner && c->requested) {
			if (kf_owner_blocked(c))
				next = take(c, FLUX_HOW_LENT, &left);
			else if (c->overdue)
				next = take(c, FLUX_HOW_TAKEN, &left);
		}
		raw_spin_unlock_irqrestore(&c->lock, flags);
		if (gone) {
			kf_withdraw(gone, FLUX_VCPU_DEAD);
			kf_vm_put(gone->vm);
		}
	} while (gone);
	kf_deliver(next);
	send_away(left);
}

void kf_core_look_work(struct work_struct *work)
{
	kf_core_look(container_of(work, struct kf_core, look));
}

/* In a hard interrupt, where the notifier's runqueue lock is not held any more. */
void kf_core_nudge(struct irq_work *work)
{
	queue_work(kf_wq, &container_of(work, struct kf_core, nudge)->look);
}

/* The CPU goes offline: nobody is granted it any more, and its owner loses it. */
void kf_core_offline(struct kf_core *c)
{
	struct kf_vcpu *left = NULL;
	unsigned long flags;

	raw_spin_lock_irqsave(&c->lock, flags);
	c->online = false;
	kf_show(c, flags, c->own.flags | FLUX_CORE_OFFLINE);
	if (c->successor)
		kf_unclaim(c->successor);
	if (c->owner) {
		/* The core falls idle: no successor, and the heir is not asked. */
		c->requested = true;
		c->successor = NULL;
		take(c, FLUX_HOW_TAKEN, &left);
	}
	kf_event_core(c, FLUX_KF_EV_OFFLINE, 0, 0, 1);
	raw_spin_unlock_irqrestore(&c->lock, flags);
	send_away(left);
}

void kf_core_online(struct kf_core *c)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&c->lock, flags);
	c->online = true;
	kf_show(c, flags, c->own.flags & ~FLUX_CORE_OFFLINE);
	kf_event_core(c, FLUX_KF_EV_OFFLINE, 0, 0, 0);
	raw_spin_unlock_irqrestore(&c->lock, flags);
}

/* A lease begins. The core is nobody's: the end of the lease before saw to that. */
void kf_core_claim(struct kf_core *c, u32 epoch)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&c->lock, flags);
	c->claimed = true;
	c->epoch = epoch;
	/* Offline already, between being reserved and now? Then that was noted, see claims.c. */
	kf_show(c, flags, FLUX_CORE_CLAIMED | (c->online ? 0 : FLUX_CORE_OFFLINE));
	kf_core_changed(c, "claim");
	raw_spin_unlock_irqrestore(&c->lock, flags);
}

/*
 * The lease ends: the core is nobody's. Its vCPUs still say that they are on it until
 * they are withdrawn, which follows; kf_leave() knows.
 */
void kf_core_unclaim(struct kf_core *c)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&c->lock, flags);
	if (!c->claimed) {
		raw_spin_unlock_irqrestore(&c->lock, flags);
		return;
	}
	c->claimed = false;
	c->owner = NULL;
	c->successor = NULL;
	c->heir = NULL;
	c->requested = false;
	kf_show(c, heir, FLUX_HANDLE_NONE);
	kf_show(c, flags, 0);
	kf_core_changed(c, "unclaim");
	raw_spin_unlock_irqrestore(&c->lock, flags);
}

// SPDX-License-Identifier: GPL-2.0
/*
 * Where a core changes hands.
 *
 * Everything that happens to a core happens under its lock, so each of these is one step
 * for everybody else:
 *
 *   claim      PARKED -> GRANTING(core): this vCPU is promised to this core only
 *   pass on    the owner is replaced by the successor, else the heir, else nobody
 *   give       the new owner is RUNNING(core); it has been decided, it only needs waking
 *   deliver    without locks: its affinity, its wake-up. Repeatable and late by nature: by
 *              then the vCPU may have lost the core again, or have died
 *
 * WHY NO WAKE-UP IS LOST. A thread that goes to sleep sets `asleep` under its vcpu->lock, sets
 * its task state (a full barrier), then looks at its word (kf_sleep). Whoever gives it a core
 * changes the word under the same lock, and looks at `asleep` under it afterwards
 * (kf_place): either `asleep` was set by then, and the thread is woken; or it is set later,
 * under the lock, and the look at the word that follows sees the change.
 *
 * WHY NO CORE IS LOST. A core's owner is replaced by kf_pass_on() alone, and every way out
 * of ownership goes there: PARK and RUN (kf_leave), a core lent or taken (take.c), the end
 * of a vCPU (kf_withdraw). kf_pass_on() may find that the successor has died: then it has been
 * taken off the core under the same lock, and the core falls idle, visibly.
 */
#include "kf.h"
#include "trace.h"

void kf_core_init(struct kf_core *c, struct kf_domain *domain, u32 id, struct flux_core *line)
{
	raw_spin_lock_init(&c->lock);
	c->id = id;
	c->domain = domain;
	c->line = line;
	c->generation = kf_first_generation;
	kf_hrtimer_setup(&c->timer, kf_deadline, CLOCK_MONOTONIC, HRTIMER_MODE_ABS_HARD);
	c->armed = KTIME_MAX;
	c->nudge = IRQ_WORK_INIT_HARD(kf_core_nudge);
	INIT_WORK(&c->look, kf_core_look_work);
	c->own.word = (u64)c->generation << 32;
	line->word = c->own.word;
}

/* Changes a vCPU's state and its core together, and publishes both. */
void kf_set_word(struct kf_vcpu *v, u32 state, struct kf_core *c)
	__must_hold(&v->lock)
{
	u32 was = v->own.word;
	u32 word = state | (c ? c->id : FLUX_CORE_NONE) << 8;

	/* Read without the lock to find out which core's lock to take. */
	WRITE_ONCE(v->core, c);
	/* Read without the lock by the vCPU's own thread, see kf_sleep(). */
	WRITE_ONCE(v->own.word, word);
	/* Pairs with the acquire of whoever reads the page: what was shown before is seen. */
	smp_store_release(&v->line->word, word);
	trace_kflux_state(v->handle, kf_state(was), state, kf_core_in(word));
}

/* Publishes a core's new owner or successor. */
void kf_core_changed(struct kf_core *c, const char *why)
	__must_hold(&c->lock)
{
	u32 owner = kf_handle(c->owner);
	u32 successor = FLUX_HANDLE_NONE;

	if (c->requested)
		successor = c->successor ? c->successor->handle : FLUX_HANDLE_IDLE;
	c->generation++;
	c->own.word = owner | successor << 16 | (u64)c->generation << 32;
	/* Pairs with the acquire of whoever reads the page. */
	smp_store_release(&c->line->word, c->own.word);
	trace_kflux_core(c->id, owner, successor, c->generation, why);
}

/* Whether a claim has a prospect, so that a refusal need not show GRANTING for a moment. */
int kf_may_claim(struct kf_vcpu *v)
{
	switch (kf_state(READ_ONCE(v->own.word))) {
	case FLUX_VCPU_PARKED:
		/* It is another core's owner until kf_pass_on() is through, see take(). */
		if (READ_ONCE(v->leaving))
			return -EBUSY;
		return READ_ONCE(v->gone) ? -ESRCH : 0;
	case FLUX_VCPU_DEAD:
		return -ESRCH;
	default:
		return -EBUSY;
	}
}

int kf_claim(struct kf_vcpu *v, struct kf_core *c)
	__must_hold(&c->lock)
{
	int result;

	raw_spin_lock(&v->lock);
	result = kf_may_claim(v);
	if (!result)
		kf_set_word(v, FLUX_VCPU_GRANTING, c);
	raw_spin_unlock(&v->lock);
	return result;
}

/* The core will not come: it went offline. */
void kf_unclaim(struct kf_vcpu *v)
{
	raw_spin_lock(&v->lock);
	kf_set_word(v, FLUX_VCPU_PARKED, NULL);
	kf_event_vcpu(v, FLUX_KF_EV_PARKED);
	raw_spin_unlock(&v->lock);
}

/* Makes @next, which has been claimed, the core's owner. Takes a reference for kf_deliver(). */
void kf_core_give(struct kf_core *c, struct kf_vcpu *next)
	__must_hold(&c->lock)
{
	u64 now = rdtsc_ordered();

	c->owner = next;
	kf_show(c, since_tsc, now);
	kf_count(c, switches);
	/* Before the vCPU's own word: who sees that it runs here sees whose the core is. */
	kf_core_changed(c, "give");

	raw_spin_lock(&next->lock);
	kf_show(next, t_granted, now);
	kf_count(next, grants);
	if (next->own.lost_tsc) {
		kf_show(next, taken_tsc, next->own.taken_tsc + (now - next->own.lost_tsc));
		kf_show(next, lost_tsc, 0);
	}
	next->place = c->id;
	next->news = true;
	kf_set_word(next, FLUX_VCPU_RUNNING, c);
	kf_event_core(c, FLUX_KF_EV_GRANT, 0, next->handle, 0);
	/* Stopped in a signal's handling, say: it will not come for a while. */
	if (next->off == FLUX_HOST_BLOCKED && !next->asleep)
		kf_blocks(next);
	raw_spin_unlock(&next->lock);
	kf_vm_get(next->vm);
}

/* Books what a vCPU had of its core. The reason is 0 if it leaves the protocol altogether. */
void kf_end_tenure(struct kf_vcpu *v, u32 how, u64 now)
	__must_hold(&v->lock)
{
	/* Whom it meant has left the core with it. */
	WRITE_ONCE(v->preempting, false);
	kf_show(v, granted_tsc, v->own.granted_tsc + (now - v->own.t_granted));
	if (!how)
		return;
	kf_show(v, how, how);
	if (how == FLUX_HOW_YIELD) {
		kf_count(v, yields);
		return;
	}
	kf_count(v, parks);
	kf_show(v, lost_tsc, now);
}

/*
 * Replaces the core's owner, whose state is another already, by whoever is next. Returns
 * the new owner, to be delivered once the lock is dropped.
 */
struct kf_vcpu *kf_pass_on(struct kf_core *c, struct kf_vcpu *from, u32 how)
	__must_hold(&c->lock)
{
	struct kf_vcpu *next = NULL;

	if (c->requested)
		next = c->successor;
	else if (c->heir && !kf_claim(c->heir, c))
		next = c->heir;
	c->owner = NULL;
	c->successor = NULL;
	c->requested = false;
	kf_event_core(c, FLUX_KF_EV_LEAVE, from->handle, kf_handle(next), how);
	if (next)
		kf_core_give(c, next);
	else
		kf_core_changed(c, "idle");
	return next;
}

/* What could not be done under the locks. Drops the reference of kf_core_give(). */
void kf_deliver(struct kf_vcpu *next)
{
	if (!next)
		return;
	/* Pairs with set_current_state() in kf_sleep(), see the top of this file. */
	if (kf_place(next))
		wake_up_process(next->task);
	kf_vm_put(next->vm);
}

static bool leave_core(struct kf_core *c, struct kf_vcpu *v, u32 how, u64 now)
{
	struct kf_vcpu *next = NULL;
	unsigned long flags;

	raw_spin_lock_irqsave(&c->lock, flags);
	if (v->core != c) {
		raw_spin_unlock_irqrestore(&c->lock, flags);
		return false;
	}
	raw_spin_lock(&v->lock);
	kf_show(v, t_parked, now);
	kf_end_tenure(v, how, now);
	kf_set_word(v, FLUX_VCPU_CEDING, NULL);
	raw_spin_unlock(&v->lock);
	/* Not the owner any more: the lease is just ending. */
	if (c->owner == v) {
		if (how == FLUX_HOW_YIELD)
			kf_count(c, yields);
		next = kf_pass_on(c, v, how);
	}
	raw_spin_unlock_irqrestore(&c->lock, flags);
	kf_deliver(next);
	return true;
}

/*
 * The vCPU's own thread hands its core on; its context is whole. It is CEDING without a core
 * until it sleeps. Does nothing if the core has gone on without it already.
 */
void kf_leave(struct kf_vcpu *v, u32 how)
{
	u64 now = rdtsc_ordered();
	struct kf_core *c;

	do {
		c = READ_ONCE(v->core);
		/* Only this thread's own vCPU can get a core now if it is PARKED: it is not. */
		if (!c)
			return;
	} while (!leave_core(c, v, how, now));
	kf_show(v, t_handed, rdtsc_ordered());
}

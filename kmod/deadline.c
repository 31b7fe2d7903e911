// SPDX-License-Identifier: GPL-2.0
/*
 * The deadline of a park, one timer for each core: kick, and again from time to time, force at
 * the deadline, take the core a quarter of it later.
 *
 * To program a timer costs more than all else in a request, so most do not: a leave does not
 * cancel it, and a request leaves it alone if it is set for earlier than needed. The handler
 * decides by what is true when it runs: whether there is a request in flight, and what is due by
 * the times of *that* request. If nothing is yet, it sets the timer again.
 *
 * hrtimer_start() under core->lock is fine: the timer's lock is never held while a handler
 * runs, and no core->lock is taken under a runqueue lock.
 */
#include "kf.h"
#include "trace.h"

#define KF_DEADLINE_US 10000
/* From a kick to the next: three before the deadline at least, but no flood of them. */
#define KF_AGAIN_MIN_US 50u
#define KF_AGAIN_MAX_US 1000u

static void arm(struct kf_core *c, ktime_t at)
	__must_hold(&c->lock)
{
	if (ktime_compare(at, c->armed) >= 0)
		return;
	c->armed = at;
	hrtimer_start(&c->timer, at, HRTIMER_MODE_ABS_HARD);
}

static void arm_next(struct kf_core *c)
	__must_hold(&c->lock)
{
	if (c->forced)
		arm(c, c->take_at);
	else
		arm(c, min(c->kick_at, c->force_at));
}

/*
 * A kick that met FluxOS's own code needs no other: FluxOS looks for requests when it leaves that.
 * The next ones are for a guest that does not look.
 */
static ktime_t after_kick(struct kf_core *c, ktime_t now)
{
	return ktime_add_us(now, clamp(c->deadline_us / 4, KF_AGAIN_MIN_US, KF_AGAIN_MAX_US));
}

/* A request begins; @kicked says whether its owner has been kicked already. */
void kf_deadline_begin(struct kf_core *c, const struct flux_kf_command *cmd, bool kicked)
	__must_hold(&c->lock)
{
	ktime_t now = ktime_get();
	bool never = cmd->flags & FLUX_FLAG_ASK_ONLY || cmd->kick_after_us == FLUX_KF_NEVER;

	c->forced = false;
	c->overdue = false;
	c->deadline_us = cmd->deadline_us ?: KF_DEADLINE_US;
	c->force_at = ktime_add_us(now, c->deadline_us);
	c->take_at = KTIME_MAX;
	if (never)
		c->kick_at = KTIME_MAX;
	else if (kicked)
		c->kick_at = after_kick(c, now);
	else
		c->kick_at = ktime_add_us(now, cmd->kick_after_us);
	arm_next(c);
}

/*
 * Asks the owner a last time, with the guest's critical word ignored. That it is late need not
 * be the guest's doing: the reason is recorded.
 */
void kf_deadline_force(struct kf_core *c, ktime_t now)
	__must_hold(&c->lock)
{
	struct kf_vcpu *v = c->owner;
	u32 host;

	c->forced = true;
	c->take_at = ktime_add_us(now, max(c->deadline_us / 4, 1u));
	raw_spin_lock(&v->lock);
	/* Names the request, so it dies with it. */
	kf_show(v, force, v->own.park_req);
	/* Granted, and not even awake yet: the host has not let it run. */
	host = v->asleep ? FLUX_HOST_PREEMPTED : v->off;
	raw_spin_unlock(&v->lock);
	if (host == FLUX_HOST_ON)
		kf_count(c, forced);
	trace_kflux_force(c->id, v->handle, v->own.park_req, host);
	kf_event_core(c, FLUX_KF_EV_FORCE, v->handle, kf_handle(c->successor), host);
	kf_kick_owner(c);
	if (host == FLUX_HOST_BLOCKED)
		queue_work(kf_wq, &c->look);
	arm_next(c);
}

enum hrtimer_restart kf_deadline(struct hrtimer *timer)
{
	struct kf_core *c = container_of(timer, struct kf_core, timer);
	ktime_t now = ktime_get();
	unsigned long flags;

	raw_spin_lock_irqsave(&c->lock, flags);
	/* Even if it has been started anew meanwhile: then it may be so once more. */
	c->armed = KTIME_MAX;
	if (c->owner && c->requested) {
		if (c->forced && ktime_compare(now, c->take_at) >= 0) {
			/* By the work: it moves threads about. */
			c->overdue = true;
			queue_work(kf_wq, &c->look);
		} else if (!c->forced && ktime_compare(now, c->force_at) >= 0) {
			kf_deadline_force(c, now);
		} else if (!c->forced && ktime_compare(now, c->kick_at) >= 0) {
			kf_kick_owner(c);
			c->kick_at = after_kick(c, now);
			arm_next(c);
		} else {
			arm_next(c);
		}
	}
	raw_spin_unlock_irqrestore(&c->lock, flags);
	return HRTIMER_NORESTART;
}

// SPDX-License-Identifier: GPL-2.0
/* What the holder of the lease commands about one core: grant, park, move, heir, force. */
#include "kf.h"

/* Whether this file may command this core at all. */
int kf_core_usable(struct kf_file *file, struct kf_core *c)
	__must_hold(&c->lock)
{
	/* The lease's end takes the holder away first and then clears the cores, one by one. */
	if (READ_ONCE(c->domain->holder) != file)
		return -ESTALE;
	if (!c->claimed)
		return -EINVAL;
	if (c->epoch != READ_ONCE(file->epoch))
		return -ESTALE;
	return c->online ? 0 : -ENODEV;
}

/* Whether the command names the core as it was once. */
bool kf_is_stale(struct kf_core *c, const struct flux_kf_command *cmd)
	__must_hold(&c->lock)
{
	if (cmd->op != FLUX_OP_FORCE && !(cmd->flags & FLUX_KF_FLAG_GENERATION))
		return false;
	return cmd->generation != c->generation;
}

/* When it was decided that this vCPU get or lose a core. */
static void stamp(struct kf_vcpu *v, const struct flux_kf_command *cmd)
{
	raw_spin_lock(&v->lock);
	kf_show(v, t_decided, cmd->decided_tsc);
	raw_spin_unlock(&v->lock);
}

static int give_idle(struct kf_core *c, struct kf_vcpu *to, const struct flux_kf_command *cmd)
	__must_hold(&c->lock)
{
	int result = kf_claim(to, c);

	if (!result) {
		stamp(to, cmd);
		kf_core_give(c, to);
	}
	return result;
}

/* An idle core to a parked vCPU. */
int kf_grant(struct kf_file *file, struct kf_core *c, struct kf_vcpu *to,
	     const struct flux_kf_command *cmd)
{
	unsigned long flags;
	int result;

	raw_spin_lock_irqsave(&c->lock, flags);
	result = kf_core_usable(file, c) ?: kf_may_claim(to);
	if (!result && (kf_is_stale(c, cmd) || c->owner))
		result = -EAGAIN;
	if (!result)
		result = give_idle(c, to, cmd);
	raw_spin_unlock_irqrestore(&c->lock, flags);
	if (!result)
		kf_deliver(to);
	return result;
}

/* The owner is asked: from here on it is CEDING, and leaves for @to or for nobody. */
static void ask(struct kf_core *c, struct kf_vcpu *to, const struct flux_kf_command *cmd)
	__must_hold(&c->lock)
{
	bool kick = cmd->flags & FLUX_FLAG_KICK_NOW ||
		    (!(cmd->flags & FLUX_FLAG_ASK_ONLY) && !cmd->kick_after_us);
	struct kf_vcpu *from = c->owner;
	u32 park_req;

	c->requested = true;
	c->successor = to;
	kf_core_changed(c, "request");
	raw_spin_lock(&from->lock);
	/* 0 says in an answer that nobody had to be asked. */
	park_req = from->own.park_req + 1 ?: 1;
	kf_show(from, park_req, park_req);
	kf_show(from, t_decided, cmd->decided_tsc);
	kf_show(from, t_kicked, 0);
	/* Before the kick: what the kicked thread finds, see kf_run(). */
	kf_set_word(from, FLUX_VCPU_CEDING, c);
	raw_spin_unlock(&from->lock);
	/* The interrupt first: it is under way while the rest is done. */
	if (kick)
		kf_kick(from);
	kf_event_core(c, FLUX_KF_EV_REQUEST, from->handle, to ? to->handle : FLUX_HANDLE_IDLE,
		      park_req);
	if (kick)
		kf_kicked_owner(c);
	if (to)
		stamp(to, cmd);
	kf_deadline_begin(c, cmd, kick);
}

/*
 * The owner leaves in favour of @to, or of nobody. If it has left by itself already, what
 * was wanted has half happened: the other half is done at once.
 */
int kf_request(struct kf_file *file, struct kf_core *c, struct kf_vcpu *to,
	       const struct flux_kf_command *cmd, u32 *park_req)
{
	bool granted = false, blocked = false;
	unsigned long flags;
	int result;

	*park_req = 0;
	raw_spin_lock_irqsave(&c->lock, flags);
	result = kf_core_usable(file, c);
	if (!result && to)
		result = kf_may_claim(to);
	if (!result && kf_is_stale(c, cmd))
		result = -EAGAIN;
	if (!result && !c->owner) {
		if (!kf_vcpu_exists(c->domain, cmd->from))
			result = -ESRCH;
		else if (to)
			result = give_idle(c, to, cmd);
		granted = to && !result;
	} else if (!result && c->owner->handle != cmd->from) {
		result = -EAGAIN;
	} else if (!result && c->requested) {
		result = -EALREADY;
	} else if (!result) {
		if (to)
			result = kf_claim(to, c);
		if (!result) {
			ask(c, to, cmd);
			blocked = kf_owner_blocked(c);
			if (!blocked)
				*park_req = c->owner->own.park_req;
		}
	}
	raw_spin_unlock_irqrestore(&c->lock, flags);
	if (granted)
		kf_deliver(to);
	/* Nobody is there to be asked: the core is lent on here and now. */
	if (blocked)
		kf_core_look(c);
	return result;
}

/* Who gets the core if its owner leaves by itself; nobody if @heir is NULL. */
int kf_set_heir(struct kf_file *file, struct kf_core *c, struct kf_vcpu *heir,
		const struct flux_kf_command *cmd)
{
	unsigned long flags;
	int result;

	raw_spin_lock_irqsave(&c->lock, flags);
	result = kf_core_usable(file, c);
	if (!result && kf_is_stale(c, cmd))
		result = -EAGAIN;
	/*
	 * A vCPU that dies is DEAD first and is taken off the cores that it is heir of then, each
	 * under its lock (kf_withdraw): either this look sees DEAD, or that one sees the heir.
	 */
	if (!result && heir && kf_state(READ_ONCE(heir->own.word)) == FLUX_VCPU_DEAD)
		result = -ESRCH;
	if (!result) {
		c->heir = heir;
		kf_show(c, heir, kf_handle(heir));
	}
	raw_spin_unlock_irqrestore(&c->lock, flags);
	return result;
}

/* The deadline of the park in flight is now. */
int kf_force_now(struct kf_file *file, struct kf_core *c, const struct flux_kf_command *cmd)
{
	unsigned long flags;
	int result;

	raw_spin_lock_irqsave(&c->lock, flags);
	result = kf_core_usable(file, c);
	if (!result && (kf_is_stale(c, cmd) || kf_handle(c->owner) != cmd->from || !c->requested))
		result = -EAGAIN;
	/* Once is enough: another one would only put off its being taken. */
	if (!result && !c->forced)
		kf_deadline_force(c, ktime_get());
	raw_spin_unlock_irqrestore(&c->lock, flags);
	return result;
}

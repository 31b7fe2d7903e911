// SPDX-License-Identifier: GPL-2.0
/*
 * The event ring and the counters of the status page. Written from everywhere, the notifier
 * included, under a raw lock of their own: so events stand in the order in which they happened,
 * and the counters never go back.
 */
#include "kf.h"

static void count(struct kf_domain *domain, u16 kind)
	__must_hold(&domain->event_lock)
{
	if (kind == FLUX_KF_EV_GRANT)
		kf_count(domain, switches);
	else if (kind == FLUX_KF_EV_KICK)
		kf_count(domain, kicks);
	else if (kind == FLUX_KF_EV_REFUSED)
		kf_count(domain, refused);
}

void kf_event(struct kf_domain *domain, const struct kf_event *event)
{
	struct flux_kf_event *at;
	unsigned long flags;
	u64 n;

	raw_spin_lock_irqsave(&domain->event_lock, flags);
	n = domain->own.events;
	at = page_address(domain->event_page[n % FLUX_KF_EVENTS / (PAGE_SIZE / sizeof(*at))]);
	at += n % (PAGE_SIZE / sizeof(*at));
	/* A reader that sees any of the new words and looks again sees that this is not event n. */
	WRITE_ONCE(at->sequence, 0);
	smp_wmb(); /* Pairs with the reader's barrier before its second look at the number. */
	WRITE_ONCE(at->kind, event->kind);
	WRITE_ONCE(at->core, event->core);
	WRITE_ONCE(at->from, event->from);
	WRITE_ONCE(at->to, event->to);
	WRITE_ONCE(at->generation, event->generation);
	WRITE_ONCE(at->tsc, rdtsc());
	WRITE_ONCE(at->arg, event->arg);
	/* Pairs with the reader's acquire: with the number the whole event is seen. */
	smp_store_release(&at->sequence, (u32)(n + 1));
	count(domain, event->kind);
	domain->own.events = n + 1;
	/* Pairs with the acquire of who waits for the count to go up: event n is there. */
	smp_store_release(&domain->line->events, n + 1);
	raw_spin_unlock_irqrestore(&domain->event_lock, flags);
}

/* About a vCPU, and the core that it is on. */
void kf_event_vcpu(struct kf_vcpu *v, u16 kind)
	__must_hold(&v->lock)
{
	struct kf_event event = {
		.kind = kind,
		.core = kf_core_in(v->own.word),
		.from = v->handle,
	};

	kf_event(v->vm->domain, &event);
}

/* About a core. */
void kf_event_core(struct kf_core *c, u16 kind, u32 from, u32 to, u32 arg)
	__must_hold(&c->lock)
{
	struct kf_event event = {
		.kind = kind,
		.core = c->id,
		.from = from,
		.to = to,
		.generation = c->generation,
		.arg = arg,
	};

	kf_event(c->domain, &event);
}

void kf_commands_done(struct kf_domain *domain, u32 commands)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&domain->event_lock, flags);
	kf_show(domain, commands, domain->own.commands + commands);
	raw_spin_unlock_irqrestore(&domain->event_lock, flags);
}

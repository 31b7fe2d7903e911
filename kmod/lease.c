// SPDX-License-Identifier: GPL-2.0
/*
 * The lease: the right to command a domain's cores. It ends by RELEASE, with the file that holds
 * it, by a takeover, or when the heartbeat in the status page stands still. Then every vCPU is
 * UNMANAGED, its thread has its affinity back and is woken, and every core is nobody's.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/jiffies.h>

#include "kf.h"
#include "trace.h"

/* The heartbeat is looked at so many times a lease: a lease ends at most a quarter too late. */
#define KF_LOOKS 4

static const u32 no_cores[8];

static void lease_event(struct kf_domain *domain, bool begins)
{
	struct kf_event event = {
		.kind = FLUX_KF_EV_LEASE,
		.core = begins,
		.arg = domain->own.epoch,
	};

	kf_event(domain, &event);
	trace_kflux_lease(domain->id, domain->own.epoch, begins);
}

static void watch_later(struct kf_domain *domain)
{
	unsigned long period = DIV_ROUND_UP(msecs_to_jiffies(domain->lease_ms), KF_LOOKS);

	queue_delayed_work(kf_lease_wq, &domain->watch, max(period, 1UL));
}

static void unmanage_all(struct kf_domain *domain)
{
	u32 slot, i;

	for (slot = 0; slot < FLUX_MAX_VMS; slot++) {
		struct kf_vm *vm = rcu_dereference_protected(domain->vm[slot],
							     lockdep_is_held(&domain->mutex));

		for (i = 0; vm && i < vm->count; i++)
			kf_withdraw(&vm->vcpu[i], FLUX_VCPU_UNMANAGED);
	}
}

/*
 * Ends the lease. First nobody may command, then no core has an owner, then no vCPU has a
 * core; the claims are the caller's to give back, when no thread is on those cores any more.
 */
static void lease_end(struct kf_domain *domain)
{
	u32 i;

	lockdep_assert_held(&domain->mutex);
	/* Pairs with the look in kf_core_usable(), which is made under each core's lock. */
	WRITE_ONCE(domain->holder, NULL);
	cancel_delayed_work(&domain->watch);
	for (i = 0; i < domain->cores; i++)
		kf_core_unclaim(&domain->core[i]);
	unmanage_all(domain);
	kf_show(domain, leased, 0);
	lease_event(domain, false);
	kf_pages_holder_changed(domain);
}

static int take_cores(struct kf_file *file, struct flux_kf_claim *claim)
{
	struct kf_domain *domain = file->domain;
	int result;
	u32 i;

	if (domain->holder && !(claim->flags & FLUX_KF_CLAIM_TAKEOVER))
		return -EBUSY;
	if (!file->retired)
		file->retired = kf_page_alloc();
	if (!file->retired)
		return -ENOMEM;
	/* Before the old lease ends: whoever cannot have the cores does not end it. */
	result = kf_claims_reserve(domain, claim->managed);
	if (result)
		return result;
	if (domain->holder)
		lease_end(domain);
	kf_claims_keep(domain, claim->managed);

	/* 0 is "never claimed", so the wrap skips it. */
	kf_show(domain, epoch, domain->own.epoch + 1 ?: 1);
	WRITE_ONCE(file->epoch, domain->own.epoch);
	for (i = 0; i < domain->cores; i++)
		if (claim->managed[i / 32] & BIT(i % 32))
			kf_core_claim(&domain->core[i], domain->own.epoch);
	return 0;
}

/* CLAIM. */
int kf_lease_claim(struct kf_file *file, struct flux_kf_claim *claim)
{
	struct kf_domain *domain = file->domain;
	int result;

	if (claim->lease_ms < 10 || claim->lease_ms > 60000)
		return -EINVAL;
	if (claim->flags & ~FLUX_KF_CLAIM_TAKEOVER || claim->reserved[0] || claim->reserved[1] ||
	    claim->reserved[2])
		return -EINVAL;
	mutex_lock(&domain->mutex);
	result = take_cores(file, claim);
	if (!result) {
		claim->epoch = domain->own.epoch;
		domain->lease_ms = claim->lease_ms;
		domain->heartbeat = READ_ONCE(domain->line->heartbeat);
		domain->still = 0;
		kf_show(domain, lease_ms, claim->lease_ms);
		kf_show(domain, leased, 1);
		WRITE_ONCE(domain->holder, file);
		/* It may have written a copy of its own after an earlier lease. */
		kf_pages_holder_changed(domain);
		lease_event(domain, true);
		watch_later(domain);
	}
	mutex_unlock(&domain->mutex);
	return result;
}

/* RELEASE, and the end of the file. */
int kf_lease_release(struct kf_file *file)
{
	struct kf_domain *domain = file->domain;
	int result = -ESTALE;

	mutex_lock(&domain->mutex);
	if (domain->holder == file) {
		lease_end(domain);
		kf_claims_keep(domain, no_cores);
		result = 0;
	}
	mutex_unlock(&domain->mutex);
	return result;
}

static void recall_all(struct kf_domain *domain)
{
	u32 slot, i;

	for (slot = 0; slot < FLUX_MAX_VMS; slot++) {
		struct kf_vm *vm = rcu_dereference_protected(domain->vm[slot],
							     lockdep_is_held(&domain->mutex));

		for (i = 0; vm && i < vm->count; i++)
			kf_recall_look(&vm->vcpu[i]);
	}
}

/*
 * Looks are counted, and not the time: a machine that stood still as a whole lets one look
 * pass, and then the arbiter has the other three to show that it is alive.
 */
void kf_lease_watch(struct work_struct *work)
{
	struct kf_domain *domain = container_of(to_delayed_work(work), struct kf_domain, watch);
	u32 heartbeat = READ_ONCE(domain->line->heartbeat);

	mutex_lock(&domain->mutex);
	if (domain->holder) {
		if (heartbeat != domain->heartbeat)
			domain->still = 0;
		else
			domain->still++;
		domain->heartbeat = heartbeat;
		if (domain->still < KF_LOOKS) {
			recall_all(domain);
			watch_later(domain);
		} else {
			pr_info_ratelimited("domain %u: the heartbeat of its arbiter stood still for %u ms, its lease is over\n",
					    domain->id, domain->lease_ms);
			lease_end(domain);
			kf_claims_keep(domain, no_cores);
		}
	}
	mutex_unlock(&domain->mutex);
}

// SPDX-License-Identifier: GPL-2.0
/* Domains: the list of them, and the life of each. */
#include <linux/slab.h>
#include <linux/xarray.h>

#include "kf.h"

static DEFINE_XARRAY_ALLOC1(domains);
static u32 next_id;
static unsigned int count;

static void domain_free(struct kf_domain *domain)
{
	kf_pages_free(domain);
	kvfree(domain->core);
	kvfree(domain);
}

/* Nobody refers to the domain any more; but timers and work may be on their way still. */
static void free_work(struct work_struct *work)
{
	struct kf_domain *domain = container_of(work, struct kf_domain, free_work);
	u32 i;

	mutex_lock(&kf_claims_mutex);
	xa_erase(&domains, domain->id);
	count--;
	mutex_unlock(&kf_claims_mutex);
	cancel_delayed_work_sync(&domain->watch);
	for (i = 0; i < domain->cores; i++) {
		struct kf_core *c = &domain->core[i];

		/* In this order: each may start the next one. */
		hrtimer_cancel(&c->timer);
		irq_work_sync(&c->nudge);
		cancel_work_sync(&c->look);
	}
	domain_free(domain);
}

static int add(struct kf_domain *domain)
{
	int result = -ENOSPC;

	mutex_lock(&kf_claims_mutex);
	if (count < KF_MAX_DOMAINS)
		/* Cyclic: an id of long ago must not name somebody else's domain. */
		result = xa_alloc_cyclic(&domains, &domain->id, domain, XA_LIMIT(1, INT_MAX),
					 &next_id, GFP_KERNEL_ACCOUNT);
	if (result >= 0) {
		count++;
		kf_show(domain, domain, domain->id);
	}
	mutex_unlock(&kf_claims_mutex);
	return min(result, 0);
}

static int init_cores(struct kf_domain *domain)
{
	u32 i;

	domain->cores = min_t(u32, nr_cpu_ids, FLUX_MAX_CORES);
	domain->core = kvcalloc(domain->cores, sizeof(*domain->core), GFP_KERNEL_ACCOUNT);
	if (!domain->core)
		return -ENOMEM;
	for (i = 0; i < domain->cores; i++) {
		u32 per_page = PAGE_SIZE / FLUX_CORE_BYTES;
		struct flux_core *page = page_address(domain->core_page[i / per_page]);

		kf_core_init(&domain->core[i], domain, i, &page[i % per_page]);
	}
	return 0;
}

struct kf_domain *kf_domain_new(void)
{
	struct kf_domain *domain = kvzalloc(sizeof(*domain), GFP_KERNEL_ACCOUNT);
	int result;

	if (!domain)
		return ERR_PTR(-ENOMEM);
	refcount_set(&domain->refs, 1);
	mutex_init(&domain->mutex);
	INIT_LIST_HEAD(&domain->files);
	INIT_DELAYED_WORK(&domain->watch, kf_lease_watch);
	INIT_WORK(&domain->free_work, free_work);
	raw_spin_lock_init(&domain->event_lock);
	result = kf_pages_alloc(domain) ?: init_cores(domain);
	if (!result) {
		kf_show(domain, magic, FLUX_KF_MAGIC);
		kf_show(domain, abi_major, FLUX_ABI_MAJOR);
		kf_show(domain, abi_minor, FLUX_ABI_MINOR);
		result = add(domain);
	}
	if (result) {
		domain_free(domain);
		return ERR_PTR(result);
	}
	return domain;
}

/* Referenced; NULL if there is none of this id. */
struct kf_domain *kf_domain_find(u32 id)
{
	struct kf_domain *domain;

	mutex_lock(&kf_claims_mutex);
	domain = xa_load(&domains, id);
	if (domain && !refcount_inc_not_zero(&domain->refs))
		domain = NULL;
	mutex_unlock(&kf_claims_mutex);
	return domain;
}

/* The next domain after *@id, referenced; NULL at the end. */
struct kf_domain *kf_domain_next(unsigned long *id)
{
	struct kf_domain *domain;

	mutex_lock(&kf_claims_mutex);
	do
		domain = xa_find_after(&domains, id, ULONG_MAX, XA_PRESENT);
	while (domain && !refcount_inc_not_zero(&domain->refs));
	mutex_unlock(&kf_claims_mutex);
	return domain;
}

/* From anywhere: what has to sleep is left to a work. */
void kf_domain_put(struct kf_domain *domain)
{
	if (refcount_dec_and_test(&domain->refs))
		queue_work(kf_wq, &domain->free_work);
}

// SPDX-License-Identifier: GPL-2.0
/*
 * Which CPU is claimed by which domain, over all domains, and what follows from it: the
 * housekeeping cores, and whom it concerns when a CPU goes offline.
 */
#include <linux/cpu.h>
#include <linux/cpuhotplug.h>
#include <linux/workqueue.h>

#include "kf.h"

/* Guards all of this file, and the list of domains. */
DEFINE_MUTEX(kf_claims_mutex);

/* Where a thread without a core may run its signal handlers. Read without the mutex. */
struct cpumask kf_housekeeping;

static struct kf_core *claimed[FLUX_MAX_CORES];
/*
 * Our own idea of which CPUs are online: cpu_online_mask changes at another time than our
 * callbacks run, and a core that is claimed in between would miss its callback.
 */
static struct cpumask online;
static int state;

static void update_housekeeping(void)
{
	static struct cpumask mask;
	unsigned int cpu;

	lockdep_assert_held(&kf_claims_mutex);
	cpumask_copy(&mask, cpu_possible_mask);
	for (cpu = 0; cpu < FLUX_MAX_CORES && cpu < nr_cpu_ids; cpu++)
		if (claimed[cpu])
			cpumask_clear_cpu(cpu, &mask);
	/* All are claimed: then there is nothing better than all. */
	if (!cpumask_intersects(&mask, &online))
		cpumask_copy(&mask, cpu_possible_mask);
	cpumask_copy(&kf_housekeeping, &mask);
}

static bool in_mask(const u32 managed[8], unsigned int cpu)
{
	return managed[cpu / 32] & BIT(cpu % 32);
}

static int check(struct kf_domain *domain, const u32 managed[8])
{
	unsigned int cpu;
	int result = 0;
	bool any = false;

	for (cpu = 0; cpu < FLUX_MAX_CORES; cpu++) {
		if (!in_mask(managed, cpu))
			continue;
		any = true;
		if (cpu >= domain->cores || !cpu_possible(cpu))
			return -EINVAL;
		if (!cpumask_test_cpu(cpu, &online))
			result = result ?: -ENODEV;
		else if (claimed[cpu] && claimed[cpu]->domain != domain)
			result = result ?: -EBUSY;
	}
	return any ? result : -EINVAL;
}

static void cpus_are_active(struct work_struct *work);
static DECLARE_WORK(comes, cpus_are_active);

/* All of these cores become the domain's, beside those that it has; or none. */
int kf_claims_reserve(struct kf_domain *domain, const u32 managed[8])
{
	unsigned int cpu;
	int result;

	/* Whoever has seen that a CPU is online may claim it. */
	flush_work(&comes);
	mutex_lock(&kf_claims_mutex);
	result = check(domain, managed);
	for (cpu = 0; !result && cpu < domain->cores; cpu++) {
		struct kf_core *c = &domain->core[cpu];

		if (!in_mask(managed, cpu) || claimed[cpu])
			continue;
		raw_spin_lock_irq(&c->lock);
		c->online = true;
		raw_spin_unlock_irq(&c->lock);
		claimed[cpu] = c;
	}
	if (!result)
		update_housekeeping();
	mutex_unlock(&kf_claims_mutex);
	return result;
}

/* The domain gives back all cores but these. */
void kf_claims_keep(struct kf_domain *domain, const u32 managed[8])
{
	unsigned int cpu;

	mutex_lock(&kf_claims_mutex);
	for (cpu = 0; cpu < domain->cores; cpu++)
		if (claimed[cpu] == &domain->core[cpu] && !in_mask(managed, cpu))
			claimed[cpu] = NULL;
	update_housekeeping();
	mutex_unlock(&kf_claims_mutex);
}

static void core_is_back(unsigned int cpu)
{
	lockdep_assert_held(&kf_claims_mutex);
	cpumask_set_cpu(cpu, &online);
	if (cpu < FLUX_MAX_CORES && claimed[cpu])
		kf_core_online(claimed[cpu]);
	update_housekeeping();
}

/*
 * A CPU becomes active, so that threads can be placed on it, after the last callback that a module
 * can have: a grant in between would leave its thread elsewhere. So this waits for the hotplug
 * operation's lock, and by then it is over.
 */
static void cpus_are_active(struct work_struct *work)
{
	unsigned int cpu;

	cpus_read_lock();
	mutex_lock(&kf_claims_mutex);
	for_each_cpu(cpu, cpu_active_mask)
		if (!cpumask_test_cpu(cpu, &online))
			core_is_back(cpu);
	mutex_unlock(&kf_claims_mutex);
	cpus_read_unlock();
}

static int cpu_comes(unsigned int cpu)
{
	/* Those that are there when the module is loaded. */
	if (cpu_active(cpu)) {
		mutex_lock(&kf_claims_mutex);
		core_is_back(cpu);
		mutex_unlock(&kf_claims_mutex);
	} else {
		schedule_work(&comes);
	}
	return 0;
}

/* No new task can come here any more; those that are here still can be moved. */
static int cpu_goes(unsigned int cpu)
{
	mutex_lock(&kf_claims_mutex);
	cpumask_clear_cpu(cpu, &online);
	update_housekeeping();
	if (cpu < FLUX_MAX_CORES && claimed[cpu])
		kf_core_offline(claimed[cpu]);
	mutex_unlock(&kf_claims_mutex);
	return 0;
}

int kf_claims_init(void)
{
	/* Calls cpu_comes() for each CPU that is online. */
	state = cpuhp_setup_state(CPUHP_AP_ONLINE_DYN, "kflux:online", cpu_comes, cpu_goes);
	return state < 0 ? state : 0;
}

void kf_claims_exit(void)
{
	cpuhp_remove_state_nocalls(state);
	cancel_work_sync(&comes);
}

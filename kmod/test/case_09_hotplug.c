// SPDX-License-Identifier: GPL-2.0
/* A managed core goes offline and comes back. */
#define GROUP "hotplug"
#include "cpu.h"
#include "guest.h"

#define A handle(0, 0)
#define B handle(0, 1)

/* The harness brings it back, however the case ends. */
static void offline(unsigned int core)
{
	int result;

	result = cpu_online(core, false);
	if (result == -ENOENT || result == -EACCES || result == -EPERM || result == -EOPNOTSUPP)
		kf_skip("CPU %u cannot go offline here: %s", core, strerror(-result));
	OK(result);
}

CASE("an idle core goes offline: the flag, ENODEV for every command, and back")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_with_workers(domain, 0, 2);
	uint64_t events = domain->status->events;
	int kinds = 0;

	offline(CORE_A);
	UNTIL(domain->core[CORE_A].flags & FLUX_CORE_OFFLINE);
	RESULT(grant(domain, CORE_A, A), -ENODEV);
	RESULT(heir(domain, CORE_A, A), -ENODEV);
	RESULT(park(domain, CORE_A, A), -ENODEV);
	RESULT(move(domain, CORE_A, A, B), -ENODEV);
	RESULT(force(domain, CORE_A, A), -ENODEV);
	RESULT(preempt(domain, CORE_A, A, 1), -ENODEV);
	SAME(state_of(domain, A), FLUX_VCPU_PARKED);
	OK(grant(domain, CORE_B, A));
	until_running(domain, A, CORE_B);
	OK(cpu_online(CORE_A, true));
	UNTIL(!(domain->core[CORE_A].flags & FLUX_CORE_OFFLINE));
	OK(grant(domain, CORE_A, B));
	until_running(domain, B, CORE_A);
	for (uint64_t n = events; n < domain->status->events; n++)
		kinds += domain->event[n % FLUX_KF_EVENTS].kind == FLUX_KF_EV_OFFLINE;
	SAME(kinds, 2);
	SAME(atomic_load(&vm->worker[1]->wrong_core), 0);
}

CASE("a core goes offline under its owner: the vCPU loses it, parks, and is granted elsewhere")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_with_workers(domain, 0, 2);

	OK(grant(domain, CORE_A, A));
	until_running(domain, A, CORE_A);
	OK(heir(domain, CORE_A, B));
	offline(CORE_A);
	UNTIL(owner_of(domain, CORE_A) == 0);
	until_parked(domain, A);
	/* Nobody inherits a core that is not there. */
	SAME(state_of(domain, B), FLUX_VCPU_PARKED);
	OK(grant(domain, CORE_B, A));
	until_running(domain, A, CORE_B);
	OK(cpu_online(CORE_A, true));
	UNTIL(!(domain->core[CORE_A].flags & FLUX_CORE_OFFLINE));
	OK(grant(domain, CORE_A, B));
	until_running(domain, B, CORE_A);
	SAME(atomic_load(&vm->worker[0]->error), 0);
	SAME(atomic_load(&vm->worker[1]->error), 0);
}

CASE("a core goes offline in mid-move: the successor is PARKED again")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_with_workers(domain, 0, 2);

	worker_be(vm->worker[0], STUBBORN);
	OK(grant(domain, CORE_A, A));
	until_running(domain, A, CORE_A);
	OK(ask(domain, CORE_A, A, B));
	SAME(state_of(domain, B), FLUX_VCPU_GRANTING);
	offline(CORE_A);
	until_parked(domain, B);
	UNTIL(idle(domain, CORE_A));
	OK(grant(domain, CORE_B, B));
	until_running(domain, B, CORE_B);
	atomic_store(&vm->worker[0]->manner, OBEY);
	until_parked(domain, A);
	OK(cpu_online(CORE_A, true));
	UNTIL(!(domain->core[CORE_A].flags & FLUX_CORE_OFFLINE));
	OK(grant(domain, CORE_A, A));
	until_running(domain, A, CORE_A);
}

CASE("a core goes offline under a sleeper and under a KVM guest")
{
	struct domain *domain = domain_new(MASK_AB);
	struct kvm_vm *kvm = kvm_vm_new(domain, 1, 1);
	struct guest *g = guest_running(kvm, 0, COUNTS);
	struct vm *vm = vm_with_workers(domain, 0, 1);

	atomic_store(&vm->worker[0]->manner, SLEEPS);
	OK(grant(domain, CORE_A, A));
	UNTIL(block_of(domain, A)->host == FLUX_HOST_BLOCKED);
	offline(CORE_A);
	UNTIL(idle(domain, CORE_A));
	worker_wake(vm->worker[0], OBEY);
	until_parked(domain, A);
	OK(cpu_online(CORE_A, true));
	UNTIL(!(domain->core[CORE_A].flags & FLUX_CORE_OFFLINE));

	until_parked(domain, handle(1, 0));
	OK(grant(domain, CORE_A, handle(1, 0)));
	uint32_t count = guest_word(g, GUEST_COUNT);
	UNTIL(guest_word(g, GUEST_COUNT) != count);
	OK(cpu_online(CORE_A, false));
	UNTIL(idle(domain, CORE_A));
	until_parked(domain, handle(1, 0));
	OK(grant(domain, CORE_B, handle(1, 0)));
	count = guest_word(g, GUEST_COUNT);
	UNTIL(guest_word(g, GUEST_COUNT) != count);
	OK(cpu_online(CORE_A, true));
	UNTIL(!(domain->core[CORE_A].flags & FLUX_CORE_OFFLINE));
	guest_join(g);
	CHECK(!atomic_load(&g->corrupt));
	SAME(atomic_load(&g->error), 0);
}

CASE("a core that is offline can be claimed when it is back, or is refused")
{
	int fd = kf_opened();
	uint32_t id = 0, epoch;

	OK(kf_join(fd, &id, 0));
	offline(CORE_B);
	int result = kf_claim(fd, MASK_AB, 60000, 0, &epoch);
	RESULT_IN(result, 0, -ENODEV);
	OK(cpu_online(CORE_B, true));
	if (result)
		OK(kf_claim(fd, MASK_AB, 60000, 0, &epoch));
	struct domain *domain = domain_on(fd, id, true);
	UNTIL(!(domain->core[CORE_B].flags & FLUX_CORE_OFFLINE));
	struct vm *vm = vm_with_workers(domain, 0, 1);
	OK(grant(domain, CORE_B, A));
	until_running(domain, A, CORE_B);
	(void)vm;
}

CASE("the lease ends while a core is offline; it comes back to nobody")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_with_workers(domain, 0, 1);
	uint32_t epoch;

	OK(grant(domain, CORE_A, A));
	until_running(domain, A, CORE_A);
	offline(CORE_A);
	OK(kf_ioctl(domain->fd, FLUX_KF_RELEASE, NULL));
	UNTIL(atomic_load(&vm->worker[0]->unmanaged) > 0);
	OK(cpu_online(CORE_A, true));
	OK(kf_claim(domain->fd, MASK_AB, 60000, 0, &epoch));
	OK(kf_ioctl(vm->fd, FLUX_KF_MANAGE, NULL));
	until_parked(domain, A);
	OK(grant(domain, CORE_A, A));
	until_running(domain, A, CORE_A);
}

struct returning {
	struct domain *domain;
	atomic_uint granted;
	atomic_bool stop;
};

/* Grants core A whenever it can be granted. */
static void *grants_at_once(void *arg)
{
	struct returning *r = arg;

	while (!atomic_load(&r->stop))
		if (grant(r->domain, CORE_A, A) == 0)
			atomic_fetch_add(&r->granted, 1);
	return NULL;
}

CASE_LIMIT("a grant at the moment at which a core is back: the thread runs there, not elsewhere", 120)
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_with_workers(domain, 0, 1);
	struct returning r = {.domain = domain};
	pthread_t thread;

	offline(CORE_A);
	UNTIL(domain->core[CORE_A].flags & FLUX_CORE_OFFLINE);
	pthread_create(&thread, NULL, grants_at_once, &r);
	for (unsigned int i = 1; i <= kf_rounds(20); i++) {
		OK(cpu_online(CORE_A, true));
		UNTIL(atomic_load(&r.granted) == i && atomic_load(&vm->worker[0]->grants) == i);
		SAME(affinity_of(atomic_load(&vm->worker[0]->tid)), 1ull << CORE_A);
		SAME(block_of(domain, A)->pinned, CORE_A);
		OK(cpu_online(CORE_A, false));
		until_parked(domain, A);
	}
	atomic_store(&r.stop, true);
	pthread_join(thread, NULL);
}

CASE_LIMIT("offline and online while cores move", 180)
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_with_workers(domain, 0, 4);
	struct kf_random random = {kf_opt.seed};

	for (int i = 0; i < 12; i++) {
		if (i == 0)
			offline(CORE_A);
		else
			OK(cpu_online(CORE_A, false));
		for (int k = 0; k < 40; k++) {
			uint32_t core = kf_below(&random, 2) ? CORE_A : CORE_B, owner = owner_of(domain, core);
			uint32_t to = handle(0, kf_below(&random, 4));

			RESULT_IN(owner ? move(domain, core, owner, to) : grant(domain, core, to), 0, -EBUSY, -EAGAIN,
				  -EALREADY, -ENODEV, -EINVAL);
			if (k == 20)
				OK(cpu_online(CORE_A, true));
		}
	}
	UNTIL(!(domain->core[CORE_A].flags & FLUX_CORE_OFFLINE));
	for (uint32_t core = CORE_A; core <= CORE_B; core++)
		while (!idle(domain, core)) {
			uint32_t owner = owner_of(domain, core);

			if (owner && !successor_of(domain, core))
				park(domain, core, owner);
			kf_pause();
		}
	for (uint32_t v = 0; v < 4; v++) {
		until_parked(domain, handle(0, v));
		OK(grant(domain, CORE_A, handle(0, v)));
		until_running(domain, handle(0, v), CORE_A);
		OK(park(domain, CORE_A, handle(0, v)));
		until_parked(domain, handle(0, v));
		SAME(atomic_load(&vm->worker[v]->error), 0);
	}
}

// SPDX-License-Identifier: GPL-2.0
/* A vCPU whose thread sleeps in the host, or does not come back from it. ksched's blocked tasks kept their cores. */
#define GROUP "host-blocked"
#include "guest.h"

#include <signal.h>

#define A handle(0, 0)
#define B handle(0, 1)

/* vCPU 0 has core A and sleeps in a read; vCPU 1 is parked. */
static struct vm *sleeping(struct domain *domain)
{
	struct vm *vm = vm_with_workers(domain, 0, 2);

	atomic_store(&vm->worker[0]->manner, SLEEPS);
	OK(grant(domain, CORE_A, A));
	until_running(domain, A, CORE_A);
	UNTIL(block_of(domain, A)->host == FLUX_HOST_BLOCKED);
	return vm;
}

CASE("a thread that sleeps while it has a core is seen: since when, and how often")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = sleeping(domain);

	SAME(owner_of(domain, CORE_A), A);
	CHECK(block_of(domain, A)->blocked_tsc != 0);
	CHECK(block_of(domain, A)->blocks >= 1);
	SAME(state_of(domain, A), FLUX_VCPU_RUNNING);
	/* It comes back, with its core: nobody wanted it. */
	worker_wake(vm->worker[0], OBEY);
	UNTIL(block_of(domain, A)->host == FLUX_HOST_ON);
	SAME(owner_of(domain, CORE_A), A);
	OK(park(domain, CORE_A, A));
	until_parked(domain, A);
	SAME(block_of(domain, A)->how, FLUX_HOW_ASKED);
	SAME(domain->core[CORE_A].lent, 0);
}

CASE("its core is lent at a move, at once; it parks when it comes back")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = sleeping(domain);

	/* A deadline of ten seconds and no kick: only that it sleeps lets the core go on. */
	OK(ask(domain, CORE_A, A, B));
	until_running(domain, B, CORE_A);
	SAME(state_of(domain, A), FLUX_VCPU_BLOCKED);
	SAME(block_of(domain, A)->how, FLUX_HOW_LENT);
	SAME(domain->core[CORE_A].lent, 1);
	SAME(domain->core[CORE_A].forced, 0);
	/* It is not parked yet: it cannot be granted. */
	RESULT(grant(domain, CORE_B, A), -EBUSY);
	worker_wake(vm->worker[0], OBEY);
	until_parked(domain, A);
	OK(grant(domain, CORE_B, A));
	until_running(domain, A, CORE_B);
	SAME(atomic_load(&vm->worker[0]->wrong_core), 0);
	SAME(atomic_load(&vm->worker[0]->error), 0);
}

CASE("a park of a sleeper's core: idle at once")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = sleeping(domain);

	OK(ask(domain, CORE_A, A, 0));
	UNTIL(idle(domain, CORE_A));
	SAME(state_of(domain, A), FLUX_VCPU_BLOCKED);
	OK(grant(domain, CORE_A, B));
	until_running(domain, B, CORE_A);
	worker_wake(vm->worker[0], OBEY);
	until_parked(domain, A);
}

CASE("a sleeper whose core was lent is off that core: its affinity is the housekeeping one")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = sleeping(domain);

	OK(ask(domain, CORE_A, A, B));
	until_running(domain, B, CORE_A);
	UNTIL(affinity_of(atomic_load(&vm->worker[0]->tid)) == (online_mask() & ~(uint64_t)MASK_AB));
	worker_wake(vm->worker[0], OBEY);
	until_parked(domain, A);
}

CASE("it falls asleep after it was asked: the core goes on when it does")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_with_workers(domain, 0, 2);

	worker_be(vm->worker[0], STUBBORN);
	OK(grant(domain, CORE_A, A));
	until_running(domain, A, CORE_A);
	UNTIL(atomic_load(&vm->worker[0]->turns) > 0);
	OK(command(domain, (struct flux_kf_command){.op = FLUX_OP_MOVE,
						    .core = CORE_A,
						    .from = A,
						    .to = B,
						    .flags = FLUX_FLAG_ASK_ONLY,
						    .deadline_us = 500000}));
	atomic_store(&vm->worker[0]->manner, SLEEPS);
	/* At the latest at its deadline. */
	until_running(domain, B, CORE_A);
	CHECK(state_of(domain, A) == FLUX_VCPU_BLOCKED);
	worker_wake(vm->worker[0], OBEY);
	until_parked(domain, A);
}

CASE("short naps do not cost a core that nobody wants")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_with_workers(domain, 0, 1);

	atomic_store(&vm->worker[0]->manner, NAPS);
	OK(grant(domain, CORE_A, A));
	until_running(domain, A, CORE_A);
	UNTIL(block_of(domain, A)->blocks > 50);
	SAME(owner_of(domain, CORE_A), A);
	OK(park(domain, CORE_A, A));
	until_parked(domain, A);
}

CASE_LIMIT("naps and moves at the same time: asked or lent, never lost", 120)
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_with_workers(domain, 0, 2);
	uint32_t from = A, to = B;

	atomic_store(&vm->worker[0]->manner, NAPS);
	atomic_store(&vm->worker[1]->manner, NAPS);
	OK(grant(domain, CORE_A, A));
	for (unsigned int i = 0; i < 600 / kf_opt.slow; i++) {
		uint32_t swap = from;

		OK(ask(domain, CORE_A, from, to));
		until_running(domain, to, CORE_A);
		until_parked(domain, from);
		from = to;
		to = swap;
	}
	for (int v = 0; v < 2; v++) {
		SAME(atomic_load(&vm->worker[v]->error), 0);
		SAME(atomic_load(&vm->worker[v]->wrong_core), 0);
	}
	kf_note("%u lent", domain->core[CORE_A].lent);
}

CASE("a thread that spins in user space is forced at the deadline and its core taken")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_with_workers(domain, 0, 2);

	worker_be(vm->worker[0], STUBBORN);
	OK(grant(domain, CORE_A, A));
	until_running(domain, A, CORE_A);
	UNTIL(atomic_load(&vm->worker[0]->turns) > 0);
	OK(command(domain, (struct flux_kf_command){
				   .op = FLUX_OP_MOVE, .core = CORE_A, .from = A, .to = B, .deadline_us = 2000}));
	until_running(domain, B, CORE_A);
	SAME(state_of(domain, A), FLUX_VCPU_BLOCKED);
	SAME(block_of(domain, A)->how, FLUX_HOW_TAKEN);
	SAME(block_of(domain, A)->force, block_of(domain, A)->park_req);
	SAME(domain->core[CORE_A].taken, 1);
	SAME(domain->core[CORE_A].forced, 1);
	UNTIL(affinity_of(atomic_load(&vm->worker[0]->tid)) == (online_mask() & ~(uint64_t)MASK_AB));
	RESULT(grant(domain, CORE_B, A), -EBUSY);
	atomic_store(&vm->worker[0]->manner, OBEY);
	until_parked(domain, A);
	OK(grant(domain, CORE_B, A));
	until_running(domain, A, CORE_B);
	CHECK(block_of(domain, A)->taken_tsc > 0);
}

CASE("FORCE does not wait for the deadline")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_with_workers(domain, 0, 2);

	worker_be(vm->worker[0], STUBBORN);
	OK(grant(domain, CORE_A, A));
	until_running(domain, A, CORE_A);
	/* The shortest deadline after a force is a quarter of the command's: 10 s give 2.5 s. */
	OK(ask(domain, CORE_A, A, B));
	SAME(state_of(domain, A), FLUX_VCPU_CEDING);
	OK(force(domain, CORE_A, A));
	SAME(block_of(domain, A)->force, block_of(domain, A)->park_req);
	until_running(domain, B, CORE_A);
	SAME(block_of(domain, A)->how, FLUX_HOW_TAKEN);
	atomic_store(&vm->worker[0]->manner, OBEY);
	until_parked(domain, A);
}

CASE("an owner that leaves in time is not forced later: the timer knows the generation")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_with_workers(domain, 0, 2);
	uint32_t from = A, to = B;

	OK(grant(domain, CORE_A, A));
	for (int i = 0; i < 40; i++) {
		uint32_t swap = from;

		UNTIL(atomic_load(&vm->worker[from == A ? 0 : 1]->core) == CORE_A);
		OK(command(domain,
			   (struct flux_kf_command){
				   .op = FLUX_OP_MOVE, .core = CORE_A, .from = from, .to = to, .deadline_us = 200000}));
		until_running(domain, to, CORE_A);
		until_parked(domain, from);
		from = to;
		to = swap;
	}
	usleep(300000);
	SAME(owner_of(domain, CORE_A), from);
	SAME(state_of(domain, from), FLUX_VCPU_RUNNING);
	SAME(domain->core[CORE_A].taken, 0);
}

static atomic_bool hog_runs, hog_stop;

/* Something of the host that takes a core from under its vCPU. */
static void *hog(void *arg)
{
	struct sched_param param = {.sched_priority = 50};
	cpu_set_t set;

	(void)arg;
	CPU_ZERO(&set);
	CPU_SET(CORE_A, &set);
	sched_setaffinity(0, sizeof(set), &set);
	if (sched_setscheduler(0, SCHED_FIFO, &param)) {
		atomic_store(&hog_runs, true);
		return (void *)1;
	}
	atomic_store(&hog_runs, true);
	while (!atomic_load(&hog_stop))
		;
	return NULL;
}

CASE("a park that is late because the host had descheduled the victim is told apart")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_with_workers(domain, 0, 2);
	uint64_t events;
	pthread_t thread;
	void *failed;
	bool seen = false;

	OK(grant(domain, CORE_A, A));
	until_running(domain, A, CORE_A);
	UNTIL(atomic_load(&vm->worker[0]->turns) > 0);
	pthread_create(&thread, NULL, hog, NULL);
	UNTIL(atomic_load(&hog_runs));
	UNTIL(block_of(domain, A)->host == FLUX_HOST_PREEMPTED);
	SAME(owner_of(domain, CORE_A), A);
	events = domain->status->events;
	OK(command(domain, (struct flux_kf_command){
				   .op = FLUX_OP_MOVE, .core = CORE_A, .from = A, .to = B, .deadline_us = 5000}));
	UNTIL(block_of(domain, A)->force == block_of(domain, A)->park_req);
	for (uint64_t n = events; n < domain->status->events; n++)
		if (domain->event[n % FLUX_KF_EVENTS].kind == FLUX_KF_EV_FORCE) {
			SAME(domain->event[n % FLUX_KF_EVENTS].arg, FLUX_HOST_PREEMPTED);
			seen = true;
		}
	CHECK(seen);
	atomic_store(&hog_stop, true);
	pthread_join(thread, &failed);
	if (failed)
		kf_skip("no SCHED_FIFO here");
	until_running(domain, B, CORE_A);
	until_parked(domain, A);
	SAME(atomic_load(&vm->worker[0]->error), 0);
}

CASE("a thread taken from its core that ends in user space: DEAD, nobody waits for it")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_with_workers(domain, 0, 2);

	worker_be(vm->worker[0], STUBBORN);
	OK(grant(domain, CORE_A, A));
	until_running(domain, A, CORE_A);
	OK(command(domain,
		   (struct flux_kf_command){.op = FLUX_OP_PARK, .core = CORE_A, .from = A, .deadline_us = 1000}));
	UNTIL(idle(domain, CORE_A));
	atomic_store(&vm->worker[0]->manner, QUIT);
	UNTIL(state_of(domain, A) == FLUX_VCPU_DEAD);
	worker_join(vm->worker[0]);
	OK(grant(domain, CORE_A, B));
	until_running(domain, B, CORE_A);
}

CASE("a sleeper whose core was lent, and the lease ends: UNMANAGED when it comes back")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = sleeping(domain);

	OK(ask(domain, CORE_A, A, B));
	until_running(domain, B, CORE_A);
	OK(kf_ioctl(domain->fd, FLUX_KF_RELEASE, NULL));
	UNTIL(state_of(domain, A) == FLUX_VCPU_UNMANAGED);
	UNTIL(affinity_of(atomic_load(&vm->worker[0]->tid)) == online_mask());
	worker_wake(vm->worker[0], OBEY);
	UNTIL(atomic_load(&vm->worker[0]->unmanaged) > 0);
}

CASE("a signal wakes a sleeper that has lost its core: it parks")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = sleeping(domain);

	OK(ask(domain, CORE_A, A, B));
	until_running(domain, B, CORE_A);
	for (int i = 0; i < 5; i++)
		worker_wake(vm->worker[0], SLEEPS);
	SAME(state_of(domain, A), FLUX_VCPU_BLOCKED);
	worker_wake(vm->worker[0], OBEY);
	until_parked(domain, A);
	SAME(owner_of(domain, CORE_A), B);
}

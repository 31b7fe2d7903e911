// SPDX-License-Identifier: GPL-2.0
/* Races that the hand-over invites: two of its parties act at the same moment. */
#define GROUP "races"
#include "world.h"

#define A handle(0, 0)
#define B handle(0, 1)
#define C handle(1, 0)

CASE_LIMIT("a yield that crosses a move loses no wake", 120)
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_with_workers(domain, 0, 2);

	for (unsigned int i = 0; i < kf_rounds(2000); i++) {
		UNTIL(grant(domain, CORE_A, A) == 0);
		UNTIL(owner_of(domain, CORE_A) == A);
		atomic_store(&vm->worker[0]->manner, YIELD);
		for (volatile int spin = 0; spin < (int)(i % 400) * 5; spin++)
			;
		OK(move(domain, CORE_A, A, B));
		until_running(domain, B, CORE_A);
		until_parked(domain, A);
		OK(park(domain, CORE_A, B));
		until_parked(domain, B);
		/* It may have been asked before it looked at its manner. */
		atomic_store(&vm->worker[0]->manner, OBEY);
	}
	UNTIL(idle(domain, CORE_A));
}

CASE_LIMIT("a yield that crosses a park and an heir", 120)
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_with_workers(domain, 0, 2);

	for (unsigned int i = 0; i < kf_rounds(1000); i++) {
		UNTIL(grant(domain, CORE_A, A) == 0);
		atomic_store(&vm->worker[0]->manner, YIELD);
		OK(heir(domain, CORE_A, B));
		/* The yield went before: B has the core now, and the park is about the past. */
		RESULT_IN(park(domain, CORE_A, A), 0, -EAGAIN);
		until_parked(domain, A);
		OK(heir(domain, CORE_A, 0));
		until_idle(domain, CORE_A);
		until_parked(domain, B);
		atomic_store(&vm->worker[0]->manner, OBEY);
	}
}

CASE_LIMIT("a successor that dies in flight: the core falls idle when its owner leaves", 120)
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_with_workers(domain, 0, 1);

	for (unsigned int i = 0; i < kf_rounds(100); i++) {
		struct vm *other = vm_with_workers(domain, 1, 1);

		UNTIL(grant(domain, CORE_A, A) == 0);
		until_running(domain, A, CORE_A);
		worker_be(vm->worker[0], STUBBORN);
		OK(ask(domain, CORE_A, A, C));
		SAME(state_of(domain, C), FLUX_VCPU_GRANTING);
		OK(kf_ioctl(other->fd, FLUX_KF_END, NULL));
		UNTIL(state_of(domain, C) == FLUX_VCPU_DEAD);
		/* The owner is still asked to leave: in favour of nobody. */
		UNTIL(successor_of(domain, CORE_A) == FLUX_HANDLE_IDLE);
		worker_join(other->worker[0]);
		vm_close(other);
		atomic_store(&vm->worker[0]->manner, OBEY);
		until_parked(domain, A);
		UNTIL(idle(domain, CORE_A));
		UNTIL(domain->status->vms == 1);
	}
}

CASE_LIMIT("a successor that dies while it is being woken", 120)
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_with_workers(domain, 0, 1);

	for (unsigned int i = 0; i < kf_rounds(100); i++) {
		struct vm *other = vm_with_workers(domain, 1, 1);

		UNTIL(grant(domain, CORE_A, A) == 0);
		until_running(domain, A, CORE_A);
		OK(move(domain, CORE_A, A, C));
		for (volatile int spin = 0; spin < (int)(i % 50) * 300; spin++)
			;
		OK(kf_ioctl(other->fd, FLUX_KF_END, NULL));
		until_parked(domain, A);
		UNTIL(idle(domain, CORE_A));
		SAME(state_of(domain, C), FLUX_VCPU_DEAD);
		worker_join(other->worker[0]);
		vm_close(other);
		UNTIL(domain->status->vms == 1);
	}
	(void)vm;
}

CASE("an heir that dies: the core falls idle when its owner yields, and the heir is forgotten")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_with_workers(domain, 0, 1), *other = vm_with_workers(domain, 1, 1);

	OK(grant(domain, CORE_A, A));
	until_running(domain, A, CORE_A);
	OK(heir(domain, CORE_A, C));
	OK(kf_ioctl(other->fd, FLUX_KF_END, NULL));
	UNTIL(state_of(domain, C) == FLUX_VCPU_DEAD);
	atomic_store(&vm->worker[0]->manner, YIELD);
	until_parked(domain, A);
	CHECK(idle(domain, CORE_A));
	RESULT(heir(domain, CORE_A, C), -ESRCH);
	/* The slot's next VM does not inherit what the old one was promised. */
	vm_close(other);
	worker_join(other->worker[0]);
	UNTIL(domain->status->vms == 1);
	vm_with_workers(domain, 1, 1);
	OK(grant(domain, CORE_A, A));
	until_running(domain, A, CORE_A);
	atomic_store(&vm->worker[0]->manner, YIELD);
	until_parked(domain, A);
	CHECK(idle(domain, CORE_A));
	SAME(state_of(domain, C), FLUX_VCPU_PARKED);
}

CASE_LIMIT("an owner that dies: running, asked, kicked, forced, handing over", 120)
{
	struct domain *domain = domain_new(MASK_AB);

	vm_with_workers(domain, 1, 1);
	for (unsigned int i = 0; i < kf_rounds(150); i++) {
		struct vm *vm = vm_with_workers(domain, 0, 1);
		struct worker *w = vm->worker[0];

		OK(grant(domain, CORE_A, A));
		UNTIL(atomic_load(&w->grants));
		worker_be(w, STUBBORN);
		if (i % 5 == 0)
			OK(heir(domain, CORE_A, C));
		if (i % 5 >= 1)
			OK(ask(domain, CORE_A, A, C));
		if (i % 5 == 3)
			OK(force(domain, CORE_A, A));
		if (i % 5 == 4)
			atomic_store(&w->manner, OBEY);
		for (volatile int spin = 0; spin < (int)(i % 40) * 200; spin++)
			;
		if (i % 2)
			atomic_store(&w->manner, QUIT);
		else
			kf_ioctl(vm->fd, FLUX_KF_END, NULL);
		atomic_store(&w->stop, true);
		until_running(domain, C, CORE_A);
		if (i % 2 == 0)
			UNTIL(state_of(domain, A) == FLUX_VCPU_DEAD);
		else
			kf_ioctl(vm->fd, FLUX_KF_END, NULL);
		worker_join(w);
		vm_close(vm);
		UNTIL(domain->status->vms == 1);
		OK(heir(domain, CORE_A, 0));
		OK(park(domain, CORE_A, C));
		until_parked(domain, C);
		CHECK(idle(domain, CORE_A));
	}
}

CASE_LIMIT("END while the vCPUs park: everyone comes back DEAD", 120)
{
	struct domain *domain = domain_new(MASK_AB);

	for (unsigned int i = 0; i < kf_rounds(100); i++) {
		struct vm *vm = vm_with_workers(domain, 0, 4);

		OK(grant(domain, CORE_A, A));
		OK(grant(domain, CORE_B, B));
		for (volatile int spin = 0; spin < (int)(i % 20) * 500; spin++)
			;
		OK(kf_ioctl(vm->fd, FLUX_KF_END, NULL));
		for (uint32_t v = 0; v < 4; v++) {
			worker_join(vm->worker[v]);
			CHECK(atomic_load(&vm->worker[v]->dead));
			SAME(state_of(domain, handle(0, v)), FLUX_VCPU_DEAD);
		}
		CHECK(idle(domain, CORE_A) && idle(domain, CORE_B));
		RESULT(grant(domain, CORE_A, A), -ESRCH);
		vm_close(vm);
		UNTIL(domain->status->vms == 0);
	}
}

CASE_LIMIT("the lease ends during a move: everyone is UNMANAGED, the successor too", 120)
{
	for (unsigned int i = 0; i < kf_rounds(60); i++) {
		struct domain *domain = domain_new(MASK_AB);
		struct vm *vm = vm_with_workers(domain, 0, 2);

		OK(grant(domain, CORE_A, A));
		UNTIL(atomic_load(&vm->worker[0]->grants));
		if (i % 2)
			worker_be(vm->worker[0], STUBBORN);
		OK(ask(domain, CORE_A, A, B));
		for (volatile int spin = 0; spin < (int)(i % 20) * 300; spin++)
			;
		OK(kf_ioctl(domain->fd, FLUX_KF_RELEASE, NULL));
		atomic_store(&vm->worker[0]->manner, OBEY);
		for (uint32_t v = 0; v < 2; v++) {
			UNTIL(state_of(domain, handle(0, v)) == FLUX_VCPU_UNMANAGED);
			UNTIL(atomic_load(&vm->worker[v]->unmanaged));
			UNTIL(affinity_of(atomic_load(&vm->worker[v]->tid)) == online_mask());
		}
		CHECK(idle(domain, CORE_A));
		SAME(domain->core[CORE_A].flags & FLUX_CORE_CLAIMED, 0);
		RESULT(grant(domain, CORE_A, A), -ESTALE);
		OK(kf_ioctl(vm->fd, FLUX_KF_END, NULL));
		worker_join(vm->worker[0]);
		worker_join(vm->worker[1]);
		vm_close(vm);
		domain_close(domain);
	}
}

struct submitter {
	struct domain *domain;
	atomic_bool stop;
	atomic_uint done, stale, odd;
};

static void *submits(void *arg)
{
	struct submitter *s = arg;

	while (!atomic_load(&s->stop)) {
		struct flux_kf_command batch[8];
		uint32_t failed;
		int result;

		for (int i = 0; i < 8; i++)
			batch[i] = (struct flux_kf_command){.op = i % 2 ? FLUX_OP_PARK : FLUX_OP_GRANT,
							    .core = CORE_A,
							    .from = i % 2 ? A : 0,
							    .to = i % 2 ? 0 : A,
							    .deadline_us = 10000000};
		result = submit(s->domain, batch, 8, &failed);
		if (result == -ESTALE)
			atomic_fetch_add(&s->stale, 1);
		else if (result == 0)
			atomic_fetch_add(&s->done, 1);
		else
			atomic_fetch_add(&s->odd, 1);
	}
	return NULL;
}

CASE_LIMIT("TAKEOVER while the old arbiter submits: it gets ESTALE, never half a lease", 120)
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_with_workers(domain, 0, 1);
	struct submitter s = {.domain = domain};
	pthread_t thread;
	int file = kf_opened();
	uint32_t id = domain->id, epoch = 0, last = domain->epoch;

	OK(kf_join(file, &id, 0));
	pthread_create(&thread, NULL, submits, &s);
	for (unsigned int i = 0; i < kf_rounds(50); i++) {
		UNTIL(atomic_load(&s.done) > i);
		OK(kf_claim(file, MASK_AB, 60000, FLUX_KF_CLAIM_TAKEOVER, &epoch));
		CHECK(epoch != last);
		last = epoch;
		UNTIL(atomic_load(&vm->worker[0]->unmanaged) > 0);
		/* The new arbiter adopts: the VMM says so. */
		OK(kf_ioctl(vm->fd, FLUX_KF_MANAGE, NULL));
		uint32_t stale = atomic_load(&s.stale);
		UNTIL(atomic_load(&s.stale) > stale);
		OK(kf_claim(domain->fd, MASK_AB, 60000, FLUX_KF_CLAIM_TAKEOVER, &epoch));
		last = epoch;
		OK(kf_ioctl(vm->fd, FLUX_KF_MANAGE, NULL));
	}
	atomic_store(&s.stop, true);
	pthread_join(thread, NULL);
	SAME(atomic_load(&s.odd), 0);
	SAME(atomic_load(&vm->worker[0]->error), 0);
}

// SPDX-License-Identifier: GPL-2.0
/* The races that ksched met in nine years, each named after the commit that mended it there. */
#define GROUP "races"
#include "guest.h"

#include <signal.h>

#define A handle(0, 0)
#define B handle(0, 1)
#define C handle(1, 0)

CASE_LIMIT("5c764aa: waking a thread that has not fully ceded made a core idle forever", 120)
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_with_workers(domain, 0, 2);
	unsigned int n = kf_rounds(2000), refused = 0;

	/* The vCPU is granted again the moment it has left: on its way to sleep, on another core, over and over. */
	OK(grant(domain, CORE_A, A));
	for (unsigned int i = 0; i < n; i++) {
		uint32_t core = i % 2 ? CORE_B : CORE_A, next = i % 2 ? CORE_A : CORE_B;
		double end = kf_now() + kf_patience();
		int result;

		UNTIL(owner_of(domain, core) == A);
		result = park(domain, core, A);
		RESULT_IN(result, 0, -EALREADY);
		while ((result = grant(domain, next, A)) == -EBUSY) {
			refused++;
			if (kf_now() > end)
				FAIL("round %u: the vCPU does not become PARKED", i);
		}
		OK(result);
	}
	kf_note("%u grants came before the thread was parked, and were refused", refused);
	UNTIL(atomic_load(&vm->worker[0]->core) >= 0);
	SAME(atomic_load(&vm->worker[0]->wrong_core), 0);
	SAME(atomic_load(&vm->worker[0]->error), 0);
}

CASE("58588d7: a grant before the thread registered lost the core")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_new(domain, 0, 2);

	RESULT_IN(grant(domain, CORE_A, A), -EBUSY, -ESRCH);
	SAME(state_of(domain, A), FLUX_VCPU_NEW);
	CHECK(idle(domain, CORE_A));
	worker_start(vm, 1, 0);
	until_parked(domain, B);
	OK(grant(domain, CORE_A, B));
	until_running(domain, B, CORE_A);
	RESULT_IN(move(domain, CORE_A, B, A), -EBUSY, -ESRCH);
	RESULT_IN(heir(domain, CORE_A, A), 0, -EBUSY, -ESRCH);
	atomic_store(&vm->worker[1]->manner, YIELD);
	until_parked(domain, B);
	CHECK(idle(domain, CORE_A));
	worker_start(vm, 0, 0);
	UNTIL(grant(domain, CORE_A, A) == 0);
	until_running(domain, A, CORE_A);
}

CASE_LIMIT("58588d7: grants that race with REGISTER", 120)
{
	struct domain *domain = domain_new(MASK_AB);

	for (unsigned int i = 0; i < kf_rounds(100); i++) {
		struct vm *vm = vm_new(domain, 2, 1);
		double end = kf_now() + kf_patience();
		int result;

		struct worker *w;

		/* The thread registers while grants of it are under way. */
		RESULT_IN(grant(domain, CORE_A, handle(2, 0)), -EBUSY, -ESRCH);
		w = worker_start(vm, 0, 0);
		while ((result = grant(domain, CORE_A, handle(2, 0))) == -EBUSY || result == -ESRCH)
			if (kf_now() > end)
				FAIL("a registered vCPU cannot be granted");
		OK(result);
		until_running(domain, handle(2, 0), CORE_A);
		atomic_store(&w->manner, QUIT);
		UNTIL(idle(domain, CORE_A));
		worker_join(w);
		vm_close(vm);
		UNTIL(domain->status->vms == 0);
	}
}

struct spinner {
	struct domain *domain;
	atomic_bool stop;
	atomic_uint done, refused, odd;
	unsigned int seed;
};

/* Moves core A from whoever has it to whoever is parked, as fast as it can, and kicks. */
static void *mover(void *arg)
{
	struct spinner *s = arg;
	struct kf_random random = {s->seed * 0x9e3779b97f4a7c15ULL};

	while (!atomic_load(&s->stop)) {
		uint32_t core = kf_below(&random, 2) ? CORE_A : CORE_B, owner = owner_of(s->domain, core);
		uint32_t other = handle(kf_below(&random, 2), kf_below(&random, 2));
		struct flux_kf_command one = {.op = owner ? FLUX_OP_MOVE : FLUX_OP_GRANT,
					      .core = core,
					      .from = owner,
					      .to = other,
					      .flags = owner && kf_below(&random, 2) ? FLUX_FLAG_KICK_NOW : 0,
					      .kick_after_us = kf_below(&random, 500),
					      .deadline_us = 10000000};
		int result = command(s->domain, one);

		if (result == 0)
			atomic_fetch_add(&s->done, 1);
		else if (result == -EBUSY || result == -EAGAIN || result == -EALREADY || result == -EINVAL ||
			 result == -ESRCH)
			atomic_fetch_add(&s->refused, 1);
		else
			atomic_fetch_add(&s->odd, 1);
	}
	return NULL;
}

CASE_LIMIT("9679e93: a thread is used again only when it has really been switched out", 120)
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vms[2] = {vm_with_workers(domain, 0, 2), vm_with_workers(domain, 1, 2)};
	struct spinner s[2] = {{.domain = domain, .seed = 3}, {.domain = domain, .seed = 5}};
	pthread_t threads[2];

	/* Two movers at once: a vCPU that has just left one core is granted the other. */
	for (int i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, mover, &s[i]);
	sleep(4);
	for (int i = 0; i < 2; i++) {
		atomic_store(&s[i].stop, true);
		pthread_join(threads[i], NULL);
		SAME(atomic_load(&s[i].odd), 0);
		CHECK(atomic_load(&s[i].done) > 10);
	}
	kf_note("%u moves done, %u refused", s[0].done + s[1].done, s[0].refused + s[1].refused);
	until_idle(domain, CORE_A);
	until_idle(domain, CORE_B);
	for (uint32_t slot = 0; slot < 2; slot++)
		for (uint32_t v = 0; v < 2; v++) {
			until_parked(domain, handle(slot, v));
			OK(grant(domain, CORE_A, handle(slot, v)));
			until_running(domain, handle(slot, v), CORE_A);
			until_idle(domain, CORE_A);
			SAME(atomic_load(&vms[slot]->worker[v]->wrong_core), 0);
			SAME(atomic_load(&vms[slot]->worker[v]->error), 0);
		}
}

CASE_LIMIT("362529a: a signal to an exiting task panicked: threads end while they are kicked", 120)
{
	struct domain *domain = domain_new(MASK_AB);

	for (unsigned int i = 0; i < kf_rounds(200); i++) {
		struct vm *vm = vm_with_workers(domain, 0, 2);
		struct worker *w = vm->worker[0];

		OK(grant(domain, CORE_A, A));
		UNTIL(atomic_load(&w->grants));
		atomic_store(&w->manner, i % 3 ? QUIT : LEAVE_FOR_GOOD);
		struct flux_kf_command one = {.op = FLUX_OP_MOVE,
					      .core = CORE_A,
					      .from = A,
					      .to = B,
					      .flags = FLUX_FLAG_KICK_NOW,
					      .deadline_us = 10000000};
		/* It is asked, or it was dead before: then the core is idle and B has it. */
		RESULT_IN(command(domain, one), 0, -EAGAIN, -ESRCH);
		/* It may have left as it was asked, before it looked at its manner: it dies with its next core. */
		UNTIL(state_of(domain, A) == FLUX_VCPU_DEAD ||
		      (state_of(domain, A) == FLUX_VCPU_PARKED && grant(domain, CORE_B, A) == -ESRCH));
		if (owner_of(domain, CORE_A) != B)
			RESULT_IN(grant(domain, CORE_A, B), 0, -EBUSY);
		until_running(domain, B, CORE_A);
		OK(kf_ioctl(vm->fd, FLUX_KF_END, NULL));
		worker_join(vm->worker[0]);
		worker_join(vm->worker[1]);
		vm_close(vm);
		UNTIL(domain->status->vms == 0);
	}
	CHECK(idle(domain, CORE_A));
}

static void nothing(int number)
{
	(void)number;
}

static void handle_usr1(int flags)
{
	struct sigaction action = {.sa_handler = nothing, .sa_flags = flags};

	sigaction(SIGUSR1, &action, NULL);
}

CASE("31101ff: a user signal in PARK: EINTR, still PARKED, off the managed cores, and it parks again")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_with_workers(domain, 0, 1);
	struct worker *w = vm->worker[0];
	uint64_t housekeeping = online_mask() & ~(uint64_t)MASK_AB;

	handle_usr1(0);
	/* Once with a core first, so that it had been pinned to a managed one. */
	OK(grant(domain, CORE_A, A));
	UNTIL(atomic_load(&w->grants) == 1);
	OK(park(domain, CORE_A, A));
	until_parked(domain, A);
	for (unsigned int i = 1; i <= 20; i++) {
		pthread_kill(w->thread, SIGUSR1);
		UNTIL(atomic_load(&w->signalled) == i);
		SAME(state_of(domain, A), FLUX_VCPU_PARKED);
		SAME(affinity_of(atomic_load(&w->tid)), housekeeping);
		SAME(atomic_load(&w->grants), 1);
		CHECK(idle(domain, CORE_A));
	}
	OK(grant(domain, CORE_B, A));
	until_running(domain, A, CORE_B);
	UNTIL(atomic_load(&w->grants) == 2);
	SAME(affinity_of(atomic_load(&w->tid)), 1ull << CORE_B);
	SAME(atomic_load(&w->wrong_core), 0);
}

CASE("31101ff: SA_RESTART restarts the park by itself")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_with_workers(domain, 0, 1);
	struct worker *w = vm->worker[0];

	handle_usr1(SA_RESTART);
	for (int i = 0; i < 20; i++) {
		pthread_kill(w->thread, SIGUSR1);
		usleep(2000);
	}
	SAME(atomic_load(&w->signalled), 0);
	SAME(state_of(domain, A), FLUX_VCPU_PARKED);
	OK(grant(domain, CORE_A, A));
	until_running(domain, A, CORE_A);
	UNTIL(atomic_load(&w->grants) == 1);
	SAME(affinity_of(atomic_load(&w->tid)), 1ull << CORE_A);
}

CASE_LIMIT("31101ff: signals and grants at the same time", 120)
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_with_workers(domain, 0, 1);
	struct worker *w = vm->worker[0];

	handle_usr1(0);
	for (unsigned int i = 1; i <= kf_rounds(500); i++) {
		pthread_kill(w->thread, SIGUSR1);
		OK(grant(domain, CORE_A, A));
		pthread_kill(w->thread, SIGUSR1);
		until_running(domain, A, CORE_A);
		UNTIL(atomic_load(&w->grants) == i);
		OK(park(domain, CORE_A, A));
		pthread_kill(w->thread, SIGUSR1);
		until_parked(domain, A);
	}
	SAME(atomic_load(&w->error), 0);
	SAME(atomic_load(&w->wrong_core), 0);
}

CASE("b86747c: a core whose owner has left is never reported as busy")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_with_workers(domain, 0, 2);

	for (unsigned int i = 0; i < kf_rounds(500); i++) {
		OK(grant(domain, CORE_A, A));
		until_running(domain, A, CORE_A);
		atomic_store(&vm->worker[0]->manner, YIELD);
		until_parked(domain, A);
		/* PARKED is published after the core went on. */
		CHECK(owner_of(domain, CORE_A) != A);
	}
}

CASE_LIMIT("e4335b0: late kicks and requests of older generations are told apart", 120)
{
	struct domain *domain = domain_new(MASK_AB);
	struct kvm_vm *kvm = kvm_vm_new(domain, 0, 1);
	struct guest *g = guest_running(kvm, 0, COUNTS);
	struct vm *other = vm_with_workers(domain, 1, 1);

	/*
	 * The owner is kicked by a move; by the time that the kick could be late, it has
	 * another tenure, of which that kick says nothing: it must not cost it that tenure.
	 */
	for (unsigned int i = 0; i < kf_rounds(300); i++) {
		uint32_t count;

		UNTIL(grant(domain, CORE_A, A) == 0);
		until_running(domain, A, CORE_A);
		struct flux_kf_command one = {.op = FLUX_OP_MOVE,
					      .core = CORE_A,
					      .from = A,
					      .to = C,
					      .flags = FLUX_FLAG_KICK_NOW | FLUX_KF_FLAG_GENERATION,
					      .generation = generation_of(domain, CORE_A),
					      .deadline_us = 10000000};
		OK(command(domain, one));
		UNTIL(owner_of(domain, CORE_A) == C);
		until_parked(domain, A);
		/* The same command again is about the past; that its target is not parked is as true. */
		RESULT_IN(command(domain, one), -EAGAIN, -EBUSY);
		OK(grant(domain, CORE_B, A));
		until_running(domain, A, CORE_B);
		count = guest_word(g, GUEST_COUNT);
		UNTIL(guest_word(g, GUEST_COUNT) != count);
		SAME(owner_of(domain, CORE_B), A);
		OK(park(domain, CORE_B, A));
		until_parked(domain, A);
		OK(park(domain, CORE_A, C));
		until_parked(domain, C);
	}
	SAME(atomic_load(&g->error), 0);
	CHECK(!atomic_load(&g->corrupt));
	SAME(atomic_load(&other->worker[0]->error), 0);
	guest_join(g);
}

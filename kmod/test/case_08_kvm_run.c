// SPDX-License-Identifier: GPL-2.0
/* RUN: exits, signals, and everything else that ends a stay in the guest. */
#define GROUP "kvm"
#include "guest.h"

#include <signal.h>
#include <sys/wait.h>

#define A handle(0, 0)
#define B handle(0, 1)

CASE("EXIT for what user space has to do, thousands of times, with a yield now and then")
{
	struct domain *domain = domain_new(MASK_AB);
	struct kvm_vm *kvm = kvm_vm_new(domain, 0, 1);
	struct guest *g = guest_running(kvm, 0, OUTS);

	until_parked(domain, A);
	OK(grant(domain, CORE_A, A));
	UNTIL(atomic_load(&g->exits) > 2000 / kf_opt.slow);
	SAME(g->last.reason, FLUX_KF_EXIT);
	atomic_store(&g->yield_exits, 50);
	for (int i = 0; i < 20; i++) {
		until_parked(domain, A);
		SAME(block_of(domain, A)->how, FLUX_HOW_YIELD);
		SAME(block_of(domain, A)->held, FLUX_HELD_NONE);
		OK(grant(domain, i % 2 ? CORE_A : CORE_B, A));
		UNTIL(state_of(domain, A) == FLUX_VCPU_RUNNING || idle(domain, i % 2 ? CORE_A : CORE_B));
	}
	guest_no_harm(g);
	guest_join(g);
}

CASE_LIMIT("kicks and exits cross: the guest's io is neither lost nor done twice", 180)
{
	struct domain *domain = domain_new(MASK_AB);
	struct kvm_vm *kvm = kvm_vm_new(domain, 0, 1);
	struct guest *g = guest_running(kvm, 0, OUTS);

	until_parked(domain, A);
	for (unsigned int i = 0; i < 200 / kf_opt.slow + 10; i++) {
		OK(grant(domain, i % 2 ? CORE_A : CORE_B, A));
		guest_counts(g);
		OK(kick_move(domain, i % 2 ? CORE_A : CORE_B, A, 0));
		until_parked(domain, A);
		/* The count is made before the exit of the same round. */
		CHECK(guest_word(g, GUEST_COUNT) - atomic_load(&g->exits) <= 1);
	}
	guest_no_harm(g);
	guest_join(g);
}

CASE("SIGNAL for a real signal: the handler runs, the guest goes on, the core stays")
{
	struct domain *domain = domain_new(MASK_AB);
	struct kvm_vm *kvm = kvm_vm_new(domain, 0, 1);
	struct guest *g = guest_running(kvm, 0, COUNTS);

	until_parked(domain, A);
	OK(grant(domain, CORE_A, A));
	for (unsigned int i = 1; i <= 30; i++) {
		guest_counts(g);
		pthread_kill(g->thread, SIGUSR1);
		UNTIL(atomic_load(&g->signals) == i);
		SAME(owner_of(domain, CORE_A), A);
		SAME(state_of(domain, A), FLUX_VCPU_RUNNING);
	}
	guest_no_harm(g);
	guest_join(g);
}

CASE("a signal while RUN is parked: EINTR, and the next RUN sleeps on")
{
	struct domain *domain = domain_new(MASK_AB);
	struct kvm_vm *kvm = kvm_vm_new(domain, 0, 1);
	struct guest *g = guest_running(kvm, 0, COUNTS);

	until_parked(domain, A);
	OK(grant(domain, CORE_A, A));
	guest_counts(g);
	OK(kick_move(domain, CORE_A, A, 0));
	until_parked(domain, A);
	for (unsigned int i = 1; i <= 10; i++) {
		pthread_kill(g->thread, SIGUSR1);
		UNTIL(atomic_load(&g->signals) == i);
		SAME(state_of(domain, A), FLUX_VCPU_PARKED);
		guest_stands_still(g);
	}
	OK(grant(domain, CORE_B, A));
	until_running(domain, A, CORE_B);
	guest_counts(g);
	guest_no_harm(g);
	guest_join(g);
}

CASE_LIMIT("signals, kicks and grants all at once", 180)
{
	struct domain *domain = domain_new(MASK_AB);
	struct kvm_vm *kvm = kvm_vm_new(domain, 0, 1);
	struct guest *g = guest_running(kvm, 0, COUNTS);

	until_parked(domain, A);
	for (unsigned int i = 0; i < 200 / kf_opt.slow + 10; i++) {
		UNTIL(grant(domain, CORE_A, A) == 0);
		pthread_kill(g->thread, SIGUSR1);
		OK(kick_move(domain, CORE_A, A, 0));
		pthread_kill(g->thread, SIGUSR1);
		until_parked(domain, A);
	}
	OK(grant(domain, CORE_A, A));
	guest_counts(g);
	guest_no_harm(g);
	guest_join(g);
}

CASE("a kick of KVM's own sigmask is a SIGNAL, not a park")
{
	struct domain *domain = domain_new(MASK_AB);
	struct kvm_vm *kvm = kvm_vm_new(domain, 0, 1);
	struct guest *g = guest_new(kvm, 0, COUNTS);
	struct {
		struct kvm_signal_mask head;
		uint64_t set;
	} mask = {.head = {.len = 8}, .set = 0};
	sigset_t blocked;

	/* SIGUSR1 is blocked by the thread and open inside of KVM_RUN, as a VMM without handlers does it. */
	CHECK(ioctl(g->fd, KVM_SET_SIGNAL_MASK, &mask) == 0);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, &blocked, NULL);
	guest_start(g);
	until_parked(domain, A);
	OK(grant(domain, CORE_A, A));
	guest_counts(g);
	pthread_kill(g->thread, SIGUSR2);
	UNTIL(atomic_load(&g->signals) > 0);
	SAME(owner_of(domain, CORE_A), A);
	SAME(state_of(domain, A), FLUX_VCPU_RUNNING);
	atomic_store(&g->stop, true);
	guest_join(g);
}

CASE("a request that is there before RUN ever enters: left ENTRY, the guest did not run")
{
	struct domain *domain = domain_new(MASK_AB);
	struct kvm_vm *kvm = kvm_vm_new(domain, 0, 1);
	struct guest *g = guest_here(domain, kvm, COUNTS);
	struct flux_kf_turn turn;

	/* It stands at a door, in FluxOS's own code. */
	guest_set(g, GUEST_CRITICAL, 1);
	OK(ask(domain, CORE_A, A, 0));
	grant_when_parked(domain);
	OK(vm_run(kvm->vm, 0, &turn));
	SAME(turn.reason, FLUX_KF_GRANTED);
	SAME(turn.left, FLUX_HOW_ENTRY);
	SAME(turn.core, CORE_B);
	SAME(guest_word(g, GUEST_COUNT), 0);
	SAME(kvm->vm->page[0].held, FLUX_HELD_NONE);
	SAME(sched_getcpu(), CORE_B);
}

CASE("the same in application code: nobody is parked there without a mark, or the guest never began")
{
	struct domain *domain = domain_new(MASK_AB);
	struct kvm_vm *kvm = kvm_vm_new(domain, 0, 1);
	struct guest *g = guest_here(domain, kvm, COUNTS);
	struct flux_kf_turn turn;

	OK(ask(domain, CORE_A, A, 0));
	grant_when_parked(domain);
	OK(vm_run(kvm->vm, 0, &turn));
	SAME(turn.reason, FLUX_KF_GRANTED);
	SAME(guest_word(g, GUEST_COUNT), 0);
	if (turn.left == FLUX_HOW_ENTRY)
		SAME(kvm->vm->page[0].held, FLUX_HELD_NONE);
	else {
		SAME(turn.left, FLUX_HOW_KICKED);
		SAME(kvm->vm->page[0].held, FLUX_HELD_HELD);
	}
}

CASE("a request between two RUNs of one tenure: critical code goes on, application code is held")
{
	struct domain *domain = domain_new(MASK_AB);
	struct kvm_vm *kvm = kvm_vm_new(domain, 0, 1);
	struct guest *g = guest_here(domain, kvm, OUTS);
	struct flux_kf_turn turn;

	OK(vm_run(kvm->vm, 0, &turn));
	SAME(turn.reason, FLUX_KF_EXIT);
	SAME(guest_word(g, GUEST_COUNT), 1);
	guest_set(g, GUEST_CRITICAL, 1);
	grant_when_parked(domain);
	/* Asked while its thread is in user space, on account of an exit like any other. */
	OK(ask(domain, CORE_A, A, 0));
	for (uint32_t i = 2; i < 10; i++) {
		OK(vm_run(kvm->vm, 0, &turn));
		SAME(turn.reason, FLUX_KF_EXIT);
		SAME(guest_word(g, GUEST_COUNT), i);
		SAME(state_of(domain, A), FLUX_VCPU_CEDING);
		SAME(owner_of(domain, CORE_A), A);
	}
	guest_set(g, GUEST_CRITICAL, 0);
	/* RUN itself sees the request; a guest that goes on is parked where it stands sooner or later. */
	do
		OK(vm_run(kvm->vm, 0, &turn));
	while (turn.reason == FLUX_KF_EXIT);
	SAME(turn.reason, FLUX_KF_GRANTED);
	CHECK(turn.left == FLUX_HOW_KICKED || turn.left == FLUX_HOW_FORCED);
	SAME(kvm->vm->page[0].held, FLUX_HELD_HELD);
}

CASE("RUN without a core parks instead of entering the guest")
{
	struct domain *domain = domain_new(MASK_AB);
	struct kvm_vm *kvm = kvm_vm_new(domain, 0, 1);
	struct guest *g = guest_new(kvm, 0, COUNTS);
	struct flux_kf_turn turn;

	OK(guest_register(g));
	pid_t arbiter = fork();
	if (arbiter == 0) {
		usleep(50000);
		SAME(guest_word(g, GUEST_COUNT), 0);
		UNTIL(grant(domain, CORE_A, A) == 0);
		_exit(0);
	}
	OK(vm_run(kvm->vm, 0, &turn));
	SAME(turn.reason, FLUX_KF_GRANTED);
	SAME(turn.core, CORE_A);
	SAME(guest_word(g, GUEST_COUNT), 0);
}

CASE("resumed after a force, and asked before it ran: it leaves, marked as it was")
{
	struct domain *domain = domain_new(MASK_AB);
	struct kvm_vm *kvm = kvm_vm_new(domain, 0, 1);
	struct guest *g = guest_here(domain, kvm, COUNTS);
	struct flux_kf_turn turn;
	uint32_t count;

	pid_t arbiter = fork();
	if (arbiter == 0) {
		UNTIL(guest_word(g, GUEST_COUNT) > 100);
		guest_set(g, GUEST_CRITICAL, 1);
		OK(kick_move(domain, CORE_A, A, 0));
		OK(force(domain, CORE_A, A));
		UNTIL(state_of(domain, A) == FLUX_VCPU_PARKED);
		OK(grant(domain, CORE_B, A));
		_exit(0);
	}
	OK(vm_run(kvm->vm, 0, &turn));
	CHECK(waitpid(arbiter, NULL, 0) == arbiter);
	count = guest_word(g, GUEST_COUNT);
	for (int i = 0; i < 3; i++) {
		SAME(turn.reason, FLUX_KF_GRANTED);
		SAME(turn.left, i ? FLUX_HOW_ENTRY : FLUX_HOW_FORCED);
		SAME(kvm->vm->page[0].held, FLUX_HELD_FORCED);
		/* Its VMM resumes it. */
		__atomic_store_n(&kvm->vm->page[0].held, FLUX_HELD_NONE, __ATOMIC_SEQ_CST);
		OK(ask(domain, CORE_B, A, 0));
		grant_when_parked(domain);
		OK(vm_run(kvm->vm, 0, &turn));
		SAME(guest_word(g, GUEST_COUNT), count);
	}
	/* In application code it is held like any other. */
	__atomic_store_n(&kvm->vm->page[0].held, FLUX_HELD_NONE, __ATOMIC_SEQ_CST);
	guest_set(g, GUEST_CRITICAL, 0);
	OK(ask(domain, CORE_B, A, 0));
	grant_when_parked(domain);
	OK(vm_run(kvm->vm, 0, &turn));
	SAME(turn.left, FLUX_HOW_KICKED);
	SAME(kvm->vm->page[0].held, FLUX_HELD_HELD);
}

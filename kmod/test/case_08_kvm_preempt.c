// SPDX-License-Identifier: GPL-2.0
/* PREEMPT of real KVM vCPUs: RUN comes back, the core stays, and a request for the core goes first. */
#define GROUP "kvm"
#include "guest.h"

#include <signal.h>
#include <sys/wait.h>

#define A handle(0, 0)
#define B handle(0, 1)

/* On its core, with nothing held and no request. */
static void still_runs(struct domain *domain, struct guest *g, uint32_t core)
{
	SAME(owner_of(domain, core), guest_handle(g));
	SAME(successor_of(domain, core), 0);
	SAME(state_of(domain, guest_handle(g)), FLUX_VCPU_RUNNING);
	SAME(block_of(domain, guest_handle(g))->held, FLUX_HELD_NONE);
}

/* Its RUN comes back and is called anew: what had been waiting is seen by then. */
static void comes_round(struct guest *g)
{
	unsigned int signals = atomic_load(&g->signals);

	pthread_kill(g->thread, SIGUSR1);
	UNTIL(atomic_load(&g->signals) > signals);
	guest_counts(g);
}

CASE("PREEMPT of a guest that spins: RUN comes back with it, and the vCPU goes on where it was")
{
	struct domain *domain = domain_new(MASK_AB);
	struct kvm_vm *kvm = kvm_vm_new(domain, 0, 1);
	struct guest *g = guest_running(kvm, 0, COUNTS);
	uint64_t kicks = domain->status->kicks;
	uint32_t generation;

	until_parked(domain, A);
	OK(grant(domain, CORE_A, A));
	generation = generation_of(domain, CORE_A);
	for (uint32_t i = 1; i <= 50; i++) {
		guest_counts(g);
		OK(preempt(domain, CORE_A, A, 0xfffffff0 + i));
		SAME(block_of(domain, A)->preempt, 0xfffffff0 + i);
		UNTIL(atomic_load(&g->preempts) == i);
		SAME(g->last.core, CORE_A);
		SAME(g->last.left, 0);
		SAME(block_of(domain, A)->preempts, i);
		still_runs(domain, g, CORE_A);
	}
	guest_counts(g);
	SAME(generation_of(domain, CORE_A), generation);
	SAME(atomic_load(&g->grants), 1);
	SAME(block_of(domain, A)->parks, 0);
	SAME(block_of(domain, A)->kicks, 0);
	SAME(block_of(domain, A)->stale, 0);
	SAME(domain->status->kicks, kicks);
	guest_no_harm(g);
	guest_join(g);
}

CASE("a critical guest is left to see PREEMPT itself; nothing comes of it later")
{
	struct domain *domain = domain_new(MASK_AB);
	struct kvm_vm *kvm = kvm_vm_new(domain, 0, 1);
	struct guest *g = guest_running(kvm, 0, COUNTS);
	uint64_t before;

	until_parked(domain, A);
	OK(grant(domain, CORE_A, A));
	guest_counts(g);
	guest_set(g, GUEST_CRITICAL, 1);
	before = __builtin_ia32_rdtsc();
	OK(preempt(domain, CORE_A, A, 7));
	/* The kick has been there. */
	UNTIL(block_of(domain, A)->t_seen > before && block_of(domain, A)->t_enter > before);
	guest_counts(g);
	guest_set(g, GUEST_CRITICAL, 0);
	comes_round(g);
	SAME(atomic_load(&g->preempts), 0);
	SAME(block_of(domain, A)->preempts, 0);
	SAME(block_of(domain, A)->stale, 0);
	CHECK(atomic_load(&g->kicks) >= 1);
	still_runs(domain, g, CORE_A);
	guest_no_harm(g);
	guest_join(g);
}

CASE_LIMIT("a guest that is critical now and then is never interrupted by PREEMPT while it is", 180)
{
	struct domain *domain = domain_new(MASK_AB);
	struct kvm_vm *kvm = kvm_vm_new(domain, 0, 1);
	struct guest *g = guest_running(kvm, 0, CRITICAL_NOW_AND_THEN);
	uint32_t number = 0;

	until_parked(domain, A);
	OK(grant(domain, CORE_A, A));
	while (atomic_load(&g->preempts) < 100 / kf_opt.slow + 5) {
		guest_counts(g);
		OK(preempt(domain, CORE_A, A, ++number));
	}
	guest_no_harm(g);
	kf_note("%u of %u met application code", atomic_load(&g->preempts), number);
	guest_join(g);
}

CASE("PREEMPT with ASK_ONLY does not kick; what RUN finds when it comes by, it does")
{
	struct domain *domain = domain_new(MASK_AB);
	struct kvm_vm *kvm = kvm_vm_new(domain, 0, 1);
	struct guest *g = guest_running(kvm, 0, COUNTS);
	uint64_t entered;

	until_parked(domain, A);
	OK(grant(domain, CORE_A, A));
	guest_counts(g);
	entered = block_of(domain, A)->t_enter;
	OK(command(domain, (struct flux_kf_command){.op = FLUX_OP_PREEMPT,
						    .core = CORE_A,
						    .from = A,
						    .to = 5,
						    .flags = FLUX_FLAG_ASK_ONLY}));
	guest_counts(g);
	/* The host may interrupt the guest for its own reasons, but then RUN says so. */
	CHECK(block_of(domain, A)->t_enter == entered || atomic_load(&g->preempts) == 1);
	comes_round(g);
	SAME(atomic_load(&g->preempts), 1);
	SAME(block_of(domain, A)->preempt, 5);
	still_runs(domain, g, CORE_A);
	guest_no_harm(g);
	guest_join(g);
}

CASE("PREEMPT between two RUNs: the next one finishes the exit, and comes back before the guest goes on")
{
	struct domain *domain = domain_new(MASK_AB);
	struct kvm_vm *kvm = kvm_vm_new(domain, 0, 1);
	struct guest *g = guest_here(domain, kvm, OUTS);
	struct flux_kf_turn turn;
	struct kvm_regs at, after;

	/* A guest that has never run has nobody to give way. */
	OK(preempt(domain, CORE_A, A, 1));
	OK(vm_run(kvm->vm, 0, &turn));
	SAME(turn.reason, FLUX_KF_EXIT);
	SAME(guest_word(g, GUEST_COUNT), 1);
	for (uint32_t i = 1; i < 10; i++) {
		CHECK(ioctl(g->fd, KVM_GET_REGS, &at) == 0);
		OK(preempt(domain, CORE_A, A, i));
		OK(vm_run(kvm->vm, 0, &turn));
		SAME(turn.reason, FLUX_KF_PREEMPT);
		SAME(guest_word(g, GUEST_COUNT), i);
		CHECK(ioctl(g->fd, KVM_GET_REGS, &after) == 0);
		/* Behind the `out`, or KVM had stepped over it with the exit already. */
		CHECK(after.rip == at.rip || after.rip == at.rip + 2);
		SAME(kvm->vm->page[0].preempts, i);
		still_runs(domain, g, CORE_A);
		OK(vm_run(kvm->vm, 0, &turn));
		SAME(turn.reason, FLUX_KF_EXIT);
		SAME(guest_word(g, GUEST_COUNT), i + 1);
	}
}

CASE("PREEMPT before RUN tells of the grant: GRANTED first, then PREEMPT")
{
	struct domain *domain = domain_new(MASK_AB);
	struct kvm_vm *kvm = kvm_vm_new(domain, 0, 1);
	struct guest *g = guest_here(domain, kvm, OUTS);
	struct flux_kf_turn turn;

	OK(vm_run(kvm->vm, 0, &turn));
	pid_t arbiter = fork();
	if (arbiter == 0) {
		UNTIL(state_of(domain, A) == FLUX_VCPU_PARKED);
		OK(grant(domain, CORE_B, A));
		OK(preempt(domain, CORE_B, A, 3));
		_exit(0);
	}
	OK(vm_park(kvm->vm, 0, FLUX_HOW_YIELD, &turn));
	SAME(turn.reason, FLUX_KF_GRANTED);
	UNTIL(kvm->vm->page[0].preempt == 3);
	OK(vm_run(kvm->vm, 0, &turn));
	SAME(turn.reason, FLUX_KF_PREEMPT);
	SAME(turn.core, CORE_B);
	SAME(guest_word(g, GUEST_COUNT), 1);
	CHECK(waitpid(arbiter, NULL, 0) == arbiter);
}

/* A second program beside the first: what the VMM redirects the guest to. */
#define ELSEWHERE 0x1800
static void elsewhere(struct guest *g)
{
	/* 1: incl 0x2010; jmp 1b; in 16 bits */
	static const uint8_t code[] = {0x66, 0xff, 0x06, 0x10, 0x20, 0xeb, 0xf9};

	memcpy((char *)g->memory + ELSEWHERE, code, sizeof(code));
}
#define ELSEWHERE_COUNT 0x2010

/* By kvm_run, as Fluxion does it: KVM has the new registers with the next KVM_RUN only. */
static void redirect(struct guest *g)
{
	g->run->s.regs.regs.rip = ELSEWHERE;
	g->run->kvm_dirty_regs = KVM_SYNC_X86_REGS;
}

CASE("the VMM changes registers after PREEMPT: the guest goes on with those")
{
	struct domain *domain = domain_new(MASK_AB);
	struct kvm_vm *kvm = kvm_vm_new(domain, 0, 1);
	struct guest *g = guest_here(domain, kvm, OUTS);
	struct flux_kf_turn turn;

	elsewhere(g);
	g->run->kvm_valid_regs = KVM_SYNC_X86_REGS;
	OK(vm_run(kvm->vm, 0, &turn));
	OK(preempt(domain, CORE_A, A, 1));
	OK(vm_run(kvm->vm, 0, &turn));
	SAME(turn.reason, FLUX_KF_PREEMPT);
	redirect(g);
	pid_t arbiter = fork();
	if (arbiter == 0) {
		UNTIL(guest_word(g, ELSEWHERE_COUNT) > 100);
		OK(preempt(domain, CORE_A, A, 2));
		_exit(0);
	}
	OK(vm_run(kvm->vm, 0, &turn));
	SAME(turn.reason, FLUX_KF_PREEMPT);
	CHECK(guest_word(g, ELSEWHERE_COUNT) > 100);
	SAME(guest_word(g, GUEST_COUNT), 1);
	CHECK(waitpid(arbiter, NULL, 0) == arbiter);
}

CASE("...and is asked to leave before it goes on: what is held has the new registers, in application code")
{
	struct domain *domain = domain_new(MASK_AB);
	struct kvm_vm *kvm = kvm_vm_new(domain, 0, 1);
	struct guest *g = guest_here(domain, kvm, OUTS);
	struct flux_kf_turn turn;
	struct kvm_regs regs;

	elsewhere(g);
	g->run->kvm_valid_regs = KVM_SYNC_X86_REGS;
	OK(vm_run(kvm->vm, 0, &turn));
	OK(preempt(domain, CORE_A, A, 1));
	OK(vm_run(kvm->vm, 0, &turn));
	SAME(turn.reason, FLUX_KF_PREEMPT);
	redirect(g);
	OK(ask(domain, CORE_A, A, 0));
	grant_when_parked(domain);
	OK(vm_run(kvm->vm, 0, &turn));
	SAME(turn.reason, FLUX_KF_GRANTED);
	SAME(turn.left, FLUX_HOW_KICKED);
	SAME(turn.core, CORE_B);
	SAME(kvm->vm->page[0].held, FLUX_HELD_HELD);
	/* A thief would read them now. */
	CHECK(ioctl(g->fd, KVM_GET_REGS, &regs) == 0);
	SAME(regs.rip, ELSEWHERE);
	SAME(guest_word(g, ELSEWHERE_COUNT), 0);
}

CASE("...in FluxOS's own code: it goes on, and is parked there by force only")
{
	struct domain *domain = domain_new(MASK_AB);
	struct kvm_vm *kvm = kvm_vm_new(domain, 0, 1);
	struct guest *g = guest_here(domain, kvm, OUTS);
	struct flux_kf_turn turn;

	elsewhere(g);
	g->run->kvm_valid_regs = KVM_SYNC_X86_REGS;
	OK(vm_run(kvm->vm, 0, &turn));
	OK(preempt(domain, CORE_A, A, 1));
	OK(vm_run(kvm->vm, 0, &turn));
	SAME(turn.reason, FLUX_KF_PREEMPT);
	redirect(g);
	guest_set(g, GUEST_CRITICAL, 1);
	OK(ask(domain, CORE_A, A, 0));
	pid_t arbiter = fork();
	if (arbiter == 0) {
		UNTIL(guest_word(g, ELSEWHERE_COUNT) > 100);
		SAME(owner_of(domain, CORE_A), A);
		OK(force(domain, CORE_A, A));
		UNTIL(state_of(domain, A) == FLUX_VCPU_PARKED);
		OK(grant(domain, CORE_B, A));
		_exit(0);
	}
	OK(vm_run(kvm->vm, 0, &turn));
	SAME(turn.reason, FLUX_KF_GRANTED);
	SAME(turn.left, FLUX_HOW_FORCED);
	SAME(kvm->vm->page[0].held, FLUX_HELD_FORCED);
	CHECK(guest_word(g, ELSEWHERE_COUNT) > 100);
	CHECK(waitpid(arbiter, NULL, 0) == arbiter);
}

CASE("a preemption that waits ends with the tenure: by yield, by park, by the lease")
{
	struct domain *domain = domain_new(MASK_AB);
	struct kvm_vm *kvm = kvm_vm_new(domain, 0, 1);
	struct guest *g = guest_here(domain, kvm, OUTS);
	struct flux_kf_turn turn;
	uint32_t count = 1, epoch;

	OK(vm_run(kvm->vm, 0, &turn));
	SAME(turn.reason, FLUX_KF_EXIT);
	/* By yield. */
	OK(preempt(domain, CORE_A, A, 1));
	grant_when_parked(domain);
	OK(vm_park(kvm->vm, 0, FLUX_HOW_YIELD, &turn));
	SAME(turn.reason, FLUX_KF_GRANTED);
	OK(vm_run(kvm->vm, 0, &turn));
	SAME(turn.reason, FLUX_KF_EXIT);
	SAME(guest_word(g, GUEST_COUNT), ++count);
	/* By a park that comes after it and goes first. */
	OK(preempt(domain, CORE_B, A, 2));
	OK(ask(domain, CORE_B, A, 0));
	grant_when_parked(domain);
	OK(vm_run(kvm->vm, 0, &turn));
	SAME(turn.reason, FLUX_KF_GRANTED);
	SAME(turn.left, FLUX_HOW_KICKED);
	OK(vm_run(kvm->vm, 0, &turn));
	SAME(turn.reason, FLUX_KF_EXIT);
	SAME(guest_word(g, GUEST_COUNT), ++count);
	/* By the lease, and the vCPU comes back under the next one. */
	OK(preempt(domain, CORE_B, A, 3));
	OK(kf_ioctl(domain->fd, FLUX_KF_RELEASE, NULL));
	OK(kf_claim(domain->fd, MASK_AB, 60000, 0, &epoch));
	OK(vm_run(kvm->vm, 0, &turn));
	SAME(turn.reason, FLUX_KF_UNMANAGED);
	OK(vm_run(kvm->vm, 0, &turn));
	SAME(turn.reason, FLUX_KF_EXIT);
	SAME(guest_word(g, GUEST_COUNT), ++count);
	OK(kf_ioctl(kvm->vm->fd, FLUX_KF_MANAGE, NULL));
	grant_when_parked(domain);
	OK(vm_park(kvm->vm, 0, FLUX_HOW_ASKED, &turn));
	SAME(turn.reason, FLUX_KF_GRANTED);
	OK(vm_run(kvm->vm, 0, &turn));
	SAME(turn.reason, FLUX_KF_EXIT);
	SAME(guest_word(g, GUEST_COUNT), ++count);
	SAME(kvm->vm->page[0].preempts, 0);
}

/* Until it is killed: PREEMPT of both vCPUs, on either core, as fast as it goes. */
static pid_t preempts_for_ever(struct domain *domain)
{
	pid_t child = fork();

	if (child)
		return child;
	for (uint32_t i = 0;; i++) {
		struct flux_kf_command one = {.op = FLUX_OP_PREEMPT,
					      .core = i & 1 ? CORE_A : CORE_B,
					      .from = i & 2 ? A : B,
					      .to = i,
					      .flags = i % 7 == 0 ? FLUX_FLAG_ASK_ONLY : 0};

		RESULT_IN(command(domain, one), 0, -EAGAIN, -EALREADY);
		if (i % 16 == 0)
			usleep(100);
	}
}

CASE_LIMIT("PREEMPT crosses kicked moves, parks and forces: nobody is lost, no register is", 240)
{
	struct domain *domain = domain_new(MASK_AB);
	struct kvm_vm *kvm = kvm_vm_new(domain, 0, 2);
	struct guest *g[2] = {guest_running(kvm, 0, COUNTS), guest_running(kvm, 1, COUNTS)};
	unsigned int rounds = 300 / kf_opt.slow + 10;
	pid_t child;

	until_parked(domain, A);
	until_parked(domain, B);
	child = preempts_for_ever(domain);
	OK(grant(domain, CORE_A, A));
	for (unsigned int i = 0; i < rounds; i++) {
		uint32_t from = i % 2 ? B : A, to = i % 2 ? A : B;

		guest_counts(g[i % 2]);
		if (i % 3 == 0) {
			OK(kick_move(domain, CORE_A, from, 0));
			/* It may be too late for a force. */
			RESULT_IN(force(domain, CORE_A, from), 0, -EAGAIN);
			until_parked(domain, from);
			OK(grant(domain, CORE_A, to));
		} else {
			OK(kick_move(domain, CORE_A, from, to));
		}
		until_running(domain, to, CORE_A);
		until_parked(domain, from);
	}
	guest_counts(g[rounds % 2]);
	/* Alone with it, the last one is interrupted as well. */
	UNTIL(atomic_load(&g[rounds % 2]->preempts) > 0);
	kill(child, SIGKILL);
	CHECK(waitpid(child, NULL, 0) == child);
	for (int v = 0; v < 2; v++) {
		guest_no_harm(g[v]);
		guest_join(g[v]);
		SAME(atomic_load(&g[v]->preempts), block_of(domain, handle(0, v))->preempts);
	}
	kf_note("%u and %u preemptions in %u moves", atomic_load(&g[0]->preempts), atomic_load(&g[1]->preempts),
		rounds);
}

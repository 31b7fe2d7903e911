// SPDX-License-Identifier: GPL-2.0
/* How cores change hands when nothing goes wrong: the bridge's contract, on the kernel itself. */
#define GROUP "hand-over"
#include "world.h"

#define A handle(0, 0)
#define B handle(0, 1)

CASE("a grant gives an idle core to a parked vCPU, and its thread runs there, only there")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_running(domain);
	struct worker *w = vm->worker[0];

	SAME((uint32_t)core_word(domain, CORE_A), A);
	SAME(affinity_of(atomic_load(&w->tid)), 1ull << CORE_A);
	SAME(block_of(domain, A)->pinned, CORE_A);
	SAME(block_of(domain, A)->tid, atomic_load(&w->tid));
	SAME(block_of(domain, A)->grants, 1);
	SAME(atomic_load(&w->core), CORE_A);
	SAME(atomic_load(&w->wrong_core), 0);
}

CASE("a move hands the core over when its owner has left")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_running(domain);

	worker_be(vm->worker[0], STUBBORN);
	OK(ask(domain, CORE_A, A, B));
	SAME((uint32_t)core_word(domain, CORE_A), A | B << 16);
	SAME(state_of(domain, B), FLUX_VCPU_GRANTING);
	SAME(core_of(domain, B), CORE_A);
	SAME(state_of(domain, A), FLUX_VCPU_CEDING);
	atomic_store(&vm->worker[0]->manner, OBEY);
	until_parked(domain, A);
	until_running(domain, B, CORE_A);
	SAME((uint32_t)core_word(domain, CORE_A), B);
	SAME(block_of(domain, A)->how, FLUX_HOW_ASKED);
}

CASE("a park leaves the core idle, even if it has an heir")
{
	struct domain *domain = domain_new(MASK_AB);

	vm_running(domain);
	OK(heir(domain, CORE_A, B));
	OK(park(domain, CORE_A, A));
	until_parked(domain, A);
	UNTIL(idle(domain, CORE_A));
	SAME(state_of(domain, B), FLUX_VCPU_PARKED);
}

CASE("each change of hands raises the generation")
{
	struct domain *domain = domain_new(MASK_AB);
	uint32_t before = generation_of(domain, CORE_A);

	vm_running(domain);
	SAME(generation_of(domain, CORE_A) - before, 1);
	OK(park(domain, CORE_A, A));
	until_parked(domain, A);
	SAME(generation_of(domain, CORE_A) - before, 3);
}

CASE("a yield gives the core to the heir, with no command")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_running(domain);
	uint64_t commands;

	OK(heir(domain, CORE_A, B));
	SAME(domain->core[CORE_A].heir, B);
	commands = domain->status->commands;
	atomic_store(&vm->worker[0]->manner, YIELD);
	until_running(domain, B, CORE_A);
	until_parked(domain, A);
	SAME(domain->status->commands, commands);
	SAME(domain->core[CORE_A].yields, 1);
	SAME(block_of(domain, A)->yields, 1);
	SAME(block_of(domain, A)->how, FLUX_HOW_YIELD);
}

CASE("a yield without an heir leaves the core idle; an heir can be taken back")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_running(domain);

	OK(heir(domain, CORE_A, B));
	OK(heir(domain, CORE_A, 0));
	SAME(domain->core[CORE_A].heir, 0);
	atomic_store(&vm->worker[0]->manner, YIELD);
	until_parked(domain, A);
	CHECK(idle(domain, CORE_A));
	SAME(state_of(domain, B), FLUX_VCPU_PARKED);
}

CASE("an heir that has a core elsewhere does not inherit")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_running(domain);

	OK(heir(domain, CORE_A, B));
	OK(grant(domain, CORE_B, B));
	until_running(domain, B, CORE_B);
	atomic_store(&vm->worker[0]->manner, YIELD);
	until_parked(domain, A);
	CHECK(idle(domain, CORE_A));
	SAME(owner_of(domain, CORE_B), B);
}

CASE("a vCPU that is its own core's heir gets it back at once, and does not sleep")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_running(domain);
	struct worker *w = vm->worker[0];

	OK(heir(domain, CORE_A, A));
	for (unsigned int i = 2; i < 20; i++) {
		atomic_store(&w->manner, YIELD);
		UNTIL(atomic_load(&w->grants) == i || idle(domain, CORE_A));
		if (idle(domain, CORE_A)) {
			/* To be refused is as right: nobody is there to inherit at that moment. */
			until_parked(domain, A);
			OK(grant(domain, CORE_A, A));
			UNTIL(atomic_load(&w->grants) == i);
		}
	}
	until_running(domain, A, CORE_A);
	SAME(atomic_load(&w->error), 0);
}

CASE("a vCPU that is granted before it gets to PARK returns at once")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_new(domain, 0, 1);
	struct flux_kf_turn turn;

	OK(vm_register(vm, 0, 0));
	SAME(state_of(domain, A), FLUX_VCPU_PARKED);
	OK(grant(domain, CORE_A, A));
	OK(vm_park(vm, 0, FLUX_HOW_ENTRY, &turn));
	SAME(turn.reason, FLUX_KF_GRANTED);
	SAME(turn.core, CORE_A);
	SAME(sched_getcpu(), CORE_A);
}

CASE("PARK of a running vCPU whose core nobody wants is a yield: it is granted again later")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_running(domain);

	atomic_store(&vm->worker[0]->manner, YIELD);
	until_parked(domain, A);
	OK(grant(domain, CORE_B, A));
	until_running(domain, A, CORE_B);
	UNTIL(atomic_load(&vm->worker[0]->core) == CORE_B);
	SAME(affinity_of(atomic_load(&vm->worker[0]->tid)), 1ull << CORE_B);
	SAME(atomic_load(&vm->worker[0]->wrong_core), 0);
}

CASE("a move whose owner has yielded already still gives the core to its successor")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_running(domain);

	atomic_store(&vm->worker[0]->manner, YIELD);
	until_parked(domain, A);
	OK(move(domain, CORE_A, A, B));
	until_running(domain, B, CORE_A);
	SAME((uint32_t)core_word(domain, CORE_A), B);
}

CASE("a park whose owner has yielded already has nothing to do")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_running(domain);

	atomic_store(&vm->worker[0]->manner, YIELD);
	until_parked(domain, A);
	OK(park(domain, CORE_A, A));
	CHECK(idle(domain, CORE_A));
}

CASE("busy: a target that is not parked is refused, and nothing changes")
{
	struct domain *domain = domain_new(MASK_AB);

	vm_running(domain);
	OK(grant(domain, CORE_B, B));
	until_running(domain, B, CORE_B);
	RESULT(move(domain, CORE_A, A, B), -EBUSY);
	RESULT(grant(domain, CORE_B, A), -EBUSY);
	SAME((uint32_t)core_word(domain, CORE_A), A);
	SAME((uint32_t)core_word(domain, CORE_B), B);
}

CASE("wrong owner: EAGAIN, and the target stays parked")
{
	struct domain *domain = domain_new(MASK_AB);

	vm_running(domain);
	vm_with_workers(domain, 1, 2);
	RESULT(move(domain, CORE_A, handle(1, 0), B), -EAGAIN);
	RESULT(park(domain, CORE_A, B), -EAGAIN);
	RESULT(grant(domain, CORE_A, B), -EAGAIN);
	SAME(state_of(domain, B), FLUX_VCPU_PARKED);
	SAME((uint32_t)core_word(domain, CORE_A), A);
}

CASE("a request in flight: a second one is refused, and its target stays parked")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_running(domain);

	vm_with_workers(domain, 1, 1);
	worker_be(vm->worker[0], STUBBORN);
	OK(ask(domain, CORE_A, A, B));
	RESULT(move(domain, CORE_A, A, handle(1, 0)), -EALREADY);
	RESULT(park(domain, CORE_A, A), -EALREADY);
	SAME(state_of(domain, handle(1, 0)), FLUX_VCPU_PARKED);
	SAME(successor_of(domain, CORE_A), B);
	atomic_store(&vm->worker[0]->manner, OBEY);
	until_running(domain, B, CORE_A);
}

CASE("a batch is carried out in order, and one failure does not stop the rest")
{
	struct domain *domain = domain_new(MASK_AB);
	uint32_t failed;

	vm_running(domain);
	struct flux_kf_command batch[] = {
		{.op = FLUX_OP_GRANT, .core = CORE_A, .to = B},
		{.op = FLUX_OP_GRANT, .core = CORE_B, .to = B},
		{.op = FLUX_OP_HEIR, .core = CORE_B, .to = A},
		{.op = 99, .core = CORE_A, .from = A, .to = B},
	};
	OK(submit(domain, batch, 4, &failed));
	SAME(failed, 2);
	SAME((int)batch[0].result, -EAGAIN);
	SAME(batch[1].result, 0);
	SAME(batch[2].result, 0);
	SAME((int)batch[3].result, -EINVAL);
	until_running(domain, B, CORE_B);
	SAME(domain->core[CORE_B].heir, A);
}

CASE("k moves in one batch")
{
	struct domain *domain = domain_new(MASK_AB);
	uint32_t failed;

	vm_with_workers(domain, 0, 2);
	vm_with_workers(domain, 1, 2);
	OK(grant(domain, CORE_A, handle(0, 0)));
	OK(grant(domain, CORE_B, handle(0, 1)));
	for (int i = 0; i < 50; i++) {
		uint32_t from = i % 2, to = !from;
		struct flux_kf_command batch[2];

		for (uint32_t k = 0; k < 2; k++)
			batch[k] = (struct flux_kf_command){.op = FLUX_OP_MOVE,
							    .core = CORE_A + k,
							    .from = handle(from, k),
							    .to = handle(to, k),
							    .deadline_us = 10000000};
		OK(submit(domain, batch, 2, &failed));
		SAME(failed, 0);
		for (uint32_t k = 0; k < 2; k++) {
			until_running(domain, handle(to, k), CORE_A + k);
			until_parked(domain, handle(from, k));
		}
	}
}

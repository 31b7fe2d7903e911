// SPDX-License-Identifier: GPL-2.0
/* SUBMIT: batches, and commands whose words have no meaning, name nobody or come too late. */
#define GROUP "arguments"
#include "world.h"

CASE("SUBMIT: batch sizes 0, 1, 512, 513 and 4 billion")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_with_workers(domain, 0, 1);
	struct flux_kf_command batch[FLUX_KF_BATCH_MAX + 1] = {0};
	uint32_t failed = 9;

	(void)vm;
	for (int i = 0; i <= FLUX_KF_BATCH_MAX; i++)
		batch[i] = (struct flux_kf_command){.op = FLUX_OP_HEIR, .core = CORE_A, .to = i % 2 ? handle(0, 0) : 0};
	OK(submit(domain, batch, 0, &failed));
	SAME(failed, 0);
	OK(submit(domain, batch, FLUX_KF_BATCH_MAX, &failed));
	SAME(failed, 0);
	SAME(domain->core[CORE_A].heir, handle(0, 0));
	RESULT(submit(domain, batch, FLUX_KF_BATCH_MAX + 1, NULL), -EINVAL);
	RESULT(submit(domain, batch, 0xffffffff, NULL), -EINVAL);
	SAME(domain->status->commands, FLUX_KF_BATCH_MAX);
	batch[511].core = 99;
	OK(submit(domain, batch, FLUX_KF_BATCH_MAX, &failed));
	SAME(failed, 1);
	SAME((int)batch[511].result, -EINVAL);
	SAME(batch[510].result, 0);
	SAME(domain->status->refused, 1);
}

CASE("commands with words that have no meaning: EINVAL each, and nothing changes")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_with_workers(domain, 0, 2);
	uint32_t a = handle(0, 0), b = handle(0, 1), failed;
	struct flux_kf_command bad[] = {
		{.op = 0, .core = CORE_A, .from = a, .to = b},
		{.op = 7, .core = CORE_A, .from = a, .to = b},
		{.op = 99, .core = CORE_A, .from = a, .to = b},
		{.op = 0xffffffff, .core = CORE_A, .from = a, .to = b},
		{.op = FLUX_OP_GRANT, .core = 0, .to = b},
		{.op = FLUX_OP_GRANT, .core = 255, .to = b},
		{.op = FLUX_OP_GRANT, .core = 256, .to = b},
		{.op = FLUX_OP_GRANT, .core = FLUX_CORE_NONE, .to = b},
		{.op = FLUX_OP_GRANT, .core = 0x7fffffff, .to = b},
		{.op = FLUX_OP_GRANT, .core = 0xffffffff, .to = b},
		{.op = FLUX_OP_GRANT, .core = CORE_B, .to = 0},
		{.op = FLUX_OP_GRANT, .core = CORE_B, .to = FLUX_HANDLE_IDLE},
		{.op = FLUX_OP_GRANT, .core = CORE_B, .to = FLUX_MAX_VMS * FLUX_MAX_VCPUS + 1},
		{.op = FLUX_OP_GRANT, .core = CORE_B, .to = 0x10000 | b},
		{.op = FLUX_OP_GRANT, .core = CORE_B, .to = 0xffffffff},
		{.op = FLUX_OP_GRANT, .core = CORE_B, .to = b, .flags = 4},
		{.op = FLUX_OP_GRANT, .core = CORE_B, .to = b, .flags = 0x80000000},
		{.op = FLUX_OP_MOVE, .core = CORE_A, .from = a, .to = a},
		{.op = FLUX_OP_MOVE, .core = CORE_A, .from = a, .to = 0},
		{.op = FLUX_OP_MOVE, .core = CORE_A, .from = 0, .to = b},
		{.op = FLUX_OP_MOVE, .core = CORE_A, .from = FLUX_HANDLE_IDLE, .to = b},
		{.op = FLUX_OP_MOVE, .core = CORE_A, .from = a, .to = FLUX_HANDLE_IDLE},
		{.op = FLUX_OP_MOVE, .core = CORE_A, .from = a, .to = b, .deadline_us = 99},
		{.op = FLUX_OP_MOVE, .core = CORE_A, .from = a, .to = b, .deadline_us = 10000001},
		{.op = FLUX_OP_MOVE, .core = CORE_A, .from = a, .to = b, .deadline_us = 0xffffffff},
		{.op = FLUX_OP_PARK, .core = CORE_A, .from = 0},
		{.op = FLUX_OP_PARK, .core = CORE_A, .from = FLUX_MAX_VMS * FLUX_MAX_VCPUS + 1},
		{.op = FLUX_OP_PARK, .core = CORE_A, .from = a, .flags = FLUX_FLAG_ASK_ONLY | FLUX_FLAG_KICK_NOW},
		{.op = FLUX_OP_PARK, .core = CORE_A, .from = a, .flags = 0x200},
		{.op = FLUX_OP_PREEMPT, .core = CORE_A, .from = 0, .to = b},
		{.op = FLUX_OP_PREEMPT, .core = CORE_A, .from = FLUX_HANDLE_IDLE, .to = b},
		{.op = FLUX_OP_PREEMPT, .core = 0, .from = a},
		{.op = FLUX_OP_PREEMPT, .core = 255, .from = a},
		{.op = FLUX_OP_PREEMPT, .core = CORE_A, .from = a, .flags = FLUX_FLAG_ASK_ONLY | FLUX_FLAG_KICK_NOW},
		{.op = FLUX_OP_PREEMPT, .core = CORE_A, .from = a, .flags = 0x400},
		{.op = FLUX_OP_PREEMPT, .core = CORE_A, .from = a, .deadline_us = 99},
		{.op = FLUX_OP_PREEMPT, .core = CORE_A, .from = a, .reserved = {1}},
		{.op = FLUX_OP_HEIR, .core = CORE_A, .to = FLUX_HANDLE_IDLE},
		{.op = FLUX_OP_HEIR, .core = CORE_A, .to = 0x10000 | b},
		{.op = FLUX_OP_HEIR, .core = 0, .to = b},
	};
	const uint32_t count = sizeof(bad) / sizeof(bad[0]);
	uint64_t word;

	OK(grant(domain, CORE_A, a));
	until_running(domain, a, CORE_A);
	word = core_word(domain, CORE_A);
	OK(submit(domain, bad, count, &failed));
	for (uint32_t i = 0; i < count; i++)
		if ((int)bad[i].result != -EINVAL)
			FAIL("bad command %u (op %#x core %#x from %#x to %#x flags %#x deadline %u) gave %s", i,
			     bad[i].op, bad[i].core, bad[i].from, bad[i].to, bad[i].flags, bad[i].deadline_us,
			     kf_errname((int)bad[i].result));
	SAME(failed, count);
	SAME(core_word(domain, CORE_A), word);
	SAME(state_of(domain, b), FLUX_VCPU_PARKED);
	CHECK(idle(domain, CORE_B));
	SAME(domain->core[CORE_A].heir, 0);
	SAME(domain->status->refused, count);
	(void)vm;
}

CASE("reserved words of a command that are not 0 are refused")
{
	struct domain *domain = domain_new(MASK_AB);
	struct flux_kf_command one = {.op = FLUX_OP_HEIR, .core = CORE_A, .reserved = {0, 0, 0, 1}};

	RESULT(command(domain, one), -EINVAL);
}

CASE("handles of VMs and vCPUs that are not there: ESRCH")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_with_workers(domain, 0, 1);

	OK(grant(domain, CORE_A, handle(0, 0)));
	RESULT(grant(domain, CORE_B, handle(1, 0)), -ESRCH);
	RESULT(grant(domain, CORE_B, handle(1023, 15)), -ESRCH);
	RESULT(grant(domain, CORE_B, handle(0, 1)), -ESRCH);
	RESULT(move(domain, CORE_A, handle(0, 0), handle(5, 0)), -ESRCH);
	RESULT(heir(domain, CORE_A, handle(5, 0)), -ESRCH);
	(void)vm;
}

CASE("a stale generation: EAGAIN, and the core stays as it is")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_with_workers(domain, 0, 2);
	uint32_t a = handle(0, 0), b = handle(0, 1), generation;
	uint64_t word;

	OK(grant(domain, CORE_A, a));
	until_running(domain, a, CORE_A);
	word = core_word(domain, CORE_A);
	generation = generation_of(domain, CORE_A);
	struct flux_kf_command one = {.op = FLUX_OP_MOVE,
				      .core = CORE_A,
				      .from = a,
				      .to = b,
				      .flags = FLUX_KF_FLAG_GENERATION,
				      .generation = generation - 1};
	RESULT(command(domain, one), -EAGAIN);
	one.op = FLUX_OP_PARK;
	one.to = 0;
	RESULT(command(domain, one), -EAGAIN);
	one.op = FLUX_OP_FORCE;
	one.flags = 0; /* implied */
	RESULT(command(domain, one), -EAGAIN);
	SAME(core_word(domain, CORE_A), word);
	SAME(state_of(domain, b), FLUX_VCPU_PARKED);
	one.op = FLUX_OP_MOVE;
	one.flags = FLUX_KF_FLAG_GENERATION;
	one.generation = generation;
	one.to = b;
	OK(command(domain, one));
	until_running(domain, b, CORE_A);
	(void)vm;
}

CASE("FORCE without a park in flight is refused")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_with_workers(domain, 0, 1);

	RESULT_IN(force(domain, CORE_A, handle(0, 0)), -EAGAIN, -EINVAL);
	OK(grant(domain, CORE_A, handle(0, 0)));
	until_running(domain, handle(0, 0), CORE_A);
	RESULT_IN(force(domain, CORE_A, handle(0, 0)), -EAGAIN, -EINVAL);
	SAME(owner_of(domain, CORE_A), handle(0, 0));
	(void)vm;
}

CASE("PREEMPT: EAGAIN for another owner or generation, EALREADY beside a park, any number is one")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_running(domain);
	uint32_t a = handle(0, 0), b = handle(0, 1), generation = generation_of(domain, CORE_A);
	const uint32_t numbers[] = {0, 1, FLUX_HANDLE_IDLE, 0x7fffffff, 0x80000000, 0xffffffff};
	struct flux_kf_command one = {.op = FLUX_OP_PREEMPT,
				      .core = CORE_A,
				      .from = a,
				      .to = 9,
				      .flags = FLUX_KF_FLAG_GENERATION,
				      .generation = generation - 1};
	uint64_t word = core_word(domain, CORE_A);

	RESULT(preempt(domain, CORE_B, a, 9), -EAGAIN);
	RESULT(preempt(domain, CORE_A, b, 9), -EAGAIN);
	RESULT(preempt(domain, CORE_A, handle(7, 3), 9), -EAGAIN);
	RESULT(command(domain, one), -EAGAIN);
	SAME(block_of(domain, a)->preempt, 0);
	SAME(block_of(domain, b)->preempt, 0);
	one.generation = generation;
	OK(command(domain, one));
	SAME(block_of(domain, a)->preempt, 9);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		OK(preempt(domain, CORE_A, a, numbers[i]));
		SAME(block_of(domain, a)->preempt, numbers[i]);
	}
	/* Nothing changes hands. */
	SAME(core_word(domain, CORE_A), word);
	SAME(state_of(domain, a), FLUX_VCPU_RUNNING);
	SAME(block_of(domain, a)->preempts, 0);
	worker_be(vm->worker[0], STUBBORN);
	OK(ask(domain, CORE_A, a, b));
	RESULT(preempt(domain, CORE_A, a, 77), -EALREADY);
	CHECK(block_of(domain, a)->preempt != 77);
	atomic_store(&vm->worker[0]->manner, OBEY);
	until_running(domain, b, CORE_A);
	RESULT(preempt(domain, CORE_A, a, 77), -EAGAIN);
	OK(kf_ioctl(domain->fd, FLUX_KF_RELEASE, NULL));
	RESULT(preempt(domain, CORE_A, b, 77), -ESTALE);
}

// SPDX-License-Identifier: GPL-2.0
/* What is told about hand-overs: numbers, counters, stamps, events, pages. */
#define GROUP "hand-over"
#include "world.h"

#define A handle(0, 0)
#define B handle(0, 1)

CASE("park_req comes back for the guest's line: the number of the request, 0 if the core went at once")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_running(domain);
	uint32_t failed;
	struct flux_kf_command one = {.op = FLUX_OP_MOVE, .core = CORE_A, .from = A, .to = B, .park_req = 99};

	one.deadline_us = 10000000;
	one.flags = FLUX_FLAG_ASK_ONLY;
	worker_be(vm->worker[0], STUBBORN);
	OK(submit(domain, &one, 1, &failed));
	SAME(one.result, 0);
	CHECK(one.park_req != 0 && one.park_req != 99);
	SAME(one.park_req, block_of(domain, A)->park_req);
	atomic_store(&vm->worker[0]->manner, OBEY);
	until_running(domain, B, CORE_A);
	/* The other way, after B has yielded: nobody is asked. */
	atomic_store(&vm->worker[1]->manner, YIELD);
	until_parked(domain, B);
	one = (struct flux_kf_command){.op = FLUX_OP_MOVE, .core = CORE_A, .from = B, .to = A, .park_req = 99};
	OK(submit(domain, &one, 1, &failed));
	SAME(one.result, 0);
	SAME(one.park_req, 0);
	until_running(domain, A, CORE_A);
}

CASE("many moves back and forth lose nobody, counters count them, stamps are in order")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_running(domain);
	uint32_t from = A, to = B, rounds = 500;
	uint64_t switches = domain->status->switches;
	uint32_t on_core = domain->core[CORE_A].switches;

	for (uint32_t i = 0; i < rounds; i++) {
		uint32_t swap = from;
		uint64_t decided = __builtin_ia32_rdtsc();
		struct flux_kf_command one = {.op = FLUX_OP_MOVE,
					      .core = CORE_A,
					      .from = from,
					      .to = to,
					      .deadline_us = 10000000,
					      .decided_tsc = decided};

		OK(command(domain, one));
		until_running(domain, to, CORE_A);
		until_parked(domain, from);
		const volatile struct flux_vcpu *left = block_of(domain, from), *came = block_of(domain, to);

		SAME(left->t_decided, decided);
		CHECK(left->t_parked >= decided && left->t_handed >= left->t_parked);
		CHECK(came->t_granted >= decided);
		CHECK(domain->core[CORE_A].since_tsc >= decided);
		from = to;
		to = swap;
	}
	SAME((uint32_t)core_word(domain, CORE_A), from);
	SAME(domain->core[CORE_A].switches - on_core, rounds);
	SAME(domain->status->switches - switches, rounds);
	SAME(block_of(domain, A)->grants + block_of(domain, B)->grants, rounds + 1);
	SAME(block_of(domain, A)->parks + block_of(domain, B)->parks, rounds);
	SAME(atomic_load(&vm->worker[0]->wrong_core) + atomic_load(&vm->worker[1]->wrong_core), 0);
	UNTIL(block_of(domain, from)->t_woken >= block_of(domain, from)->t_granted);
}

CASE("the cores' time is metered: what was granted grows with the tenures")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_running(domain);
	uint64_t first;

	OK(park(domain, CORE_A, A));
	until_parked(domain, A);
	first = block_of(domain, A)->granted_tsc;
	CHECK(first > 0);
	OK(grant(domain, CORE_A, A));
	until_running(domain, A, CORE_A);
	atomic_store(&vm->worker[0]->manner, YIELD);
	until_parked(domain, A);
	CHECK(block_of(domain, A)->granted_tsc > first);
}

/* The events so far, one by one; false: it was overwritten. */
static bool event_at(struct domain *domain, uint64_t n, struct flux_kf_event *event)
{
	const volatile struct flux_kf_event *at = &domain->event[n % FLUX_KF_EVENTS];
	uint32_t before = __atomic_load_n(&at->sequence, __ATOMIC_ACQUIRE);

	*event = *(const struct flux_kf_event *)at;
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	return before == (uint32_t)(n + 1) && __atomic_load_n(&at->sequence, __ATOMIC_RELAXED) == before;
}

CASE("the event ring: a hand-over is told in its order, with cores, handles and generations")
{
	struct domain *domain = domain_new(MASK_AB);
	struct flux_kf_event event;
	uint64_t begin, end, seen = 0, last_tsc = 0;
	static const uint16_t want[] = {FLUX_KF_EV_GRANT, FLUX_KF_EV_REQUEST, FLUX_KF_EV_LEAVE};

	begin = domain->status->events;
	vm_running(domain);
	OK(move(domain, CORE_A, A, B));
	until_running(domain, B, CORE_A);
	until_parked(domain, A);
	end = domain->status->events;
	CHECK(end >= begin + 3);
	for (uint64_t n = begin; n < end; n++) {
		if (!event_at(domain, n, &event))
			FAIL("event %llu has sequence %u", (unsigned long long)n, event.sequence);
		CHECK(event.tsc);
		last_tsc = event.tsc;
		if (seen < 3 && event.kind == want[seen]) {
			SAME(event.core, CORE_A);
			if (event.kind == FLUX_KF_EV_GRANT)
				SAME(event.to, A);
			else {
				SAME(event.from, A);
				SAME(event.to, B);
			}
			seen++;
		}
	}
	(void)last_tsc;
	SAME(seen, 3);
	SAME(event_at(domain, end + 1, &event), 0);
}

CASE("PREEMPT is told: an event with core, vCPU and number; a refused one names no successor")
{
	struct domain *domain = domain_new(MASK_AB);
	struct flux_kf_event event;
	uint64_t kicks, begin;

	vm_running(domain);
	kicks = domain->status->kicks;
	begin = domain->status->events;
	OK(preempt(domain, CORE_A, A, 0x12345678));
	RESULT(preempt(domain, CORE_B, A, 0x12345678), -EAGAIN);
	SAME(domain->status->events, begin + 2);
	CHECK(event_at(domain, begin, &event));
	SAME(event.kind, FLUX_KF_EV_PREEMPT);
	SAME(event.core, CORE_A);
	SAME(event.from, A);
	SAME(event.to, 0);
	SAME(event.arg, 0x12345678);
	SAME(event.generation, generation_of(domain, CORE_A));
	CHECK(event_at(domain, begin + 1, &event));
	SAME(event.kind, FLUX_KF_EV_REFUSED);
	SAME(event.core, CORE_B);
	SAME(event.to, 0);
	SAME(event.arg, EAGAIN);
	/* Those of requests are counted; this is none. */
	SAME(domain->status->kicks, kicks);
}

CASE("the event ring wraps: the newest 4096 are whole, refusals are in it")
{
	struct domain *domain = domain_new(MASK_AB);
	struct flux_kf_command batch[FLUX_KF_BATCH_MAX];
	struct flux_kf_event event;
	uint32_t failed;
	uint64_t begin = domain->status->events;

	vm_with_workers(domain, 0, 1);
	for (int round = 0; round < 20; round++) {
		for (int i = 0; i < FLUX_KF_BATCH_MAX; i++)
			batch[i] = (struct flux_kf_command){.op = FLUX_OP_GRANT, .core = CORE_A, .to = 0x3000};
		OK(submit(domain, batch, FLUX_KF_BATCH_MAX, &failed));
		SAME(failed, FLUX_KF_BATCH_MAX);
	}
	CHECK(domain->status->events >= begin + 20 * FLUX_KF_BATCH_MAX);
	for (uint64_t n = domain->status->events - FLUX_KF_EVENTS; n < domain->status->events; n++) {
		CHECK(event_at(domain, n, &event));
		SAME(event.kind, FLUX_KF_EV_REFUSED);
		SAME(event.arg, ESRCH);
	}
}

CASE_LIMIT("generations and request numbers go on without a gap over 5000 hand-overs", 120)
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_running(domain);
	uint32_t before = generation_of(domain, CORE_A), rounds = 5000 / kf_opt.slow;

	OK(heir(domain, CORE_A, B));
	for (uint32_t i = 0; i < rounds; i++) {
		uint32_t me = i % 2 ? B : A;

		atomic_store(&vm->worker[i % 2]->manner, YIELD);
		OK(heir(domain, CORE_A, i % 2 ? A : B));
		double end = kf_now() + kf_patience();
		while (owner_of(domain, CORE_A) == me)
			if (kf_now() > end)
				FAIL("vCPU %u does not yield in round %u", me, i);
		/* The heir may have been on its way to its park: then the core is idle. */
		if (idle(domain, CORE_A)) {
			UNTIL(grant(domain, CORE_A, i % 2 ? A : B) == 0);
			before++;
		}
	}
	SAME(generation_of(domain, CORE_A) - before, rounds);
}

CASE("a VM that is made after the pages were mapped appears in them")
{
	struct domain *domain = domain_new(MASK_AB);

	SAME(block_of(domain, handle(600, 3))->word & 0xff, FLUX_VCPU_NEW);
	vm_with_workers(domain, 600, 4);
	SAME(state_of(domain, handle(600, 3)), FLUX_VCPU_PARKED);
	OK(grant(domain, CORE_A, handle(600, 3)));
	until_running(domain, handle(600, 3), CORE_A);
}

CASE("a slot that is used again: the new VM's blocks begin at NEW, for maps that are there already")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_new(domain, 5, 2), *next;

	OK(vm_register(vm, 0, 0));
	OK(vm_unregister(vm, 0));
	SAME(state_of(domain, handle(5, 0)), FLUX_VCPU_DEAD);
	vm_close(vm);
	UNTIL(domain->status->vms == 0);
	next = vm_new(domain, 5, 2);
	UNTIL(state_of(domain, handle(5, 0)) == FLUX_VCPU_NEW);
	OK(vm_register(next, 0, 0));
	SAME(state_of(domain, handle(5, 0)), FLUX_VCPU_PARKED);
}

CASE("kick flags: KICK_NOW kicks in the command, ASK_ONLY does not, a patience kicks later")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_running(domain);
	uint64_t kicks = domain->status->kicks;

	worker_be(vm->worker[0], STUBBORN);
	OK(ask(domain, CORE_A, A, B));
	SAME(domain->status->kicks, kicks);
	atomic_store(&vm->worker[0]->manner, OBEY);
	until_running(domain, B, CORE_A);
	until_parked(domain, A);
	worker_be(vm->worker[1], STUBBORN);
	OK(command(domain, (struct flux_kf_command){.op = FLUX_OP_MOVE,
						    .core = CORE_A,
						    .from = B,
						    .to = A,
						    .flags = FLUX_FLAG_KICK_NOW,
						    .deadline_us = 10000000}));
	SAME(domain->status->kicks, kicks + 1);
	atomic_store(&vm->worker[1]->manner, OBEY);
	until_running(domain, A, CORE_A);
	until_parked(domain, B);
	kicks = domain->status->kicks;
	worker_be(vm->worker[0], STUBBORN);
	OK(command(domain, (struct flux_kf_command){.op = FLUX_OP_MOVE,
						    .core = CORE_A,
						    .from = A,
						    .to = B,
						    .kick_after_us = 3000,
						    .deadline_us = 10000000}));
	UNTIL(domain->status->kicks > kicks);
	SAME(state_of(domain, A), FLUX_VCPU_CEDING);
	atomic_store(&vm->worker[0]->manner, OBEY);
	until_running(domain, B, CORE_A);
}

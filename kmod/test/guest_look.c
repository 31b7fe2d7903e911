// SPDX-License-Identifier: GPL-2.0
/* What a guest does, seen from outside. */
#include "guest.h"

/* The guest goes on: its counter moves. */
void guest_counts(struct guest *g)
{
	uint32_t count = guest_word(g, GUEST_COUNT);

	UNTIL(guest_word(g, GUEST_COUNT) != count || atomic_load(&g->error));
	SAME(atomic_load(&g->error), 0);
}

/* It does not: looked at for some time. */
void guest_stands_still(struct guest *g)
{
	uint32_t count = guest_word(g, GUEST_COUNT);

	usleep(20000);
	SAME(guest_word(g, GUEST_COUNT), count);
}

void guest_no_harm(struct guest *g)
{
	SAME(atomic_load(&g->error), 0);
	CHECK(!atomic_load(&g->corrupt));
	SAME(atomic_load(&g->critical_parks), 0);
	SAME(atomic_load(&g->critical_preempts), 0);
	SAME(atomic_load(&g->held_wrong), 0);
	SAME(atomic_load(&g->wrong_core), 0);
}

int kick_move(struct domain *domain, uint32_t core, uint32_t from, uint32_t to)
{
	return command(domain, (struct flux_kf_command){.op = to ? FLUX_OP_MOVE : FLUX_OP_PARK,
							.core = core,
							.from = from,
							.to = to,
							.flags = FLUX_FLAG_KICK_NOW,
							.deadline_us = 10000000});
}

/* This thread is the vCPU, and has been granted core A. */
struct guest *guest_here(struct domain *domain, struct kvm_vm *kvm, enum program program)
{
	struct guest *g = guest_new(kvm, 0, program);
	struct flux_kf_turn turn;

	OK(guest_register(g));
	OK(grant(domain, CORE_A, guest_handle(g)));
	OK(vm_park(kvm->vm, 0, FLUX_HOW_ENTRY, &turn));
	SAME(turn.reason, FLUX_KF_GRANTED);
	return g;
}

/* In a child: grants core B to the vCPU as soon as it is parked. */
void grant_when_parked(struct domain *domain)
{
	if (fork())
		return;
	UNTIL(state_of(domain, handle(0, 0)) == FLUX_VCPU_PARKED);
	OK(grant(domain, CORE_B, handle(0, 0)));
	_exit(0);
}

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

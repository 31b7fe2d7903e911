// SPDX-License-Identifier: GPL-2.0
/* Real KVM vCPUs: parked in the kernel where they stand, whole afterwards. */
#define GROUP "kvm"
#include "guest.h"

#define A handle(0, 0)
#define B handle(0, 1)

CASE("a granted vCPU runs its guest, a parked one does not")
{
	struct domain *domain = domain_new(MASK_AB);
	struct kvm_vm *kvm = kvm_vm_new(domain, 0, 1);
	struct guest *g = guest_running(kvm, 0, COUNTS);

	until_parked(domain, A);
	guest_stands_still(g);
	SAME(guest_word(g, GUEST_COUNT), 0);
	OK(grant(domain, CORE_A, A));
	until_running(domain, A, CORE_A);
	guest_counts(g);
	guest_no_harm(g);
	guest_join(g);
}

CASE("a kick parks in the kernel: GRANTED comes from the same RUN, left KICKED, held HELD")
{
	struct domain *domain = domain_new(MASK_AB);
	struct kvm_vm *kvm = kvm_vm_new(domain, 0, 1);
	struct guest *g = guest_running(kvm, 0, COUNTS);

	until_parked(domain, A);
	OK(grant(domain, CORE_A, A));
	guest_counts(g);
	SAME(atomic_load(&g->grants), 1);
	OK(kick_move(domain, CORE_A, A, 0));
	until_parked(domain, A);
	/* No trip through user space: the thread has counted nothing yet. */
	SAME(atomic_load(&g->grants), 1);
	SAME(atomic_load(&g->signals), 0);
	SAME(block_of(domain, A)->how, FLUX_HOW_KICKED);
	SAME(block_of(domain, A)->held, FLUX_HELD_HELD);
	SAME(guest_word(g, GUEST_HINT), 1);
	SAME(block_of(domain, A)->kicks, 1);
	CHECK(block_of(domain, A)->t_seen && block_of(domain, A)->t_parked >= block_of(domain, A)->t_seen);
	guest_stands_still(g);
	OK(grant(domain, CORE_B, A));
	until_running(domain, A, CORE_B);
	UNTIL(atomic_load(&g->grants) == 2);
	SAME(g->last.left, FLUX_HOW_KICKED);
	SAME(g->last.core, CORE_B);
	SAME(atomic_load(&g->parked_kicked), 1);
	guest_counts(g);
	guest_no_harm(g);
	SAME(block_of(domain, A)->held, FLUX_HELD_NONE);
	guest_join(g);
}

CASE_LIMIT("registers and memory are whole after hundreds of parks at any instruction", 180)
{
	struct domain *domain = domain_new(MASK_AB);
	struct kvm_vm *kvm = kvm_vm_new(domain, 0, 2);
	struct guest *g[2] = {guest_running(kvm, 0, COUNTS), guest_running(kvm, 1, COUNTS)};
	unsigned int rounds = 400 / kf_opt.slow + 10;

	until_parked(domain, A);
	until_parked(domain, B);
	OK(grant(domain, CORE_A, A));
	for (unsigned int i = 0; i < rounds; i++) {
		uint32_t from = i % 2 ? B : A, to = i % 2 ? A : B;

		guest_counts(g[i % 2]);
		OK(kick_move(domain, CORE_A, from, to));
		until_running(domain, to, CORE_A);
		until_parked(domain, from);
	}
	for (int v = 0; v < 2; v++) {
		guest_no_harm(g[v]);
		CHECK(atomic_load(&g[v]->parked_kicked) > rounds / 4);
		guest_join(g[v]);
	}
}

CASE("a critical guest is not parked by a kick; it is when it leaves its critical part")
{
	struct domain *domain = domain_new(MASK_AB);
	struct kvm_vm *kvm = kvm_vm_new(domain, 0, 2);
	struct guest *g = guest_running(kvm, 0, COUNTS);

	until_parked(domain, A);
	OK(grant(domain, CORE_A, A));
	guest_counts(g);
	guest_set(g, GUEST_CRITICAL, 1);
	OK(kick_move(domain, CORE_A, A, 0));
	/* The kick has been there. */
	UNTIL(block_of(domain, A)->t_seen > block_of(domain, A)->t_kicked);
	guest_counts(g);
	SAME(state_of(domain, A), FLUX_VCPU_CEDING);
	SAME(owner_of(domain, CORE_A), A);
	guest_set(g, GUEST_CRITICAL, 0);
	/* Patience doubles: it is kicked again by itself. */
	until_parked(domain, A);
	CHECK(idle(domain, CORE_A));
	SAME(block_of(domain, A)->how, FLUX_HOW_KICKED);
	OK(grant(domain, CORE_A, A));
	guest_counts(g);
	CHECK(atomic_load(&g->kicks) >= 1);
	guest_no_harm(g);
	guest_join(g);
}

CASE("a critical guest is parked by force: FORCED, only its own vCPU may go on")
{
	struct domain *domain = domain_new(MASK_AB);
	struct kvm_vm *kvm = kvm_vm_new(domain, 0, 2);
	struct guest *g = guest_running(kvm, 0, COUNTS);

	until_parked(domain, A);
	OK(grant(domain, CORE_A, A));
	guest_counts(g);
	guest_set(g, GUEST_CRITICAL, 1);
	OK(kick_move(domain, CORE_A, A, 0));
	guest_counts(g);
	OK(force(domain, CORE_A, A));
	until_parked(domain, A);
	SAME(block_of(domain, A)->how, FLUX_HOW_FORCED);
	SAME(block_of(domain, A)->held, FLUX_HELD_FORCED);
	SAME(guest_word(g, GUEST_HINT), 0);
	SAME(domain->core[CORE_A].forced, 1);
	SAME(domain->core[CORE_A].taken, 0);
	guest_stands_still(g);
	OK(grant(domain, CORE_A, A));
	guest_counts(g);
	SAME(atomic_load(&g->parked_forced), 1);
	guest_no_harm(g);
	guest_join(g);
}

CASE("the deadline forces a critical guest by itself")
{
	struct domain *domain = domain_new(MASK_AB);
	struct kvm_vm *kvm = kvm_vm_new(domain, 0, 2);
	struct guest *g = guest_running(kvm, 0, COUNTS);

	until_parked(domain, A);
	OK(grant(domain, CORE_A, A));
	guest_counts(g);
	guest_set(g, GUEST_CRITICAL, 1);
	OK(command(domain,
		   (struct flux_kf_command){.op = FLUX_OP_PARK, .core = CORE_A, .from = A, .deadline_us = 20000}));
	UNTIL(idle(domain, CORE_A));
	/* Forced in the kernel, or taken if even the force took too long here. */
	CHECK(block_of(domain, A)->how == FLUX_HOW_FORCED || block_of(domain, A)->how == FLUX_HOW_TAKEN);
	SAME(block_of(domain, A)->force, block_of(domain, A)->park_req);
	until_parked(domain, A);
	SAME(block_of(domain, A)->held, FLUX_HELD_FORCED);
	guest_set(g, GUEST_CRITICAL, 0);
	guest_join(g);
	SAME(atomic_load(&g->error), 0);
}

CASE_LIMIT("a guest that is critical now and then is never parked by a kick while it is", 180)
{
	struct domain *domain = domain_new(MASK_AB);
	struct kvm_vm *kvm = kvm_vm_new(domain, 0, 2);
	struct guest *g = guest_running(kvm, 0, CRITICAL_NOW_AND_THEN);
	unsigned int rounds = 300 / kf_opt.slow + 10;

	until_parked(domain, A);
	for (unsigned int i = 0; i < rounds; i++) {
		OK(grant(domain, CORE_A, A));
		guest_counts(g);
		/* Patience begins short, so that many kicks fit before the force. */
		OK(command(domain, (struct flux_kf_command){.op = FLUX_OP_PARK,
							    .core = CORE_A,
							    .from = A,
							    .kick_after_us = 300,
							    .deadline_us = 10000000}));
		until_parked(domain, A);
		if (block_of(domain, A)->how == FLUX_HOW_KICKED)
			SAME(guest_word(g, GUEST_CRITICAL), 0);
		else
			SAME(block_of(domain, A)->force, block_of(domain, A)->park_req);
	}
	guest_no_harm(g);
	kf_note("%u kicks met a critical guest", atomic_load(&g->kicks));
	guest_join(g);
}

CASE("a critical word that cannot be read counts as critical: parked by force only")
{
	struct domain *domain = domain_new(MASK_AB);
	struct kvm_vm *kvm = kvm_vm_new(domain, 0, 2);
	struct guest *g = guest_new(kvm, 0, COUNTS);
	volatile uint32_t *memory = g->memory;
	/* Registered with a page that goes away; the guest's own memory stays. */
	uint32_t *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	g->memory = (void *)((char *)page - GUEST_CRITICAL);
	guest_start(g);
	g->memory = memory;
	until_parked(domain, A);
	munmap(page, 4096);
	OK(grant(domain, CORE_A, A));
	guest_counts(g);
	OK(kick_move(domain, CORE_A, A, 0));
	guest_counts(g);
	SAME(owner_of(domain, CORE_A), A);
	OK(force(domain, CORE_A, A));
	until_parked(domain, A);
	SAME(block_of(domain, A)->how, FLUX_HOW_FORCED);
	SAME(block_of(domain, A)->held, FLUX_HELD_FORCED);
	guest_join(g);
	SAME(atomic_load(&g->error), 0);
}

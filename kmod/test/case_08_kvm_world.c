// SPDX-License-Identifier: GPL-2.0
/* RUN, and what happens around it: meters, the lease's end, the VM's end, a thread that is blocked. */
#define GROUP "kvm"
#include "guest.h"

#include <signal.h>

#define A handle(0, 0)
#define B handle(0, 1)

CASE("guest_tsc and used_tsc: ticks in the guest, not more than went by")
{
	struct domain *domain = domain_new(MASK_AB);
	struct kvm_vm *kvm = kvm_vm_new(domain, 0, 1);
	struct guest *g = guest_running(kvm, 0, OUTS);
	uint64_t begin, spent;

	until_parked(domain, A);
	begin = __builtin_ia32_rdtsc();
	OK(grant(domain, CORE_A, A));
	UNTIL(atomic_load(&g->exits) > 200);
	guest_join(g);
	spent = __builtin_ia32_rdtsc() - begin;
	CHECK(atomic_load(&g->guest_tsc) > 0);
	CHECK(atomic_load(&g->guest_tsc) <= spent);
	CHECK(g->last.seen_tsc >= begin);
	CHECK(block_of(domain, A)->used_tsc <= spent);
	guest_no_harm(g);
}

CASE("the lease ends while the guest runs: UNMANAGED, and it runs on under the ordinary scheduler")
{
	struct domain *domain = domain_new(MASK_AB);
	struct kvm_vm *kvm = kvm_vm_new(domain, 0, 2);
	struct guest *g[2] = {guest_running(kvm, 0, COUNTS), guest_running(kvm, 1, COUNTS)};
	uint32_t epoch;

	until_parked(domain, A);
	until_parked(domain, B);
	OK(grant(domain, CORE_A, A));
	guest_counts(g[0]);
	for (int i = 0; i < 5; i++) {
		OK(kf_ioctl(domain->fd, FLUX_KF_RELEASE, NULL));
		for (int v = 0; v < 2; v++) {
			UNTIL(state_of(domain, handle(0, v)) == FLUX_VCPU_UNMANAGED);
			UNTIL(affinity_of(atomic_load(&g[v]->tid)) == online_mask());
			guest_counts(g[v]);
		}
		OK(kf_claim(domain->fd, MASK_AB, 60000, 0, &epoch));
		OK(kf_ioctl(kvm->vm->fd, FLUX_KF_MANAGE, NULL));
		/* Running guests are kicked out of KVM and parked. */
		until_parked(domain, A);
		until_parked(domain, B);
		guest_stands_still(g[0]);
		guest_stands_still(g[1]);
		OK(grant(domain, CORE_B, B));
		OK(grant(domain, CORE_A, A));
		guest_counts(g[0]);
		guest_counts(g[1]);
	}
	guest_no_harm(g[0]);
	guest_no_harm(g[1]);
	guest_join(g[0]);
	guest_join(g[1]);
}

CASE("a critical guest of an adopted VM goes on for a while, and is parked by force in the end")
{
	struct domain *domain = domain_new(MASK_AB);
	struct kvm_vm *kvm = kvm_vm_new(domain, 0, 1);
	struct guest *g = guest_running(kvm, 0, COUNTS);
	uint32_t epoch;

	until_parked(domain, A);
	OK(grant(domain, CORE_A, A));
	guest_counts(g);
	guest_set(g, GUEST_CRITICAL, 1);
	OK(kf_ioctl(domain->fd, FLUX_KF_RELEASE, NULL));
	UNTIL(state_of(domain, A) == FLUX_VCPU_UNMANAGED);
	guest_counts(g);
	OK(kf_claim(domain->fd, MASK_AB, 2000 * kf_opt.slow, 0, &epoch));
	domain_keep(domain);
	OK(kf_ioctl(kvm->vm->fd, FLUX_KF_MANAGE, NULL));
	until_parked(domain, A);
	SAME(block_of(domain, A)->held, FLUX_HELD_FORCED);
	guest_stands_still(g);
	OK(grant(domain, CORE_B, A));
	guest_counts(g);
	guest_no_harm(g);
	guest_join(g);
}

CASE("END while the guest runs: RUN comes back DEAD")
{
	struct domain *domain = domain_new(MASK_AB);
	struct kvm_vm *kvm = kvm_vm_new(domain, 0, 2);
	struct guest *g[2] = {guest_running(kvm, 0, COUNTS), guest_running(kvm, 1, COUNTS)};

	until_parked(domain, A);
	until_parked(domain, B);
	OK(grant(domain, CORE_A, A));
	guest_counts(g[0]);
	OK(kf_ioctl(kvm->vm->fd, FLUX_KF_END, NULL));
	for (int v = 0; v < 2; v++) {
		UNTIL(atomic_load(&g[v]->ended));
		CHECK(atomic_load(&g[v]->dead));
	}
	UNTIL(idle(domain, CORE_A));
}

CASE("a guest whose thread is blocked in the host: lent, then held and parked when it comes back")
{
	struct domain *domain = domain_new(MASK_AB);
	struct kvm_vm *kvm = kvm_vm_new(domain, 0, 2);
	struct guest *g[2] = {guest_running(kvm, 0, COUNTS), guest_running(kvm, 1, COUNTS)};

	until_parked(domain, A);
	until_parked(domain, B);
	OK(grant(domain, CORE_A, A));
	guest_counts(g[0]);
	/* Stopped by job control: it sleeps outside of a park, out of the guest. */
	pid_t stopper = fork();
	if (stopper == 0) {
		kill(getppid(), SIGSTOP);
		UNTIL(block_of(domain, A)->host == FLUX_HOST_BLOCKED);
		OK(ask(domain, CORE_A, A, B));
		UNTIL(owner_of(domain, CORE_A) == B);
		SAME(state_of(domain, A), FLUX_VCPU_BLOCKED);
		kill(getppid(), SIGCONT);
		_exit(0);
	}
	until_running(domain, B, CORE_A);
	until_parked(domain, A);
	SAME(block_of(domain, A)->how, FLUX_HOW_LENT);
	guest_stands_still(g[0]);
	OK(grant(domain, CORE_B, A));
	guest_counts(g[0]);
	guest_counts(g[1]);
	guest_no_harm(g[0]);
	guest_no_harm(g[1]);
	guest_join(g[0]);
	guest_join(g[1]);
}

CASE("the KVM descriptor is closed while RUN uses it: the stored file keeps it")
{
	struct domain *domain = domain_new(MASK_AB);
	struct kvm_vm *kvm = kvm_vm_new(domain, 0, 1);
	struct guest *g = guest_running(kvm, 0, COUNTS);

	until_parked(domain, A);
	close(g->fd);
	OK(grant(domain, CORE_A, A));
	guest_counts(g);
	guest_no_harm(g);
	guest_join(g);
}

// SPDX-License-Identifier: GPL-2.0
/* The arbiter ends, or only seems to; another one adopts what is there. */
#define GROUP "death and lease"
#include "vmm.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#define A handle(0, 0)
#define B handle(0, 1)

/* What the end of a lease has to leave behind. */
static void all_free(struct domain *seen, struct vmm *vmm, uint32_t slot, uint32_t vcpus)
{
	UNTIL(seen->status->leased == 0);
	for (uint32_t v = 0; v < vcpus; v++) {
		UNTIL(state_of(seen, handle(slot, v)) == FLUX_VCPU_UNMANAGED);
		UNTIL(affinity_of(atomic_load(&vmm->shared->tid[v])) == online_mask());
		UNTIL(atomic_load(&vmm->shared->unmanaged[v]) > 0);
	}
	for (uint32_t core = CORE_A; core <= CORE_B; core++) {
		UNTIL(idle(seen, core));
		SAME(seen->core[core].heir, 0);
		SAME(seen->core[core].flags & FLUX_CORE_CLAIMED, 0);
	}
}

static struct domain *viewer(uint32_t domain)
{
	int fd = kf_opened();
	uint32_t id = domain;

	OK(kf_join(fd, &id, FLUX_KF_JOIN_VIEW));
	return domain_on(fd, id, false);
}

CASE("release of the arbiter's file ends the lease: affinities, wakes, idle cores")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vmm *vmm = vmm_new(domain, 0, 3);
	struct domain *seen = viewer(domain->id);
	uint32_t generation;

	OK(grant(domain, CORE_A, A));
	OK(grant(domain, CORE_B, B));
	until_running(domain, B, CORE_B);
	OK(heir(domain, CORE_A, handle(0, 2)));
	generation = generation_of(domain, CORE_A);
	domain_close(domain);
	all_free(seen, vmm, 0, 3);
	CHECK(generation_of(seen, CORE_A) != generation);
	SAME(atomic_load(&vmm->shared->errors), 0);
}

CASE("RELEASE ends the lease, the file stays")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vmm *vmm = vmm_new(domain, 0, 3);

	OK(grant(domain, CORE_A, A));
	until_running(domain, A, CORE_A);
	OK(kf_ioctl(domain->fd, FLUX_KF_RELEASE, NULL));
	all_free(domain, vmm, 0, 3);
	RESULT(grant(domain, CORE_A, A), -ESTALE);
}

CASE("an arbiter that is killed: its descriptors are closed by the kernel, the VMs live on")
{
	struct domain *domain = domain_new(MASK_AB);
	struct domain *seen = viewer(domain->id);
	struct vmm *vmm = vmm_new(domain, 0, 2);
	int pipes[2], status;
	char byte;

	CHECK(pipe(pipes) == 0);
	OK(kf_ioctl(domain->fd, FLUX_KF_RELEASE, NULL));
	all_free(seen, vmm, 0, 2);
	pid_t pid = fork();
	if (pid == 0) {
		uint32_t id = seen->id, epoch;
		int fd = kf_opened();

		OK(kf_join(fd, &id, 0));
		OK(kf_claim(fd, MASK_AB, 60000, 0, &epoch));
		if (write(pipes[1], "x", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	SAME(read(pipes[0], &byte, 1), 1);
	SAME(seen->status->leased, 1);
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	UNTIL(seen->status->leased == 0);
	CHECK(kill(vmm->pid, 0) == 0);
}

CASE("a heartbeat that stands still ends the lease; one that moves keeps it")
{
	int fd = kf_opened();
	uint32_t id = 0, epoch;
	struct domain *domain;
	struct vmm *vmm;

	OK(kf_join(fd, &id, 0));
	OK(kf_claim(fd, MASK_AB, 1000, 0, &epoch));
	domain = domain_on(fd, id, true);
	/* Three leases long it is alive, in the slowest of labs too. */
	double end = kf_now() + 3;
	while (kf_now() < end) {
		domain_beat(domain);
		SAME(domain->status->leased, 1);
		usleep(20000);
	}
	vmm = vmm_new(domain, 0, 2);
	domain_beat(domain);
	RESULT_IN(grant(domain, CORE_A, A), 0, -ESTALE);
	all_free(domain, vmm, 0, 2);
	struct flux_kf_submit batch = {0};
	RESULT(kf_ioctl(fd, FLUX_KF_SUBMIT, &batch), -ESTALE);
	/* The same arbiter may claim again. */
	OK(kf_claim(fd, MASK_AB, 60000, 0, &epoch));
	CHECK(epoch != domain->epoch);
	CHECK(kill(vmm->pid, 0) == 0);
}

CASE("a lease of 10 ms, claimed and lost in a row")
{
	int fd = kf_opened();
	uint32_t id = 0, epoch = 0, last = 0;
	struct domain *domain;

	OK(kf_join(fd, &id, 0));
	domain = domain_on(fd, id, false);
	for (int i = 0; i < 30; i++) {
		OK(kf_claim(fd, MASK_AB, 10, 0, &epoch));
		CHECK(epoch != last);
		last = epoch;
		UNTIL(domain->status->leased == 0);
	}
}

CASE("a restarted arbiter adopts the VMs that are there: MANAGE, PARKED, granted")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_with_workers(domain, 0, 2);
	int fd = kf_opened();
	uint32_t id = domain->id, epoch;
	struct domain *next;

	OK(grant(domain, CORE_A, A));
	UNTIL(atomic_load(&vm->worker[0]->grants) == 1);
	OK(kf_join(fd, &id, 0));
	domain_close(domain);
	UNTIL(atomic_load(&vm->worker[0]->unmanaged) && atomic_load(&vm->worker[1]->unmanaged));
	RESULT(kf_ioctl(vm->fd, FLUX_KF_MANAGE, NULL), -ESTALE);
	OK(kf_claim(fd, MASK_AB, 60000, 0, &epoch));
	next = domain_on(fd, id, true);
	SAME(state_of(next, A), FLUX_VCPU_UNMANAGED);
	RESULT(grant(next, CORE_A, A), -EBUSY);
	OK(kf_ioctl(vm->fd, FLUX_KF_MANAGE, NULL));
	until_parked(next, A);
	until_parked(next, B);
	OK(grant(next, CORE_A, B));
	OK(grant(next, CORE_B, A));
	until_running(next, B, CORE_A);
	until_running(next, A, CORE_B);
	UNTIL(atomic_load(&vm->worker[0]->core) == CORE_B);
	SAME(atomic_load(&vm->worker[0]->wrong_core), 0);
}

CASE("UNMANAGE frees a VM from its arbiter, MANAGE brings it back, over and over")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_with_workers(domain, 0, 2);

	for (int i = 0; i < 30; i++) {
		OK(grant(domain, CORE_A, A));
		until_running(domain, A, CORE_A);
		OK(kf_ioctl(vm->fd, FLUX_KF_UNMANAGE, NULL));
		for (uint32_t v = 0; v < 2; v++) {
			UNTIL(state_of(domain, handle(0, v)) == FLUX_VCPU_UNMANAGED);
			UNTIL(affinity_of(atomic_load(&vm->worker[v]->tid)) == online_mask());
		}
		UNTIL(idle(domain, CORE_A));
		OK(kf_ioctl(vm->fd, FLUX_KF_MANAGE, NULL));
		until_parked(domain, A);
		until_parked(domain, B);
	}
}

CASE("a vCPU that registers UNMANAGED is not granted until it is managed")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_new(domain, 0, 1);
	struct worker *w = worker_start(vm, 0, FLUX_KF_REGISTER_UNMANAGED);

	UNTIL(atomic_load(&w->unmanaged));
	SAME(state_of(domain, A), FLUX_VCPU_UNMANAGED);
	RESULT(grant(domain, CORE_A, A), -EBUSY);
	OK(kf_ioctl(vm->fd, FLUX_KF_MANAGE, NULL));
	until_parked(domain, A);
	OK(grant(domain, CORE_A, A));
	until_running(domain, A, CORE_A);
}

CASE("REGISTER without a lease: the vCPU runs under the ordinary scheduler")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_new(domain, 0, 1);
	struct flux_kf_turn turn;

	OK(kf_ioctl(domain->fd, FLUX_KF_RELEASE, NULL));
	OK(vm_register(vm, 0, 0));
	/* Nobody could ever wake it: it must not sleep. */
	OK(vm_park(vm, 0, FLUX_HOW_ENTRY, &turn));
	SAME(turn.reason, FLUX_KF_UNMANAGED);
}

CASE("an affinity of its own is remembered at REGISTER and comes back")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_new(domain, 0, 1);
	struct flux_kf_turn turn;
	cpu_set_t mine;

	CPU_ZERO(&mine);
	CPU_SET(0, &mine);
	CPU_SET(CORE_B, &mine);
	CHECK(sched_setaffinity(0, sizeof(mine), &mine) == 0);
	OK(vm_register(vm, 0, 0));
	OK(grant(domain, CORE_A, A));
	OK(vm_park(vm, 0, FLUX_HOW_ENTRY, &turn));
	SAME(sched_getcpu(), CORE_A);
	OK(kf_ioctl(domain->fd, FLUX_KF_RELEASE, NULL));
	UNTIL(affinity_of(0) == (1 | 1ull << CORE_B));
}

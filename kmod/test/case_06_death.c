// SPDX-License-Identifier: GPL-2.0
/* What happens to the others when somebody ends: a thread, a VMM. */
#define GROUP "death and lease"
#include "vmm.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define A handle(0, 0)
#define B handle(0, 1)
#define C handle(1, 0)

CASE("a thread that ends without a word: DEAD, and its core goes to the heir")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_with_workers(domain, 0, 2);

	OK(grant(domain, CORE_A, A));
	until_running(domain, A, CORE_A);
	OK(heir(domain, CORE_A, B));
	atomic_store(&vm->worker[0]->manner, QUIT);
	until_running(domain, B, CORE_A);
	UNTIL(state_of(domain, A) == FLUX_VCPU_DEAD);
	RESULT(grant(domain, CORE_B, A), -ESRCH);
	/* The VM lives on with its other vCPU. */
	SAME(domain->status->vms, 1);
}

CASE("a thread that unregisters: DEAD at once, its core idle, its affinity as it was")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_new(domain, 0, 1);
	struct flux_kf_turn turn;

	OK(vm_register(vm, 0, 0));
	OK(grant(domain, CORE_A, A));
	OK(vm_park(vm, 0, FLUX_HOW_ENTRY, &turn));
	SAME(affinity_of(0), 1ull << CORE_A);
	OK(vm_unregister(vm, 0));
	SAME(state_of(domain, A), FLUX_VCPU_DEAD);
	CHECK(idle(domain, CORE_A));
	SAME(affinity_of(0), online_mask());
}

CASE("a thread that ends while it is parked")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vmm *vmm = vmm_new(domain, 0, 2);

	OK(heir(domain, CORE_A, A));
	vmm_kill(vmm);
	UNTIL(state_of(domain, A) == FLUX_VCPU_DEAD && state_of(domain, B) == FLUX_VCPU_DEAD);
	UNTIL(domain->status->vms == 0);
	RESULT(grant(domain, CORE_A, A), -ESRCH);
	CHECK(idle(domain, CORE_A));
}

CASE("SIGKILL of a VMM: running, spinning and asleep; its cores return at once")
{
	struct domain *domain = domain_new(MASK_AB);
	static const enum manner manners[] = {OBEY, STUBBORN, SLEEPS};
	struct vm *other = vm_with_workers(domain, 1, 1);

	for (int i = 0; i < 9; i++) {
		struct vmm *vmm = vmm_new(domain, 0, 2);

		atomic_store(&vmm->shared->manner[0], manners[i % 3]);
		OK(grant(domain, CORE_A, A));
		OK(grant(domain, CORE_B, B));
		UNTIL(atomic_load(&vmm->shared->grants[0]) && atomic_load(&vmm->shared->grants[1]));
		if (i / 3 == 1)
			OK(heir(domain, CORE_A, C));
		if (i / 3 == 2)
			RESULT_IN(ask(domain, CORE_A, A, C), 0);
		vmm_kill(vmm);
		UNTIL(idle(domain, CORE_B));
		if (i / 3) {
			until_running(domain, C, CORE_A);
			OK(park(domain, CORE_A, C));
			until_parked(domain, C);
		}
		OK(heir(domain, CORE_A, 0));
		UNTIL(idle(domain, CORE_A));
		UNTIL(domain->status->vms == 1);
	}
	SAME(atomic_load(&other->worker[0]->error), 0);
}

CASE("the last descriptor of a VM is closed by a process that never registered")
{
	struct domain *domain = domain_new(MASK_AB);
	int fd;

	OK(vm_create(domain, 0, 2, &fd));
	SAME(domain->status->vms, 1);
	close(fd);
	UNTIL(domain->status->vms == 0);
	OK(vm_create(domain, 0, 2, &fd));
}

CASE("a VM's descriptor is closed by its own threads' process: END, everyone DEAD")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_with_workers(domain, 0, 2);

	/* The threads are inside PARK, which holds the file: the VM's end comes when they are out. */
	OK(grant(domain, CORE_A, A));
	until_running(domain, A, CORE_A);
	OK(kf_ioctl(vm->fd, FLUX_KF_END, NULL));
	for (int v = 0; v < 2; v++)
		worker_join(vm->worker[v]);
	vm_close(vm);
	UNTIL(idle(domain, CORE_A));
	UNTIL(domain->status->vms == 0);
}

CASE("SIGSTOP and SIGCONT of a VMM: parked, running, asked")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vmm *vmm = vmm_new(domain, 0, 1);
	struct vm *other = vm_with_workers(domain, 1, 1);
	int status;

	for (int i = 0; i < 12; i++) {
		if (i % 3) {
			UNTIL(grant(domain, CORE_A, A) == 0);
			until_running(domain, A, CORE_A);
		}
		kill(vmm->pid, SIGSTOP);
		CHECK(waitpid(vmm->pid, &status, WUNTRACED) == vmm->pid && WIFSTOPPED(status));
		if (i % 3 == 2) {
			/* A stopped vCPU cannot leave: it is blocked in the host, so its core is lent. */
			RESULT_IN(move(domain, CORE_A, A, C), 0);
			until_running(domain, C, CORE_A);
		}
		kill(vmm->pid, SIGCONT);
		if (i % 3 == 2) {
			until_parked(domain, A);
			OK(park(domain, CORE_A, C));
			until_parked(domain, C);
		} else if (i % 3 == 1) {
			OK(park(domain, CORE_A, A));
			until_parked(domain, A);
		}
		UNTIL(idle(domain, CORE_A));
	}
	SAME(atomic_load(&vmm->shared->errors), 0);
	(void)other;
}

CASE("a grant to a stopped thread is delivered when it goes on")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vmm *vmm = vmm_new(domain, 0, 1);
	int status;

	kill(vmm->pid, SIGSTOP);
	CHECK(waitpid(vmm->pid, &status, WUNTRACED) == vmm->pid && WIFSTOPPED(status));
	RESULT_IN(grant(domain, CORE_A, A), 0, -EBUSY);
	kill(vmm->pid, SIGCONT);
	if (idle(domain, CORE_A)) {
		until_parked(domain, A);
		OK(grant(domain, CORE_A, A));
	}
	UNTIL(atomic_load(&vmm->shared->grants[0]) > 0);
	until_running(domain, A, CORE_A);
}

CASE("ptrace attaches to a parked vCPU, and lets go")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vmm *vmm = vmm_new(domain, 0, 1);

	for (int i = 0; i < 10; i++) {
		pid_t tid = atomic_load(&vmm->shared->tid[0]);
		int status;

		if (ptrace(PTRACE_ATTACH, tid, NULL, NULL))
			kf_skip("ptrace: %s", strerror(errno));
		CHECK(waitpid(tid, &status, __WALL) == tid && WIFSTOPPED(status));
		SAME(state_of(domain, A), FLUX_VCPU_PARKED);
		CHECK(ptrace(PTRACE_DETACH, tid, NULL, NULL) == 0);
		UNTIL(grant(domain, CORE_A, A) == 0);
		until_running(domain, A, CORE_A);
		UNTIL(atomic_load(&vmm->shared->grants[0]) == (unsigned int)i + 1);
		OK(park(domain, CORE_A, A));
		until_parked(domain, A);
	}
	SAME(atomic_load(&vmm->shared->errors), 0);
}

CASE("fork in a VMM: the child is no vCPU, and its end is nobody's end")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_new(domain, 0, 1);
	struct flux_kf_turn turn;
	int status;

	OK(vm_register(vm, 0, 0));
	OK(grant(domain, CORE_A, A));
	OK(vm_park(vm, 0, FLUX_HOW_ENTRY, &turn));
	for (int i = 0; i < 5; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			RESULT(vm_park(vm, 0, FLUX_HOW_YIELD, &turn), -EPERM);
			_exit(0);
		}
		waitpid(pid, &status, 0);
		SAME(status, 0);
		SAME(state_of(domain, A), FLUX_VCPU_RUNNING);
		SAME(owner_of(domain, CORE_A), A);
	}
}

CASE("execve of a VMM: its threads are gone, its descriptor too; the cores return")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vmm *vmm = vmm_new(domain, 0, 2);
	int status;

	OK(grant(domain, CORE_A, A));
	OK(grant(domain, CORE_B, B));
	UNTIL(atomic_load(&vmm->shared->grants[0]) && atomic_load(&vmm->shared->grants[1]));
	atomic_store(&vmm->shared->exec, true);
	CHECK(waitpid(vmm->pid, &status, 0) == vmm->pid);
	UNTIL(state_of(domain, A) == FLUX_VCPU_DEAD && state_of(domain, B) == FLUX_VCPU_DEAD);
	UNTIL(idle(domain, CORE_A) && idle(domain, CORE_B));
	UNTIL(domain->status->vms == 0);
}

CASE("execve by the vCPU's own thread")
{
	struct domain *domain = domain_new(MASK_AB);
	int fd, status;

	OK(vm_create(domain, 0, 1, &fd));
	pid_t pid = fork();
	if (pid == 0) {
		struct vm *vm = vm_on(fd, 0, 1);
		struct flux_kf_turn turn;

		OK(vm_register(vm, 0, 0));
		OK(vm_park(vm, 0, FLUX_HOW_ENTRY, &turn));
		int null = open("/dev/null", O_WRONLY);

		dup2(null, 1);
		execl("/proc/self/exe", "kflux-test", "--list", NULL);
		_exit(1);
	}
	close(fd);
	UNTIL(grant(domain, CORE_A, A) == 0);
	CHECK(waitpid(pid, &status, 0) == pid);
	SAME(status, 0);
	UNTIL(idle(domain, CORE_A));
	UNTIL(state_of(domain, A) == FLUX_VCPU_DEAD);
	UNTIL(domain->status->vms == 0);
}

CASE_LIMIT("VMMs that come, get cores and are killed, many times over", 120)
{
	struct domain *domain = domain_new(MASK_AB);

	for (unsigned int i = 0; i < 60 / kf_opt.slow + 1; i++) {
		struct vmm *one = vmm_new(domain, 0, 2), *two = vmm_new(domain, 1, 2);

		OK(grant(domain, CORE_A, handle(0, 0)));
		OK(grant(domain, CORE_B, handle(1, 0)));
		OK(heir(domain, CORE_A, handle(1, 1)));
		OK(heir(domain, CORE_B, handle(0, 1)));
		RESULT_IN(move(domain, CORE_A, handle(0, 0), handle(1, 1)), 0, -EAGAIN, -EBUSY);
		for (volatile int spin = 0; spin < (int)(i % 20) * 500; spin++)
			;
		kill(one->pid, SIGKILL);
		kill(two->pid, SIGKILL);
		vmm_kill(one);
		vmm_kill(two);
		UNTIL(domain->status->vms == 0);
		UNTIL(idle(domain, CORE_A) && idle(domain, CORE_B));
		OK(heir(domain, CORE_A, 0));
		OK(heir(domain, CORE_B, 0));
	}
}

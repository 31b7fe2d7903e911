// SPDX-License-Identifier: GPL-2.0
/* A VMM without KVM in a process of its own, to be stopped and killed. */
#include "vmm.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

static void vmm_main(struct vmm *vmm, uint32_t slot, uint32_t vcpus)
{
	struct vm *vm = vm_on(vmm->fd, slot, vcpus);

	for (uint32_t v = 0; v < vcpus; v++)
		atomic_store(&vmm->shared->tid[v], atomic_load(&worker_start(vm, v, 0)->tid));
	for (;;) {
		for (uint32_t v = 0; v < vcpus; v++) {
			struct worker *w = vm->worker[v];

			atomic_store(&vmm->shared->grants[v], atomic_load(&w->grants));
			atomic_store(&vmm->shared->unmanaged[v], atomic_load(&w->unmanaged));
			/* A YIELD is carried out once: the worker itself goes back to OBEY. */
			atomic_store(&w->manner, atomic_load(&vmm->shared->manner[v]));
			if (atomic_load(&w->error))
				atomic_store(&vmm->shared->errors, atomic_load(&w->error));
		}
		if (atomic_load(&vmm->shared->exec))
			execl("/proc/self/exe", "kflux-test", "--list", NULL);
		kf_pause();
	}
}

struct vmm *vmm_new(struct domain *domain, uint32_t slot, uint32_t vcpus)
{
	struct vmm *vmm = calloc(1, sizeof(*vmm));

	vmm->shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	OK(vm_create(domain, slot, vcpus, &vmm->fd));
	vmm->pid = fork();
	if (vmm->pid == 0) {
		/* The arbiter's files are not for the VMM. */
		close(domain->fd);
		munmap((void *)domain->status, 4096);
		munmap((void *)domain->event, EVENTS_AREA);
		munmap((void *)domain->core, CORES_AREA);
		munmap((void *)domain->vcpu, VCPUS_AREA);
		kf_dump = NULL;
		int null = open("/dev/null", O_WRONLY);

		dup2(null, 1);
		vmm_main(vmm, slot, vcpus);
		_exit(1);
	}
	close(vmm->fd);
	for (uint32_t v = 0; v < vcpus; v++)
		UNTIL(atomic_load(&vmm->shared->tid[v]));
	for (uint32_t v = 0; v < vcpus; v++)
		until_parked(domain, handle(slot, v));
	return vmm;
}

void vmm_kill(struct vmm *vmm)
{
	int status;

	kill(vmm->pid, SIGKILL);
	SAME(waitpid(vmm->pid, &status, 0), vmm->pid);
}

/* SPDX-License-Identifier: GPL-2.0 */
/* A VMM without KVM in a process of its own, to be stopped and killed. */
#ifndef KFLUX_TEST_VMM_H
#define KFLUX_TEST_VMM_H

#include "world.h"

/* A VMM in a process of its own: the VM's descriptor is inherited, as Fluxion inherits it. */
struct vmm {
	pid_t pid;
	int fd;
	struct shared {
		_Atomic enum manner manner[4];
		atomic_uint grants[4], unmanaged[4], errors;
		_Atomic pid_t tid[4];
		atomic_bool exec;
	} * shared;
};

/* All its vCPUs are PARKED. */
struct vmm *vmm_new(struct domain *domain, uint32_t slot, uint32_t vcpus);
void vmm_kill(struct vmm *vmm);

#endif

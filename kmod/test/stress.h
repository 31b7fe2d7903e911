/* SPDX-License-Identifier: GPL-2.0 */
/* The stress test's parts: its VMMs, its chaos, its watch over the invariants. */
#ifndef KFLUX_TEST_STRESS_H
#define KFLUX_TEST_STRESS_H

#include "guest.h"

#define STRESS_VMS 5
#define STRESS_VCPUS 2
#define STRESS_HANDLES (STRESS_VMS * STRESS_VCPUS)

/* One VMM, shared between it and the test. */
struct stress_vm {
	_Atomic pid_t pid; /* 0: there is none */
	_Atomic pid_t tid[STRESS_VCPUS];
	atomic_bool ready, stopped, calm;
	char trouble[256]; /* what it found wrong */
	atomic_bool troubled;
	_Atomic uint64_t turns, signals, unmanaged, parked;
};

struct stress {
	struct domain *domain;
	uint32_t first_core, cores; /* managed */
	struct stress_vm *vm; /* shared */
	atomic_bool stop;
	/* Its threads are pushed off by the scheduler before the module is told: 0 for none. */
	atomic_uint going_offline;
	atomic_int commander; /* the descriptor that has the lease */
	_Atomic uint64_t done[8], refused[8], stale;
	_Atomic uint64_t kills, stops, takeovers, offlines, releases, deaths, looks, seen_in_guest;
	double grace; /* how long something may last that should pass */
};

/* stress_vmm.c */
_Noreturn void stress_vmm(struct stress *stress, uint32_t slot, int fd, uint64_t seed);
/* stress_watch.c: a thread */
void *stress_watch(void *stress);

static inline uint32_t stress_handle(uint32_t index)
{
	return handle(index / STRESS_VCPUS, index % STRESS_VCPUS);
}

#endif

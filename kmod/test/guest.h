/* SPDX-License-Identifier: GPL-2.0 */
/* Real KVM vCPUs with a few instructions of guest, run by FLUX_KF_RUN. */
#ifndef KFLUX_TEST_GUEST_H
#define KFLUX_TEST_GUEST_H

#include "world.h"

#include <linux/kvm.h>

/* Words of the guest's memory. */
#define GUEST_COUNT 0x2000
#define GUEST_CRITICAL 0x2004
#define GUEST_HINT 0x2008
#define GUEST_BYTES 0x10000
#define GUEST_PORT 0x18 /* what an `out` program writes to */
#define GUEST_BAD_PORT 0x99 /* a guest whose register and memory differ says so here */

enum program {
	COUNTS, /* a counter in a register and in memory, compared in each round */
	CRITICAL_NOW_AND_THEN, /* counts, half of the time with its critical word set */
	OUTS, /* counts, and leaves by `out` each time */
};

struct kvm_vm {
	int kvm, fd;
	uint32_t slot;
	struct vm *vm;
};

struct guest {
	struct kvm_vm *kvm;
	uint32_t vcpu;
	int fd;
	struct kvm_run *run;
	uint32_t run_bytes;
	volatile uint32_t *memory; /* by word: memory[GUEST_COUNT / 4] */
	pthread_t thread;
	_Atomic pid_t tid;
	atomic_bool stop, ended, dead;
	atomic_int error; /* errno, or a KVM exit that nobody expected, negated */
	atomic_bool corrupt; /* the guest saw that its registers were not its own */
	atomic_uint grants, exits, signals, unmanaged, preempts, parked_kicked, parked_forced, parked_entry, kicks, wrong_core;
	char where[160]; /* of wrong_core */
	atomic_uint critical_parks; /* parked by a plain kick although the critical word was set: must stay 0 */
	atomic_uint critical_preempts; /* interrupted by PREEMPT although it was set: must stay 0 */
	atomic_uint held_wrong; /* the held word did not say how it was parked */
	atomic_uint yield_exits; /* how many exits by `out` it takes to yield; 0: never */
	_Atomic uint64_t guest_tsc;
	struct flux_kf_turn last;
};

/* Skips the case where there is no KVM. */
struct kvm_vm *kvm_vm_new(struct domain *domain, uint32_t slot, uint32_t vcpus);
struct guest *guest_new(struct kvm_vm *kvm, uint32_t vcpu, enum program program);
int guest_register(struct guest *guest);
/* Its thread: registers, parks, runs. */
void guest_start(struct guest *guest);
struct guest *guest_running(struct kvm_vm *kvm, uint32_t vcpu, enum program program);
void guest_join(struct guest *guest);

/* The guest goes on: its counter moves. */
void guest_counts(struct guest *guest);
/* It does not: looked at for some time. */
void guest_stands_still(struct guest *guest);
/* Nothing happened to it that must not. */
void guest_no_harm(struct guest *guest);
/* This thread is vCPU 0, and has been granted core A. */
struct guest *guest_here(struct domain *domain, struct kvm_vm *kvm, enum program program);
/* In a child: grants core B to vCPU 0 of slot 0 as soon as it is parked. */
void grant_when_parked(struct domain *domain);
int kick_move(struct domain *domain, uint32_t core, uint32_t from, uint32_t to);

static inline uint32_t guest_word(struct guest *guest, uint32_t at)
{
	return __atomic_load_n(&guest->memory[at / 4], __ATOMIC_ACQUIRE);
}
static inline void guest_set(struct guest *guest, uint32_t at, uint32_t value)
{
	__atomic_store_n(&guest->memory[at / 4], value, __ATOMIC_SEQ_CST);
}
static inline uint32_t guest_handle(struct guest *guest)
{
	return handle(guest->kvm->slot, guest->vcpu);
}

#endif

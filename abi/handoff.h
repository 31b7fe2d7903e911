/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * The hand-off table: one sealed memfd for all VMs, mapped by the arbiter,
 * hyperfluxd and every Fluxion, never by a guest. It is where cores change hands
 * when no kernel module is there to do it: a leaving vCPU's thread must be able to
 * wake any possible successor, so the words of all of them lie in one place.
 *
 * Map of the file (bytes):
 *   0x000000  header
 *   0x001000  cores, 128 bytes each
 *   0x009000  VM lines, FLUX_VM_BYTES each
 *   0x049000  vCPU blocks, one page for each VM
 *
 * Where kFlux moves the cores (kflux_domain in the header is not 0), the pages of cores
 * and vCPUs are kFlux's: it alone decides, in memory of its own, and publishes here
 * what it did (kflux.h). Whoever maps the table maps those pages of the domain over it,
 * so that all readers read the same words whichever bridge there is.
 *
 * THE PROTOCOL. Two kinds of word decide every race; both change by
 * compare-and-swap only.
 *
 *   flux_core.word    owner : 16 | successor : 16 | generation : 32
 *   flux_vcpu.word    state : 8 | core : 16 << 8
 *
 * The core word is the truth about a core. "successor != 0" *is* the request that
 * the owner park; everything else (park_req, the guest's park_gen, the kick) only
 * carries the news, so stale news is recognised by looking at the core word.
 *
 *  grant(c, t)    1 vCPU t: PARKED -> GRANTING(c)       [claims t; one winner]
 *                 2 core c: (0, 0, g) -> (t, 0, g+1)    [else undo 1]
 *                 3 deliver(t)
 *  move(c, f, t)  1 vCPU t: PARKED -> GRANTING(c)
 *                 2 core c: (f, 0, g) -> (f, t, g+1)    [if (0, 0) by now: as grant; else undo 1]
 *                 3 park_req of f += 1, then the guest's park_gen; kick if need be
 *  park(c, f)     as move with t = FLUX_HANDLE_IDLE and no step 1
 *  leave(f)       by f's own thread, its context whole:
 *                 1 next = successor, or else the heir if PARKED -> GRANTING(c) succeeds, or nobody
 *                 2 core c: (f, s, g) -> (next, 0, g+1) [if s changed: undo the heir, again]
 *                 3 vCPU f: RUNNING or CEDING -> PARKED, *before* waking anyone: from here on
 *                   f can be granted elsewhere even if its thread is preempted by the successor
 *                 4 deliver(next)
 *  deliver(t)     affinity if flux_vcpu.pinned differs; vCPU t: GRANTING -> RUNNING; futex wake.
 *                 Idempotent, so the reaper repeats it for whoever died between 2 and 4.
 *  enter(t)       by t's thread after RUNNING: s = park_req; if the core's successor != 0
 *                 leave at once; else settled = s and into the guest. (s is read first: a
 *                 request that comes after the look has a park_req above s, because its
 *                 step 2 precedes its step 3.)
 *
 * If the lease ends, each Fluxion takes its own vCPUs to UNMANAGED from any state;
 * nobody else changes that state until an arbiter with a newer epoch adopts the VM.
 */
#ifndef FLUX_ABI_HANDOFF_H
#define FLUX_ABI_HANDOFF_H

#include "flux.h"

#define FLUX_TABLE_MAGIC 0x46444e48
#define FLUX_CORES_OFFSET 0x1000
#define FLUX_CORE_BYTES 128
#define FLUX_VMS_OFFSET 0x9000
#define FLUX_VM_BYTES 256
#define FLUX_TVCPUS_OFFSET 0x49000
#define FLUX_TVCPU_BYTES 256
#define FLUX_TVCPUS_BYTES 4096 /* of one VM: 16 * 256, a page */
#define FLUX_TABLE_BYTES 4493312 /* 0x49000 + 1024 * 4096 */

/* flux_vcpu.word, low byte. NEW is not PARKED: its thread is not there yet. */
#define FLUX_VCPU_NEW 0
#define FLUX_VCPU_PARKED 1
#define FLUX_VCPU_GRANTING 2
#define FLUX_VCPU_RUNNING 3
#define FLUX_VCPU_CEDING 4
#define FLUX_VCPU_BLOCKED 5
#define FLUX_VCPU_UNMANAGED 6
#define FLUX_VCPU_DEAD 7

/* flux_vcpu.held: the context that KVM (or a signal frame) holds of an interrupted vCPU. */
#define FLUX_HELD_NONE 0
#define FLUX_HELD_HELD 1 /* may be resumed by its vCPU or exported by a thief */
#define FLUX_HELD_RESUMING 2
#define FLUX_HELD_EXPORTING 3
#define FLUX_HELD_TAKEN 4 /* the vCPU re-enters at the scheduler */
#define FLUX_HELD_FORCED 5 /* parked by force inside FluxOS: only its vCPU can go on */

/* flux_vm.state */
#define FLUX_VM_EMPTY 0
#define FLUX_VM_STARTING 1 /* Fluxion sets the VM up; not to be touched */
#define FLUX_VM_LIVE 2
#define FLUX_VM_POISONED 3 /* an unexpected exit; its vCPUs never run again */
#define FLUX_VM_DEAD 4 /* the process is gone or going; the arbiter reaps it */

/* How a vCPU came to leave its core (flux_vcpu.how). */
#define FLUX_HOW_YIELD 1
#define FLUX_HOW_ASKED 2
#define FLUX_HOW_KICKED 3
#define FLUX_HOW_FORCED 4
#define FLUX_HOW_ENTRY 5 /* asked to leave before it had entered the guest */
#define FLUX_HOW_LENT 6 /* kFlux: its thread slept in the host, so the core went on without it */
#define FLUX_HOW_TAKEN 7 /* kFlux: its thread did not come back from the host after the deadline */

/* flux_vcpu.host, written by kFlux: what the host's scheduler did with the thread. */
#define FLUX_HOST_ON 0
#define FLUX_HOST_PREEMPTED 1 /* something else runs on its core */
#define FLUX_HOST_BLOCKED 2 /* it sleeps in the host, outside of a park: its core can be lent */

/* flux_core.flags, written by kFlux */
#define FLUX_CORE_CLAIMED 1
#define FLUX_CORE_OFFLINE 2

/* What a command to a bridge asks for. */
#define FLUX_OP_GRANT 1 /* an idle core to a parked vCPU */
#define FLUX_OP_PARK 2 /* the owner leaves; the core falls idle */
#define FLUX_OP_MOVE 3 /* the owner leaves in favour of another vCPU */
#define FLUX_OP_HEIR 4 /* who gets the core if its owner leaves by itself; nobody: HANDLE_NONE */
#define FLUX_OP_FORCE 5 /* the park in flight, of this owner, is forced now, not at its deadline */
#define FLUX_OP_PREEMPT 6 /* the uThread that the owner runs gives way; the core stays (since minor 2) */

/* Which tier a park starts with. 0: kick at once if the guest says that it runs application
 * code, ask otherwise and kick after kick_after_us. */
#define FLUX_FLAG_ASK_ONLY 1 /* never kick before the deadline */
#define FLUX_FLAG_KICK_NOW 2

/* Words of a command, as the loop writes it; the result is 0 or a negative errno. */
#define FLUX_CMD_OP 0
#define FLUX_CMD_CORE 1
#define FLUX_CMD_FROM 2
#define FLUX_CMD_TO 3 /* PREEMPT: guest_vcpu.switches at the decision, see host_vcpu.preempt */
#define FLUX_CMD_FLAGS 4
#define FLUX_CMD_TSC_LO 5 /* TSC of the decision */
#define FLUX_CMD_TSC_HI 6
#define FLUX_CMD_RESULT 7
#define FLUX_CMD_WORDS 8

/* @shared The table's head. */
struct flux_table {
	uint32_t magic;
	uint32_t abi_major;
	uint32_t abi_minor;
	uint32_t bytes;
	uint32_t stamp_shift;
	uint32_t tsc_khz;
	uint32_t epoch; /* CAS: the lease; an arbiter whose epoch is not this one gets ESTALE */
	uint32_t arbiter_pid; /* 0: none */
	uint32_t heartbeat; /* arbiter's loop: stamp of its latest turn */
	uint32_t lease_ms;
	uint32_t deadline_us; /* a park that takes longer is forced */
	uint32_t kick_after_us; /* how long an asked vCPU in FluxOS's code may take before it is kicked */
	uint32_t vms_changed; /* futex: bumped whenever a VM section's state or load changes */
	uint32_t arbiter_core; /* where the loop spins */
	uint32_t managed[8]; /* bit mask of the managed cores, 256 bits */
	uint32_t kflux_domain; /* the kFlux domain whose pages belong over this table's; 0: the affinity bridge */
	uint32_t reserved[9];
};
_Static_assert(sizeof(struct flux_table) == 128, "table header");

/* @shared One managed core. */
struct flux_core {
	uint64_t word; /* owner, successor, generation: see above */
	uint32_t heir; /* arbiter: who gets the core if its owner leaves with no successor */
	uint32_t switches; /* grants of this core, by whoever delivered them */
	uint64_t since_tsc; /* when the present owner got it */
	uint32_t yields;
	uint32_t forced;
	uint32_t flags; /* kFlux: FLUX_CORE_* */
	uint32_t lent; /* kFlux: times it went on because its owner slept in the host */
	uint32_t taken; /* kFlux: times it was taken from a thread that did not come back */
	uint32_t reserved[21];
};
_Static_assert(sizeof(struct flux_core) == FLUX_CORE_BYTES, "core");

/* @shared One VM: its first line block. */
struct flux_vm {
	uint32_t state; /* FLUX_VM_*; CAS */
	uint32_t pid; /* Fluxion's */
	uint32_t vcpus;
	uint32_t vm_class; /* FLUX_CLASS_* */
	uint32_t min_cores; /* guaranteed */
	uint32_t max_cores;
	uint32_t doorbell; /* futex: an unmanaged, idle vCPU waits here */
	uint32_t waiters; /* vCPUs that wait; pairs with the ringer's read after its bump */
	uint32_t ring_tail; /* releaser: published requests (its own copy; the guest's page is not read back) */
	uint32_t ring_depth; /* releaser: requests published and not taken by the guest, clamped */
	uint32_t ring_oldest; /* releaser: due stamp of the oldest of them */
	uint32_t load_pid; /* where the arbiter finds the VM's load area: /proc/<pid>/fd/<fd>; 0: none */
	uint32_t load_fd;
	uint32_t forced; /* forced parks of vCPUs that ran and did not leave */
	uint32_t forced_descheduled; /* counted apart: late because the host had descheduled the victim */
	uint32_t generation; /* of the slot: bumped when it is taken, so that a reused slot is told apart */
	uint64_t granted_tsc; /* metering: TSC ticks of cores held */
	uint64_t used_tsc; /* TSC ticks inside the guest */
	uint64_t taken_tsc; /* TSC ticks between losing a core against its will and the vCPU's next grant */
	char name[FLUX_NAME_BYTES];
	uint32_t quantum_us; /* time slice of its uThreads while others wait; 0: none (since minor 2) */
	/* What policies go by; hyperfluxd writes it (all since minor 2). */
	uint32_t weight; /* share against other VMs'; 0: the default, 100 */
	uint64_t hint_until_tsc; /* announced need: hint_cores until then */
	uint32_t hint_cores; /* 0: nothing is announced */
	uint32_t slo_us; /* queueing delay that the VM wants to stay under; 0: it did not say */
	uint32_t group; /* its class by the rules of the policy `classes`; 0: none */
	uint32_t configured; /* bumped, last, when any of these has changed while the VM is there */
	uint32_t reserved[26];
};
_Static_assert(sizeof(struct flux_vm) == 256, "VM line block");

/* @shared One vCPU, host side only. */
struct flux_vcpu {
	uint32_t word; /* state and core: see above; futex of the vCPU's thread */
	uint32_t held; /* FLUX_HELD_*; CAS */
	uint32_t tid; /* thread id, for affinity and kick; 0 before the thread is there */
	uint32_t pinned; /* core that its affinity is set to, or FLUX_CORE_NONE */
	uint32_t park_req; /* arbiter: park requests so far */
	uint32_t force; /* arbiter, by command or deadline: the critical word is to be ignored for this park_req */
	uint32_t how; /* FLUX_HOW_* of the last leave */
	uint32_t grants; /* times it was granted a core */
	uint32_t parks;
	uint32_t yields;
	uint32_t kicks; /* kicks that found the guest and were acted on */
	uint32_t stale; /* asks and kicks that were over when they arrived */
	uint32_t preempt; /* arbiter: as host_vcpu.preempt, which the guest can overwrite (since minor 2) */
	uint32_t preempts; /* uThreads that were made to give way in application code */
	uint32_t reserved0[2];
	uint64_t t_decided; /* TSC stamps of the last hand-over this vCPU took part in; as the leaver: */
	uint64_t t_kicked; /* bridge: the kick was sent; 0: asked only */
	uint64_t t_seen; /* out of the guest */
	uint64_t t_parked; /* its context is whole, leave() begins */
	uint64_t t_handed; /* successor woken */
	uint64_t t_granted; /* as the successor: the deliverer's stamp */
	uint64_t t_woken; /* its thread runs */
	uint64_t t_enter; /* about to enter the guest */
	uint64_t lost_tsc; /* when it lost its core against its will; 0: it did not */
	uint64_t entered_tsc; /* since when it is in the guest, not yet in used_tsc; 0: it is not */
	uint32_t host; /* kFlux: FLUX_HOST_* */
	uint32_t blocks; /* kFlux: times its thread fell asleep in the host while it held a core */
	uint64_t blocked_tsc; /* kFlux: since when it sleeps there; 0: it does not */
	uint64_t granted_tsc; /* kFlux's meters of this vCPU, to be added to its VM's */
	uint64_t used_tsc;
	uint64_t taken_tsc;
	uint32_t reserved[18];
};
_Static_assert(sizeof(struct flux_vcpu) == FLUX_TVCPU_BYTES, "vCPU block");

#endif

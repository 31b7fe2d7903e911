/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * /dev/kflux: cores change hands inside the kernel.
 *
 * THE OBJECTS
 *   domain   VM slots, claimed cores, status pages and event ring of one HyperFlux.
 *            A file of /dev/kflux joins one; it lives as long as such a file or a VM.
 *   lease    the right to command a domain's cores: CLAIM gives it to the file that
 *            asks, RELEASE, the file's end or a heartbeat that stands still takes it.
 *   VM       a descriptor made by VM_CREATE and inherited by its VMM. Its end is the VM's.
 *   vCPU     a thread of that VMM that has REGISTERed *itself*. Nothing here takes a
 *            thread id, a process id or a pointer to somebody else's anything.
 *
 * WHAT IS TRUE. The protocol is that of handoff.h, states and words included, but its
 * words are the kernel's own, behind a lock for each core and one for each vCPU. The
 * status pages show what was decided; kFlux never reads them back, except for the
 * heartbeat and for flux_vcpu.held, which is the VMM's (it can hurt itself only).
 *
 * FILES AND PAGES. HELLO comes first on every descriptor; all else is EPROTO before.
 * mmap of a domain's file: page 0 (struct flux_kf_status, writable for the holder of the
 * lease), then cores and vCPU blocks at the offsets that they have in the hand-off table,
 * read-only, then the event ring at FLUX_KF_EVENTS_OFFSET, read-only. mmap of a VM's
 * descriptor: the cores read-only and its own page of vCPU blocks at their offsets.
 *
 * A VCPU'S LIFE
 *   REGISTER  NEW -> PARKED (or UNMANAGED); affinity is remembered. Returns at once.
 *   PARK      leaves the core, if it has one: the successor, else the heir, is woken on it
 *             by this call; sleeps until there is a core, the lease ends or the VM does.
 *             A signal ends the sleep with EINTR (restarted where SA_RESTART says so): the
 *             vCPU is still PARKED and its thread has been moved off the managed cores, so
 *             it runs its handler there and parks again. Granted meanwhile: returns at once.
 *   RUN       KVM_RUN on the vCPU's KVM descriptor, by this call, again and again, until
 *             user space is needed. A kick ends KVM_RUN; if the core is wanted and the
 *             guest's critical word is 0 (or the park is forced), the thread marks the held
 *             context, hands the core over and sleeps, all inside this call. Without a core
 *             a managed vCPU does not enter the guest. For PREEMPT it comes back in
 *             application code, with the core, and goes on at the next RUN.
 *   UNREGISTER, or the thread's end: DEAD; its core goes on.
 * PARKED is published when the thread has really been switched out, so that a grant never
 * waits for it; until then the vCPU is CEDING with no core.
 *
 * A thread that sleeps in the host while it holds a core is seen by kFlux (flux_vcpu.host).
 * A PARK or MOVE of its core is then carried out at once: the core is lent on, the vCPU is
 * BLOCKED with no core, and its thread is PARKED when it next comes by RUN or PARK, before
 * it enters the guest. The same is done to a thread that has not come back a quarter of a
 * deadline after it was forced, whatever it does.
 *
 * ERRORS. A command's result and the ioctl's errno mean the same thing everywhere:
 *   EPROTO   HELLO was not said, or another ABI major (both versions are in the answer)
 *   EPERM    not privileged (CAP_SYS_NICE in the initial user namespace), not a thread of
 *            this VM's process, or not the thread that registered this vCPU
 *   ESTALE   the lease is over or somebody else's
 *   EINVAL   a word that has no meaning: unknown op, flag, core not claimed, not a handle
 *   ESRCH    no such live VM or vCPU        EEXIST   the slot or vCPU is taken
 *   EBUSY    the vCPU that should get the core is not parked; a core or lease is held by another
 *   EAGAIN   the core's owner or generation is not the one that the command names
 *   EALREADY the core has a park in flight  ENODEV   the core is offline
 *   ENOENT   no such domain                 EFAULT   a pointer that is none
 */
#ifndef FLUX_ABI_KFLUX_H
#define FLUX_ABI_KFLUX_H

#include "flux.h"
#include "handoff.h"

#define FLUX_KF_MAGIC 0x584c464b
#define FLUX_KF_EVENTS_OFFSET 0x44a000
#define FLUX_KF_EVENTS 4096
#define FLUX_KF_EVENT_BYTES 32
#define FLUX_KF_BATCH_MAX 512

/* Any descriptor. The numbers are those of _IOWR(0xb5, nr, struct ...), checked in kmod. */
#define FLUX_KF_HELLO 0xc020b501
/* A domain's file. JOIN needs CAP_SYS_NICE unless it only views. */
#define FLUX_KF_JOIN 0xc010b502
#define FLUX_KF_CLAIM 0xc038b503
#define FLUX_KF_RELEASE 0x0000b504
#define FLUX_KF_SUBMIT 0xc010b505
#define FLUX_KF_VM_CREATE 0xc010b506
/* A VM's descriptor. */
#define FLUX_KF_REGISTER 0xc020b510
#define FLUX_KF_PARK 0xc028b511
#define FLUX_KF_RUN 0xc028b512
#define FLUX_KF_UNREGISTER 0xc010b513
/* By the VMM, for an arbiter that adopts the VM; forced after half a lease. ESTALE without one. */
#define FLUX_KF_MANAGE 0x0000b514
#define FLUX_KF_UNMANAGE 0x0000b515
#define FLUX_KF_END 0x0000b516 /* every vCPU is DEAD and woken; the VM never runs again */

#define FLUX_KF_JOIN_VIEW 1 /* to look only: no claim, no VM */
#define FLUX_KF_CLAIM_TAKEOVER 1 /* ends the lease that another file of this domain has */
#define FLUX_KF_REGISTER_UNMANAGED 1 /* starts under the ordinary scheduler */

/* flux_kf_command.flags beside FLUX_FLAG_*: the core must be at `generation`. Implied by FORCE. */
#define FLUX_KF_FLAG_GENERATION 256
#define FLUX_KF_NEVER 0xffffffff

/* Why PARK or RUN came back. */
#define FLUX_KF_EXIT 1 /* RUN: KVM_RUN is through; what it wants is in kvm_run */
#define FLUX_KF_SIGNAL 2 /* RUN: a signal, or other work that waits for this thread in user space */
#define FLUX_KF_GRANTED 3 /* there is a (new) core; RUN left the old one in this call */
#define FLUX_KF_UNMANAGED 4
#define FLUX_KF_DEAD 5
#define FLUX_KF_PREEMPT 6 /* RUN: interrupted for FLUX_OP_PREEMPT; flux_vcpu.preempt says whom it means */

/* flux_kf_event.kind */
#define FLUX_KF_EV_GRANT 1 /* core, to */
#define FLUX_KF_EV_REQUEST 2 /* core, from, to: the owner is asked to leave; arg: its park_req */
#define FLUX_KF_EV_KICK 3 /* core, from */
#define FLUX_KF_EV_LEAVE 4 /* core, from, to: handed over; arg: FLUX_HOW_* */
#define FLUX_KF_EV_PARKED 5 /* from: switched out */
#define FLUX_KF_EV_FORCE 6 /* core, from; arg: FLUX_HOST_* at that moment */
#define FLUX_KF_EV_BLOCKED 7 /* core, from: sleeps in the host */
#define FLUX_KF_EV_UNBLOCKED 8
#define FLUX_KF_EV_DEAD 9
#define FLUX_KF_EV_UNMANAGED 10
#define FLUX_KF_EV_MANAGED 11
#define FLUX_KF_EV_LEASE 12 /* arg: epoch; core 1: begins, 0: ended */
#define FLUX_KF_EV_OFFLINE 13 /* core; arg: 1 offline, 0 back */
#define FLUX_KF_EV_REFUSED 14 /* core, from, to: a command; arg: errno */
#define FLUX_KF_EV_PREEMPT 15 /* core, from: its uThread is to give way; arg: guest_vcpu.switches (since minor 2) */

/* @shared Page 0 of a domain. */
struct flux_kf_status {
	uint32_t magic;
	uint32_t abi_major;
	uint32_t abi_minor;
	uint32_t domain;
	uint32_t epoch; /* of the lease; 0: there never was one */
	uint32_t leased; /* 1: an arbiter has it */
	uint32_t lease_ms;
	uint32_t vms;
	uint64_t commands; /* counters since the domain began */
	uint64_t refused;
	uint64_t switches;
	uint64_t kicks;
	uint32_t reserved0[16];
	uint32_t heartbeat; /* arbiter's loop: any change says that it is alive */
	uint32_t reserved1[31];
	uint64_t events; /* events written so far; entry n is at n mod FLUX_KF_EVENTS */
	uint32_t reserved2[30];
};
_Static_assert(sizeof(struct flux_kf_status) == 384, "status page");

/* @shared One event. `sequence` is written last: n + 1 of event n; anything else is being overwritten. */
struct flux_kf_event {
	uint32_t sequence;
	uint16_t kind;
	uint16_t core;
	uint16_t from;
	uint16_t to;
	uint32_t generation; /* the core's, after it */
	uint64_t tsc;
	uint32_t arg;
	uint32_t reserved;
};
_Static_assert(sizeof(struct flux_kf_event) == FLUX_KF_EVENT_BYTES, "event");

/* @plain */
struct flux_kf_hello {
	uint32_t abi_major; /* in: the caller's; out: the module's, also with EPROTO */
	uint32_t abi_minor;
	char version[24]; /* out: the module's */
};
_Static_assert(sizeof(struct flux_kf_hello) == 32, "HELLO");

/* @plain */
struct flux_kf_join {
	uint32_t domain; /* in: 0 makes a new one; out */
	uint32_t flags;
	uint32_t reserved[2];
};
_Static_assert(sizeof(struct flux_kf_join) == 16, "JOIN");

/* @plain */
struct flux_kf_claim {
	uint32_t managed[8]; /* bit mask of the cores */
	uint32_t lease_ms; /* 10 to 60000: how long the heartbeat may stand still */
	uint32_t flags;
	uint32_t epoch; /* out */
	uint32_t reserved[3];
};
_Static_assert(sizeof(struct flux_kf_claim) == 56, "CLAIM");

/* @plain */
struct flux_kf_submit {
	uint64_t commands; /* address of struct flux_kf_command[count], results are written there */
	uint32_t count; /* at most FLUX_KF_BATCH_MAX */
	uint32_t failed; /* out */
};
_Static_assert(sizeof(struct flux_kf_submit) == 16, "SUBMIT");

/* @plain One command. They are carried out in order; each has its own result. */
struct flux_kf_command {
	uint32_t op; /* FLUX_OP_* */
	uint32_t core;
	uint32_t from; /* handles */
	uint32_t to;
	uint32_t flags; /* FLUX_FLAG_*, FLUX_KF_FLAG_* */
	uint32_t generation;
	uint32_t kick_after_us; /* of a park without FLUX_FLAG_KICK_NOW or _ASK_ONLY: 0 at once */
	uint32_t deadline_us; /* 100 to 10000000; 0: 10000 */
	uint64_t decided_tsc;
	uint32_t result; /* out: 0 or a negative errno */
	uint32_t park_req; /* out: the number of the request, for the guest's line; 0: the core went at once */
	uint32_t reserved[4];
};
_Static_assert(sizeof(struct flux_kf_command) == 64, "command");

/* @plain */
struct flux_kf_vm {
	uint32_t slot;
	uint32_t vcpus; /* 1 to FLUX_MAX_VCPUS */
	uint32_t flags; /* 0 */
	uint32_t fd; /* out: close-on-exec */
};
_Static_assert(sizeof(struct flux_kf_vm) == 16, "VM_CREATE");

/* @plain */
struct flux_kf_register {
	uint32_t vcpu;
	uint32_t flags;
	uint64_t critical; /* address of the guest's critical word in this process; 0: there is none */
	uint64_t held_hint; /* address of flux_host_vcpu.held of this vCPU; 0: there is none */
	uint32_t kvm_fd; /* the vCPU's KVM descriptor for RUN; 0xffffffff: RUN is not used */
	uint32_t reserved;
};
_Static_assert(sizeof(struct flux_kf_register) == 32, "REGISTER");

/* @plain PARK and RUN. */
struct flux_kf_turn {
	uint32_t vcpu;
	uint32_t how; /* PARK, in: FLUX_HOW_YIELD, ASKED, KICKED, FORCED or ENTRY */
	uint32_t reason; /* out: FLUX_KF_EXIT ... FLUX_KF_PREEMPT */
	uint32_t core; /* out: FLUX_CORE_NONE without one */
	uint32_t kicks; /* out, RUN: kicks that were found stale or met a critical guest */
	uint32_t left; /* out, RUN: FLUX_HOW_* if it left its core in this call, else 0 */
	uint64_t guest_tsc; /* out, RUN: ticks inside KVM_RUN */
	uint64_t seen_tsc; /* out, RUN: when KVM_RUN came back for the last time */
};
_Static_assert(sizeof(struct flux_kf_turn) == 40, "PARK and RUN");

/* @plain */
struct flux_kf_vcpu {
	uint32_t vcpu;
	uint32_t reserved[3];
};
_Static_assert(sizeof(struct flux_kf_vcpu) == 16, "UNREGISTER");

#endif

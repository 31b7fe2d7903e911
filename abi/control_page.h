/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * The control page: one sealed memfd per VM, mapped by the arbiter, Fluxion and
 * the guest. The guest can write every word of it, the host's lines included,
 * so the host never reads back what it wrote here, never follows an offset or
 * pointer found here, clamps what it reads, and copies once before it checks.
 *
 * Map of the file (bytes):
 *   0x00000  summary page: one line, at FLUX_LINE * (slot mod 64)
 *   0x01000  header (boot information), written by Fluxion before the guest starts
 *   0x02000  vCPU blocks, 256 bytes each: 128 written by the guest, 128 by the host
 *   0x04000  end of the part that the arbiter's loop maps (FLUX_HOT_BYTES)
 *   0x04000  log lines, 256 bytes a vCPU
 *   0x08000  context slots, 16 KiB a vCPU: an interrupted uThread, exported by the host
 *   0x48000  request ring: tail line, then entries
 *   0x69000  completions, one for each ring entry
 *   0x80000  trace rings, 64 KiB a vCPU (since minor 1)
 *   0x180000 end
 *
 * Stamps are 32-bit TSC >> stamp_shift and are compared by signed difference.
 * 64-bit values that JavaScript reads are pairs lo/hi written lo first.
 */
#ifndef FLUX_ABI_CONTROL_PAGE_H
#define FLUX_ABI_CONTROL_PAGE_H

#include "flux.h"

#define FLUX_CONTROL_MAGIC 0x58554c46
#define FLUX_LINE 64
#define FLUX_SUMMARY_LINES 64
#define FLUX_HEADER_OFFSET 0x1000
#define FLUX_VCPUS_OFFSET 0x2000
#define FLUX_VCPU_BYTES 256
#define FLUX_VCPU_HOST_OFFSET 128
#define FLUX_HOT_BYTES 0x4000
#define FLUX_LOG_OFFSET 0x4000
#define FLUX_LOG_BYTES 256
#define FLUX_CONTEXT_OFFSET 0x8000
#define FLUX_CONTEXT_BYTES 0x4000
#define FLUX_CONTEXT_XSAVE_OFFSET 256
#define FLUX_RING_OFFSET 0x48000
#define FLUX_RING_ENTRIES_OFFSET 0x48040
#define FLUX_RING_ENTRIES 4096
#define FLUX_COMPLETIONS_OFFSET 0x69000
#define FLUX_TRACE_OFFSET 0x80000
#define FLUX_TRACE_BYTES 0x10000
#define FLUX_TRACE_RECORDS 4096
#define FLUX_TRACE_TIME_SHIFT 4
#define FLUX_TRACE_AHEAD 0x4000000
#define FLUX_CONTROL_BYTES 0x180000

/* Where the guest sees its control page (guest-physical = guest-virtual). */
#define FLUX_CONTROL_GPA 0x40000000

/* Doors out of the guest: 32-bit `out` to one of these ports, argument in eax.
 * They stay clear of the PIC's and below 256, which the TSS's I/O bitmap covers. */
#define FLUX_PORT_PARK 0xe0 /* safe park, asked for; returns when granted again */
#define FLUX_PORT_YIELD 0xe1 /* nothing to run; returns when granted again */
#define FLUX_PORT_STEAL 0xe2 /* eax = vCPU whose held context is wanted; answer in host line */
#define FLUX_PORT_LOG 0xe3 /* eax = bytes in this vCPU's log line */
#define FLUX_PORT_PANIC 0xe4 /* eax = bytes in this vCPU's log line; poisons the VM */
#define FLUX_PORT_EXIT 0xe5 /* eax = exit code; ends the VM */
#define FLUX_PORT_BACKTRACE 0xe6 /* where the panic that follows came from: see FLUX_BACKTRACE_FRAMES */
#define FLUX_PORT_DOORBELL 0xe8 /* ioeventfd: more work than running vCPUs; no answer */

/*
 * The door FLUX_PORT_BACKTRACE: the vCPU's log line holds code addresses of 64 bits, the
 * innermost first: bits 0-7 of eax say how many, bits 8-23 how many more there
 * were before the last FLUX_BACKTRACE_OUTER of them. FLUX_BACKTRACE_FAULT: the
 * first is an instruction that the processor refused, not a return address.
 * FLUX_BACKTRACE_PAGE: it was a page fault, and the processor knows the address.
 */
#define FLUX_BACKTRACE_FRAMES 32
#define FLUX_BACKTRACE_OUTER 12
#define FLUX_BACKTRACE_FAULT 0x1000000
#define FLUX_BACKTRACE_PAGE 0x2000000

/*
 * flux_trace_record.what: the event in bits 0-7, a number of 24 bits above it.
 */
#define FLUX_TRACE_RUN 1 /* the uThread runs from here on */
#define FLUX_TRACE_BACK 2 /* it gave way to others: to the tail of the queue */
#define FLUX_TRACE_FRONT 3 /* it gave way to a park request: to the head of the queue */
#define FLUX_TRACE_BLOCK 4 /* it waits for something */
#define FLUX_TRACE_EXIT 5 /* it is done */
#define FLUX_TRACE_SPAWN 6 /* it was made, and is runnable */
#define FLUX_TRACE_WAKE 7 /* it was blocked, and is runnable */
#define FLUX_TRACE_TAKE 8 /* it was taken over, held, from the vCPU in the number, and runs from here on */
#define FLUX_TRACE_STEAL 9 /* so many uThreads were moved here from another queue */
#define FLUX_TRACE_PARK 10 /* the core is about to be left, because the host asked */
#define FLUX_TRACE_YIELD 11 /* the core is about to be given back */
#define FLUX_TRACE_RESUME 12 /* on the core in the number */
#define FLUX_TRACE_TIMER 13 /* its deadline has come, and it is runnable */
#define FLUX_TRACE_PREEMPT 14 /* its time slice was over: to the tail of the queue */

/* What a vCPU says of itself (guest_vcpu.state). */
#define FLUX_GUEST_BOOTING 0
#define FLUX_GUEST_SCHEDULING 1
#define FLUX_GUEST_RUNNING 2
#define FLUX_GUEST_IDLE 3
#define FLUX_GUEST_PARKED 4

/* summary.flags */
#define FLUX_SUMMARY_BOOTED 1
#define FLUX_SUMMARY_TIMER 2

/* Answers of FLUX_PORT_STEAL, in host_vcpu.answer. */
#define FLUX_STEAL_NOTHING 0
#define FLUX_STEAL_TAKEN 1

/*
 * @shared Written by the guest's vCPUs, read by the arbiter's loop: one or two
 * loads per VM tell that nothing changed.
 */
struct flux_summary {
	/* Bumped after every change below but of uthreads and rung, and of a vCPU's runq_len, or its oldest by more than a few us. */
	uint32_t seq;
	uint32_t runnable; /* runnable uThreads in all queues, running ones not counted */
	uint32_t ring_head; /* requests taken from the ring so far */
	uint32_t flags; /* FLUX_SUMMARY_* */
	uint32_t next_timer; /* stamp of the earliest armed timer, if flags say so */
	uint32_t uthreads; /* uThreads alive */
	uint32_t integrity_errors; /* the guest checked its own data and found it wrong */
	/*
	 * Not 0: a vCPU has gone through FLUX_PORT_DOORBELL, or is about to, and others need not. Taken away by whoever is
	 * about to sleep, before its last look for work: the guest's vCPUs, and Fluxion for those that it lets
	 * sleep on. Fluxion never reads it (since minor 2).
	 */
	uint32_t rung;
	uint32_t reserved[8];
};
_Static_assert(sizeof(struct flux_summary) == FLUX_LINE, "summary is one line");

/* @shared Written by the guest, one per vCPU: two lines, so a half block. */
struct flux_guest_vcpu {
	uint32_t state; /* FLUX_GUEST_* */
	uint32_t critical; /* not 0: in FluxOS's own code, the context must not be held here */
	uint32_t park_ack; /* the last park generation that the guest honoured by itself */
	uint32_t runq_len; /* runnable uThreads in this vCPU's queue */
	uint32_t oldest; /* ready stamp of the oldest of them; means nothing if runq_len is 0 */
	uint32_t resume_gen; /* the grant that resume_lo/hi belong to (host_vcpu.grant_gen) */
	uint32_t resume_lo; /* TSC of the first instruction after FLUX_PORT_PARK or _YIELD */
	uint32_t resume_hi;
	uint32_t switches; /* counters, all free-running */
	uint32_t steals;
	uint32_t parks;
	uint32_t yields;
	uint32_t taken; /* held contexts that this vCPU took over from others */
	uint32_t spin_lo; /* TSC ticks spent idle but on a core */
	uint32_t spin_hi;
	uint32_t reserved0;
	uint32_t done_lo; /* units of work completed on this vCPU: requests or blocks */
	uint32_t done_hi;
	uint32_t ran_lo; /* TSC ticks from when a uThread was put on this vCPU to when it had left (since minor 1) */
	uint32_t ran_hi;
	uint32_t waited_lo; /* stamps that uThreads which ran here had been runnable before, summed up */
	uint32_t waited_hi;
	uint32_t blocks; /* uThreads that began to wait for something here */
	uint32_t wakes; /* uThreads that waited and were made runnable here; all blocks less all wakes wait now */
	uint32_t timers; /* of those, the ones whose deadline had come */
	uint32_t preempts; /* uThreads that gave way here because they had had their time slice (since minor 2) */
	uint32_t reserved[4];
	uint32_t private_lo; /* the guest's own pointer to the vCPU's data; means nothing to the host */
	uint32_t private_hi;
};
_Static_assert(sizeof(struct flux_guest_vcpu) == FLUX_VCPU_HOST_OFFSET, "guest half of a vCPU block");

/* @shared Written by the host (arbiter's bridge or Fluxion), one per vCPU. */
struct flux_host_vcpu {
	uint32_t park_gen; /* arbiter: the latest park request */
	uint32_t settled; /* Fluxion: requests up to this one are over; asked means (int32)(park_gen - settled) > 0 */
	uint32_t grant_gen; /* Fluxion: counts grants; the guest echoes it in resume_gen */
	uint32_t core; /* Fluxion: the core it was granted, for the curious guest */
	uint32_t held; /* Fluxion: not 0 while this vCPU's interrupted uThread may be stolen */
	uint32_t answer; /* Fluxion: result of the last door that has one */
	uint32_t unmanaged; /* Fluxion: not 0 while no arbiter manages this VM */
	uint32_t trace_until; /* who traces: 0, or the stamp until which events are recorded (see flux_trace_record) */
	/*
	 * Arbiter: the value of guest_vcpu.switches whose uThread has had its time slice and is to give way to
	 * the next in the queue; any other value is news of a uThread that has left already (since minor 2).
	 */
	uint32_t preempt;
	uint32_t reserved0;
	uint32_t upcall_lo; /* Fluxion: where the guest was when it was resumed at its upcall (since minor 2) */
	uint32_t upcall_hi;
	uint32_t reserved[20];
};
_Static_assert(sizeof(struct flux_host_vcpu) == 128, "host half of a vCPU block");

/*
 * @plain Boot information, written once by Fluxion before the guest starts.
 * Guest CPUID cannot be trusted on every host, so what it would say stands here.
 */
struct flux_header {
	uint32_t magic;
	uint32_t abi_major;
	uint32_t abi_minor;
	uint32_t bytes; /* FLUX_CONTROL_BYTES */
	uint32_t slot; /* the VM's slot in the hand-off table */
	uint32_t vcpus; /* vCPUs that exist */
	uint32_t stamp_shift; /* stamps are TSC >> this */
	uint32_t tsc_khz;
	uint32_t hosted; /* 1: an ordinary Linux process, no KVM */
	uint32_t xsave_bytes; /* size of the extended state that XCR0 enables */
	uint32_t xcr0_lo;
	uint32_t xcr0_hi;
	uint32_t idle_spin_ns; /* how long an idle vCPU looks for work before it yields */
	uint32_t stack_count; /* uThread stacks in the stack area */
	uint64_t memory_bytes; /* guest RAM from address 0 */
	uint64_t heap_base; /* free RAM for the guest: [heap_base, heap_base + heap_bytes) */
	uint64_t heap_bytes;
	uint64_t stack_base; /* stack area: stack_count x stack_bytes, the lowest page of each not mapped */
	uint64_t stack_bytes;
	uint64_t idt_base; /* 256 gates of 16 bytes for the guest to fill; shared by its vCPUs */
	char name[FLUX_NAME_BYTES];
	char cmdline[512]; /* UTF-8, NUL-ended: "serve fanout=4 ..." */
};
_Static_assert(sizeof(struct flux_header) == 648, "header");

/*
 * @plain An interrupted uThread as the host exports it: general registers first,
 * then at FLUX_CONTEXT_XSAVE_OFFSET the XSAVE area (standard format). GS base is
 * the vCPU's and is not part of it.
 */
struct flux_context {
	uint64_t rax;
	uint64_t rbx;
	uint64_t rcx;
	uint64_t rdx;
	uint64_t rsi;
	uint64_t rdi;
	uint64_t rbp;
	uint64_t rsp;
	uint64_t r8;
	uint64_t r9;
	uint64_t r10;
	uint64_t r11;
	uint64_t r12;
	uint64_t r13;
	uint64_t r14;
	uint64_t r15;
	uint64_t rip;
	uint64_t rflags;
	uint64_t fs_base;
	uint64_t reserved[13];
};
_Static_assert(sizeof(struct flux_context) == FLUX_CONTEXT_XSAVE_OFFSET, "context registers");

/* @shared Head of the request ring. The releaser publishes a request by its tail. */
struct flux_ring {
	uint32_t tail; /* releaser: requests published so far; release, pairs with the guest's acquire */
	uint32_t reserved[15];
};
_Static_assert(sizeof(struct flux_ring) == FLUX_LINE, "ring head is one line");

/* @shared One request, written by the releaser; entry = seq mod FLUX_RING_ENTRIES. */
struct flux_request {
	uint32_t seq;
	uint32_t service_ns; /* real work to do, in nanoseconds of this machine */
	uint32_t fanout; /* split into this many uThreads; 0 and 1: none */
	uint32_t due_lo; /* TSC of the scheduled arrival */
	uint32_t due_hi;
	uint32_t reserved[3];
};
_Static_assert(sizeof(struct flux_request) == 32, "request");

/* @shared One completion, written by the guest; entry = seq mod FLUX_RING_ENTRIES. */
struct flux_completion {
	uint32_t seq_plus_1; /* release, written last; pairs with the releaser's acquire */
	uint32_t wait; /* TSC ticks from due to first instruction, saturated */
	uint32_t done_lo; /* TSC when the last part was finished */
	uint32_t done_hi;
};
_Static_assert(sizeof(struct flux_completion) == 16, "completion");

/*
 * @shared One event, written by the vCPU whose ring it is in; record = seq mod
 * FLUX_TRACE_RECORDS, counted by the vCPU alone and never reset. The oldest are
 * overwritten, whether or not anybody has read them: who reads copies the record
 * between two looks at `seq_plus_1`, which must be the expected one both times.
 *
 * Events are recorded while trace_until is not 0 and lies ahead, by less than
 * FLUX_TRACE_AHEAD stamps (seconds): who traces has to say so again and again,
 * so that a tracer that was killed soon costs the VM nothing.
 */
struct flux_trace_record {
	uint32_t seq_plus_1; /* 0 while the record is written; release, written last */
	uint32_t time; /* TSC >> FLUX_TRACE_TIME_SHIFT */
	uint32_t what; /* the event, and a number << 8 */
	uint32_t uthread; /* the uThread that it is about; 0: none */
};
_Static_assert(sizeof(struct flux_trace_record) == 16, "trace record");

#endif

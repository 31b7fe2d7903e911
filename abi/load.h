/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * A load area: an open-loop arrival schedule laid down beforehand and its results.
 * One sealed memfd, mapped by whoever made it and by the releaser, which alone reads
 * the schedule: neither guest nor policy can see an arrival before it is due.
 */
#ifndef FLUX_ABI_LOAD_H
#define FLUX_ABI_LOAD_H

#include "flux.h"

#define FLUX_LOAD_MAGIC 0x44414f4c
#define FLUX_LOAD_ENTRIES_OFFSET 128
#define FLUX_LOAD_ENTRY_BYTES 40

#define FLUX_LOAD_ARMED 1
#define FLUX_LOAD_RUNNING 2
#define FLUX_LOAD_DONE 3 /* every request released, and finished or given up on */
#define FLUX_LOAD_STOP 4 /* its maker wants it to end now */

/* @shared */
struct flux_load {
	uint32_t magic;
	uint32_t abi_major;
	uint32_t state; /* FLUX_LOAD_* */
	uint32_t entries;
	uint64_t start_tsc; /* due times count from here; 0: from the releaser's first look */
	uint64_t grace_tsc; /* ticks after the last due time before unfinished requests are given up */
	uint32_t released;
	uint32_t finished;
	uint32_t overruns; /* requests held back because the ring was full */
	uint32_t reserved[21];
};
_Static_assert(sizeof(struct flux_load) == FLUX_LOAD_ENTRIES_OFFSET, "load header");

/* @shared One request of the schedule and what became of it. */
struct flux_load_entry {
	uint64_t due; /* ticks after start_tsc */
	uint32_t service_ns;
	uint32_t fanout;
	uint64_t released; /* TSC; 0: not released */
	uint64_t done; /* TSC; 0: not finished */
	uint64_t wait; /* ticks from due to first instruction */
};
_Static_assert(sizeof(struct flux_load_entry) == FLUX_LOAD_ENTRY_BYTES, "load entry");

#endif

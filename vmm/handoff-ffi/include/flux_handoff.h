/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bridges as the addon calls them: affinity, and kFlux once it is switched to.
 * Everything behind them is the Rust crate `handoff`, so that the hand-over protocol
 * exists once: the arbiter's half and the half of the leaving thread are in the same
 * place and tested together.
 * Functions return 0 or a count, and negative errno for failures. No function
 * blocks; submit, poll and beat belong to the loop's thread, the others to any.
 */
#ifndef FLUX_HANDOFF_FFI_H
#define FLUX_HANDOFF_FFI_H
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif
typedef struct flux_bridge flux_bridge;
struct flux_kf_hello; /* abi/kflux.h */

/* Fills in the header of a new, zeroed table. */
int32_t flux_table_init(void *table, size_t bytes, uint32_t tsc_khz, uint32_t stamp_shift);
/* 0, or -EINVAL if it is not a table, -EPROTO if its major differs (read both from the header). */
int32_t flux_table_check(const void *table, size_t bytes);

/* The mapping must outlive the bridge. NULL: errno in *err. */
flux_bridge *flux_bridge_new(void *table, size_t bytes, int32_t *err);
void flux_bridge_free(flux_bridge *b);
/* Takes the lease: a new epoch, every core free, `managed` (256-bit mask) written down. Returns the table's epoch
 * (> 0). Over kFlux it may fail: -EBUSY if another domain has one of the cores, -EPERM, -ENODEV. */
int64_t flux_bridge_claim(flux_bridge *b, uint32_t pid, uint32_t arbiter_core, const uint32_t managed[8]);
/* Gives the lease back if it is still ours. */
int32_t flux_bridge_release(flux_bridge *b);
/* The hot part of a VM's control page in this process, or NULL when the VM goes. Only while the loop's thread is not in submit or poll. */
int32_t flux_bridge_set_page(flux_bridge *b, uint32_t slot, void *hot);
/* Carries out `count` commands of FLUX_CMD_WORDS words each; each gets its result word. Returns how many failed. */
int32_t flux_bridge_submit(flux_bridge *b, int32_t *batch, uint32_t count);
/* Sends the kicks that are due and forgets the parks that are done. Returns how many are in flight. */
int32_t flux_bridge_poll(flux_bridge *b);
/* Stamps the heartbeat. */
void flux_bridge_beat(flux_bridge *b);
/* Starts the thread that keeps the forced-park deadline. 1: at SCHED_FIFO 1; 0: not permitted, ordinary, or none is
 * needed because kFlux keeps it. */
int32_t flux_bridge_start_deadlines(flux_bridge *b);
/* A VM's process is gone: its cores go on to successors or heirs, or become idle. Returns the cores that came free or went on. */
int32_t flux_bridge_reap(flux_bridge *b, uint32_t slot);

/* Switches a bridge from the affinity protocol to kFlux: opens /dev/kflux, HELLO, JOINs the domain that the table's
 * header names (or makes one and writes it there), maps the domain's cores and vCPU blocks over the table's, at the
 * address that the bridge was made with, whatever table is mapped there by now. The pages that were set stay set, the
 * lease is to be claimed anew, and the deadline thread ends. -EALREADY: it was switched before. On an error nothing
 * has changed: -ENOENT no device, -EACCES not for this user, -EPERM no CAP_SYS_NICE, -EPROTO another major. */
int32_t flux_bridge_use_kflux(flux_bridge *b);
/* For those who only look: maps the pages of the table's domain over it, read-only, if it has one. 1: mapped,
 * 0: the table has no domain. They go with the table's own mapping. */
int32_t flux_table_overlay(void *table, size_t bytes);
/* hyperfluxd: joins the table's domain (or makes one and names it in the header) with the right to make VMs. Returns a
 * descriptor, close-on-exec, which keeps the domain alive. */
int32_t flux_kflux_join(void *table, size_t bytes);
/* Returns the VM's descriptor, close-on-exec, to be inherited by its Fluxion and closed here: its end is the VM's. */
int32_t flux_kflux_vm_create(int32_t domain_fd, uint32_t slot, uint32_t vcpus);
/* What is there: fills in the module's versions. 0; -ENOENT no device; -EACCES no right; -ENOTTY it is not kFlux;
 * -EPROTO another major (versions filled in). */
int32_t flux_kflux_hello(struct flux_kf_hello *answer);
#ifdef __cplusplus
}
#endif
#endif

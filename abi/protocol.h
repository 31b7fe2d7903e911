/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * The VMM protocol: how the daemon and the arbiter speak to a Fluxion.
 *
 * A Unix stream socket. Each frame is a u32, little endian, the number of bytes
 * that follow (1 to FLUX_FRAME_MAX), then one MessagePack map. A request carries
 * "id" (u32) and "op" (string) beside the fields of its message; the answer
 * carries the same "id" and either "ok": true with its fields, or "ok": false with
 * the fields of the message `error`. The first request on a connection is hello.
 *
 * The answer to attach comes with two descriptors (SCM_RIGHTS): the control page
 * and the hand-off table. A connection that said `manage` is the lease: while it
 * is open the arbiter manages the VM; when it closes, the VM goes unmanaged.
 *
 * FLUX_MESSAGE lists are read by the generator, which makes TypeScript types and
 * Rust structs of them; to the C compiler they are nothing.
 */
#ifndef FLUX_ABI_PROTOCOL_H
#define FLUX_ABI_PROTOCOL_H

#include "flux.h"

#define FLUX_PROTOCOL 1
#define FLUX_FRAME_MAX 1048576

#ifndef FLUX_MESSAGE
#define FLUX_MESSAGE(name, ...)
#define FLUX_FIELD(type, name)
#endif

/* Field types: u32, u64, f64, bool, string, list(string), list(u64), list(vcpu_stats). */
FLUX_MESSAGE(hello, FLUX_FIELD(u32, protocol), FLUX_FIELD(u32, abi_major), FLUX_FIELD(u32, abi_minor))
FLUX_MESSAGE(hello_reply, FLUX_FIELD(u32, protocol), FLUX_FIELD(u32, abi_major), FLUX_FIELD(u32, abi_minor),
	     FLUX_FIELD(string, version), FLUX_FIELD(string, name), FLUX_FIELD(u32, slot), FLUX_FIELD(u32, pid))
FLUX_MESSAGE(attach)
FLUX_MESSAGE(attach_reply, FLUX_FIELD(u32, slot), FLUX_FIELD(u32, vcpus))
FLUX_MESSAGE(manage, FLUX_FIELD(u32, epoch))
FLUX_MESSAGE(manage_reply, FLUX_FIELD(u32, slot))
FLUX_MESSAGE(unmanage)
FLUX_MESSAGE(unmanage_reply, FLUX_FIELD(u32, slot))
FLUX_MESSAGE(status)
FLUX_MESSAGE(status_reply, FLUX_FIELD(string, name), FLUX_FIELD(string, state), FLUX_FIELD(string, backend),
	     FLUX_FIELD(bool, managed), FLUX_FIELD(u32, vcpus), FLUX_FIELD(u64, memory_bytes),
	     FLUX_FIELD(u64, resident_bytes), FLUX_FIELD(string, error))
FLUX_MESSAGE(stats)
FLUX_MESSAGE(vcpu_stats, FLUX_FIELD(list(string), reasons), FLUX_FIELD(list(u64), counts))
FLUX_MESSAGE(stats_reply, FLUX_FIELD(list(vcpu_stats), vcpus))
FLUX_MESSAGE(stop)
FLUX_MESSAGE(stop_reply, FLUX_FIELD(u32, slot))
FLUX_MESSAGE(error, FLUX_FIELD(string, code), FLUX_FIELD(string, message), FLUX_FIELD(string, hint))

/* error.code */
#define FLUX_E_VERSION "version" /* protocol or ABI major differs; the message names both */
#define FLUX_E_FRAME "frame" /* empty, oversized or not MessagePack; the connection is closed */
#define FLUX_E_REQUEST "request" /* unknown op, missing or wrong field, hello not said */
#define FLUX_E_STATE "state" /* not possible in the VM's present state */
#define FLUX_E_STALE "stale" /* the lease's epoch is not the current one */

#endif

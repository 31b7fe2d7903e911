/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * The numbers that every component agrees on.
 *
 * This folder is the only place where a shared layout is written by hand. The
 * generator in abi/gen reads it and writes the TypeScript and Rust versions; a
 * test regenerates them and fails on a difference. The dialect is small on
 * purpose: integer #defines, structs of fixed-width integers, char arrays and
 * structs, and the FLUX_MESSAGE lists of protocol.h.
 *
 * "@shared" before a struct: its words are read and written by several parties
 * at once, so every language sees them as atomics. "@plain": copied or private.
 */
#ifndef FLUX_ABI_FLUX_H
#define FLUX_ABI_FLUX_H

#include <stdint.h>

/* A different major is refused by whoever meets it; a newer minor only adds. */
#define FLUX_ABI_MAJOR 1
#define FLUX_ABI_MINOR 2

#define FLUX_MAX_VMS 1024
#define FLUX_MAX_VCPUS 16
#define FLUX_MAX_CORES 256
#define FLUX_NAME_BYTES 32

/*
 * A handle names a vCPU of a VM slot in 16 bits: slot * FLUX_MAX_VCPUS + vCPU + 1.
 * 0 is nobody. FLUX_HANDLE_IDLE as a successor means "leave the core idle": the
 * heir is not asked.
 */
#define FLUX_HANDLE_NONE 0
#define FLUX_HANDLE_IDLE 0xffff

#define FLUX_CORE_NONE 0xffff
#define FLUX_CLASS_BE 0
#define FLUX_CLASS_LC 1

#endif

// SPDX-License-Identifier: Apache-2.0
/** Measurements that JavaScript would distort. For benchmarks: each call keeps the calling thread's core busy. */
import { addon } from './addon.ts';

/**
 * Spins until a word differs from `old`. Returns 1 if it did and 0 after the timeout, with the time stamp counter of
 * that moment in out[0] (low) and out[1] (high).
 */
export const waitWordChange: (
  buffer: ArrayBuffer,
  byteOffset: number,
  old: number,
  timeoutUs: number,
  out: Int32Array,
) => 0 | 1 = addon.waitWordChange;

/**
 * The idle floor: nanoseconds from just before a futex wake to the sleeper's first instruction on another, idle core.
 * The calling thread wakes and polls for the answer; pin it to a different core first. `gapUs` is the rest between two
 * rounds, in which the sleeper's core goes idle.
 */
export function futexWakeFloor(
  core: number,
  n: number,
  out: Float64Array,
  { gapUs = 200 }: { gapUs?: number } = {},
): number {
  return addon.futexWakeFloor(core, n, out, gapUs);
}

/** The same while a thread spins on the sleeper's core, which the wake preempts: under SCHED_IDLE or as an equal. */
export function preemptionFloor(
  core: number,
  n: number,
  out: Float64Array,
  { gapUs = 200, donor = 'idle' }: { gapUs?: number; donor?: 'idle' | 'other' } = {},
): number {
  return addon.preemptionFloor(core, n, out, gapUs, donor);
}

/** Nanoseconds for an interrupt to a busy core and back: the part of a kick that no design can avoid. */
export const membarrierFloor: (core: number, n: number, out: Float64Array) => number = addon.membarrierFloor;

// SPDX-License-Identifier: Apache-2.0
/** Events that the kernel counts: how often a tracepoint was hit, by a thread or on a core. */
import { addon } from './addon.ts';

/**
 * Starts to count a tracepoint (its `id` in tracefs) for a thread on any core, or for a core with `tid` null. The
 * descriptor is the counter; `closeFd` ends it. Throws EACCES or EPERM without the right to count.
 */
export function openCounter(tracepoint: number, tid: number | null, core: number | null): number {
  return addon.counterOpen(tracepoint, tid ?? -1, core ?? -1);
}

/** The count so far. */
export const readCounter: (fd: number) => number = addon.counterRead;

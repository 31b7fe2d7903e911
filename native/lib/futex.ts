// SPDX-License-Identifier: Apache-2.0
/** Sleeping and waking on words of shared pages. Atomics.wait and notify do not reach other processes. */
import { addon } from './addon.ts';

export interface WatchOptions {
  /** Whether the watch keeps Node's event loop from ending. */
  keepAlive?: boolean;
}

/**
 * Calls back after a word changed from what it is now, with its value of then; several changes may make one call. The word is watched by a
 * thread that sleeps in the kernel, so whoever changes it must do a futex wake. Returns a function that ends the watch.
 */
export function watchWord(
  buffer: ArrayBuffer,
  byteOffset: number,
  callback: (value: number) => void,
  { keepAlive = false }: WatchOptions = {},
): () => void {
  return addon.watchWord(buffer, byteOffset, callback, keepAlive);
}

/** Wakes up to `count` sleepers on a word, in all processes. Returns how many there were. */
export function futexWake(buffer: ArrayBuffer, byteOffset: number, count = 0x7fffffff): number {
  return addon.futexWake(buffer, byteOffset, count);
}

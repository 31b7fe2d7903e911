/**
 * A load area as JavaScript sees it: where its words are, how a schedule is
 * written into it and how it is made ready for another run.
 *
 * 64-bit fields are BigInts here. That is slow, and nobody minds: this runs before
 * the load starts and after it has ended. While it runs the area belongs to the
 * releaser.
 */
import {
  ABI_MAJOR,
  LOAD_ARMED,
  LOAD_ENTRIES_OFFSET,
  LOAD_ENTRY_BYTES,
  LOAD_MAGIC,
  OFF_LOAD_ENTRY_DONE,
  OFF_LOAD_ENTRY_DUE,
  OFF_LOAD_ENTRY_RELEASED,
  OFF_LOAD_ENTRY_WAIT,
  OFF_LOAD_GRACE_TSC,
  OFF_LOAD_START_TSC,
  W_LOAD_ABI_MAJOR,
  W_LOAD_ENTRIES,
  W_LOAD_ENTRY_FANOUT,
  W_LOAD_ENTRY_SERVICE_NS,
  W_LOAD_FINISHED,
  W_LOAD_MAGIC,
  W_LOAD_OVERRUNS,
  W_LOAD_RELEASED,
  W_LOAD_STATE,
} from '../../arbiter/abi/layout.gen.ts';
import type { Schedule } from './schedule.ts';

const PAGE = 4096;

/** Bytes of the file for so many requests, in whole pages. */
export function loadBytes(entries: number): number {
  return Math.ceil((LOAD_ENTRIES_OFFSET + entries * LOAD_ENTRY_BYTES) / PAGE) * PAGE;
}

/** Word index of an entry. */
export const entryBase = (entry: number): number => (LOAD_ENTRIES_OFFSET + entry * LOAD_ENTRY_BYTES) >> 2;
/** Index of an entry's first field in an array of 64-bit words. */
export const entryBase64 = (entry: number): number => (LOAD_ENTRIES_OFFSET + entry * LOAD_ENTRY_BYTES) >> 3;

// Fields of the header and of an entry, as indices of 64-bit words.
export const L_START = OFF_LOAD_START_TSC >> 3;
export const L_GRACE = OFF_LOAD_GRACE_TSC >> 3;
export const E_DUE = OFF_LOAD_ENTRY_DUE >> 3;
export const E_RELEASED = OFF_LOAD_ENTRY_RELEASED >> 3;
export const E_DONE = OFF_LOAD_ENTRY_DONE >> 3;
export const E_WAIT = OFF_LOAD_ENTRY_WAIT >> 3;

/** Both views over one load area. */
export interface LoadWords {
  readonly words: Int32Array;
  readonly longs: BigUint64Array;
}

export function loadWords(buffer: ArrayBufferLike): LoadWords {
  return { words: new Int32Array(buffer), longs: new BigUint64Array(buffer) };
}

const ticks = (ns: number, tscKhz: number): bigint => BigInt(Math.round((ns * tscKhz) / 1e6));

/**
 * Lays the schedule down and arms it. `graceNs`: how long after the last arrival an
 * unfinished request is still waited for.
 */
export function writeSchedule(area: LoadWords, schedule: Schedule, tscKhz: number, graceNs: number): void {
  const entries = schedule.dueNs.length;
  const { words, longs } = area;
  if (words.byteLength < LOAD_ENTRIES_OFFSET + entries * LOAD_ENTRY_BYTES) {
    throw new RangeError(`a load area of ${words.byteLength} bytes is too small for ${entries} requests`);
  }
  words.fill(0);
  for (let i = 0; i < entries; i++) {
    const word = entryBase(i);
    longs[entryBase64(i) + E_DUE] = ticks(schedule.dueNs[i], tscKhz);
    words[word + W_LOAD_ENTRY_SERVICE_NS] = schedule.serviceNs[i];
    words[word + W_LOAD_ENTRY_FANOUT] = schedule.fanout;
  }
  longs[L_GRACE] = ticks(graceNs, tscKhz);
  words[W_LOAD_MAGIC] = LOAD_MAGIC;
  words[W_LOAD_ABI_MAJOR] = ABI_MAJOR;
  words[W_LOAD_ENTRIES] = entries;
  // Last, and atomically: pairs with the releaser's acquire of the state, which is what makes it read the rest.
  Atomics.store(words, W_LOAD_STATE, LOAD_ARMED);
}

/** What the releaser says of itself while it runs. */
export interface LoadProgress {
  state: number;
  entries: number;
  released: number;
  finished: number;
  overruns: number;
}

/** A look at a running load; each word is whole, all of them together are not one moment's. */
export function loadProgress({ words }: LoadWords): LoadProgress {
  return {
    state: Atomics.load(words, W_LOAD_STATE),
    entries: words[W_LOAD_ENTRIES],
    released: Atomics.load(words, W_LOAD_RELEASED) >>> 0,
    finished: Atomics.load(words, W_LOAD_FINISHED) >>> 0,
    overruns: Atomics.load(words, W_LOAD_OVERRUNS) >>> 0,
  };
}

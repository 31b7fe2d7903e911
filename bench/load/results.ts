/**
 * What became of a schedule: reads the entries of a finished load area back.
 *
 * Latency counts from the *scheduled* arrival, so a request that was released late,
 * waited in the ring or met a descheduled server has all of it in its figure. A
 * request that was not finished has no latency; it is counted, never left out.
 */
import {
  ABI_MAJOR,
  LOAD_DONE,
  LOAD_ENTRIES_OFFSET,
  LOAD_ENTRY_BYTES,
  LOAD_MAGIC,
  W_LOAD_ABI_MAJOR,
  W_LOAD_ENTRIES,
  W_LOAD_MAGIC,
  W_LOAD_OVERRUNS,
  W_LOAD_STATE,
} from '../../arbiter/abi/layout.gen.ts';
import { E_DONE, E_DUE, E_RELEASED, E_WAIT, entryBase64, L_START } from './layout.ts';
import type { LoadWords } from './layout.ts';

export interface LoadResults {
  /** Requests in the schedule. */
  scheduled: number;
  released: number;
  finished: number;
  /** Released or not, without an answer at the end. */
  unfinished: number;
  /** Times the releaser found the ring full. */
  overruns: number;
  /** Whether the releaser reached the schedule's end by itself. */
  complete: boolean;
  /** Completed minus scheduled arrival, in microseconds, in order of arrival; finished requests only. */
  latencyUs: Float64Array;
  /** First instruction minus scheduled arrival, likewise. */
  waitUs: Float64Array;
  /** Released minus scheduled arrival, of every released request. */
  latenessUs: Float64Array;
}

/** A guest's stamps are not trusted: one that lies before its request's arrival is not a latency. */
function elapsed(later: bigint, earlier: bigint): number {
  return later > earlier ? Number(later - earlier) : 0;
}

export function readResults(area: LoadWords, tscKhz: number): LoadResults {
  const { words, longs } = area;
  if (words[W_LOAD_MAGIC] !== LOAD_MAGIC || words[W_LOAD_ABI_MAJOR] !== ABI_MAJOR) {
    throw new Error(
      `this is not a load area of ABI ${ABI_MAJOR}: magic ${words[W_LOAD_MAGIC].toString(16)}, ` +
        `ABI ${words[W_LOAD_ABI_MAJOR]}; it was not armed, or somebody else's file was mapped`,
    );
  }
  const state = Atomics.load(words, W_LOAD_STATE);
  const room = Math.trunc((words.byteLength - LOAD_ENTRIES_OFFSET) / LOAD_ENTRY_BYTES);
  const scheduled = Math.min(words[W_LOAD_ENTRIES] >>> 0, room);
  const start = longs[L_START];
  const latency: number[] = [];
  const wait: number[] = [];
  const lateness: number[] = [];
  const perUs = tscKhz / 1000;
  for (let i = 0; i < scheduled; i++) {
    const at = entryBase64(i);
    if (longs[at + E_RELEASED] === 0n) continue;
    const due = start + longs[at + E_DUE];
    lateness.push(elapsed(longs[at + E_RELEASED], due) / perUs);
    if (longs[at + E_DONE] === 0n) continue;
    latency.push(elapsed(longs[at + E_DONE], due) / perUs);
    wait.push(Number(longs[at + E_WAIT]) / perUs);
  }
  return {
    scheduled,
    released: lateness.length,
    finished: latency.length,
    unfinished: scheduled - latency.length,
    overruns: words[W_LOAD_OVERRUNS] >>> 0,
    complete: state === LOAD_DONE,
    latencyUs: Float64Array.from(latency),
    waitUs: Float64Array.from(wait),
    latenessUs: Float64Array.from(lateness),
  };
}

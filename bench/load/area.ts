/**
 * A load area: the sealed memory file that holds a schedule and its results. It is
 * mapped here by its maker and there by the releaser, and by nobody else.
 */
import { LOAD_STOP, W_LOAD_STATE } from '../../arbiter/abi/layout.gen.ts';
import { calibrateTsc, closeFd, createSealedMemfd, mapShared, tscNow, unmap } from '../../native/index.ts';
import { L_START, loadBytes, loadProgress, loadWords, writeSchedule } from './layout.ts';
import type { LoadProgress } from './layout.ts';
import { readResults } from './results.ts';
import type { LoadResults } from './results.ts';
import type { Schedule } from './schedule.ts';

export interface LoadArea {
  /** For the releaser; other processes reach it as /proc/<pid>/fd/<fd>. */
  readonly fd: number;
  readonly schedule: Schedule;
  look(): LoadProgress;
  /** Milliseconds since the load began; 0: it has not. */
  elapsedMs(): number;
  /** Asks the releaser to end now; it answers by the state LOAD_DONE. */
  requestStop(): void;
  results(): LoadResults;
  /** Unmaps and closes. The area is good for nothing afterwards. */
  close(): void;
}

export interface LoadOptions {
  /** For /proc/<pid>/maps; says whose it is. */
  name?: string;
  /** How long after the last arrival an unfinished request is still waited for. */
  graceMs?: number;
}

/** Lays a schedule down, armed: it begins when a releaser first looks at it. */
export function createLoad(
  schedule: Schedule,
  { name = 'hyperflux-load', graceMs = 1000 }: LoadOptions = {},
): LoadArea {
  const { khz } = calibrateTsc();
  const bytes = loadBytes(schedule.dueNs.length);
  const fd = createSealedMemfd(name, bytes);
  let buffer: ArrayBuffer;
  try {
    buffer = mapShared(fd, bytes);
  } catch (error) {
    closeFd(fd);
    throw error;
  }
  const area = loadWords(buffer);
  writeSchedule(area, schedule, khz, graceMs * 1e6);
  const now = new Int32Array(2);
  let open = true;
  return {
    fd,
    schedule,
    look: () => loadProgress(area),
    elapsedMs(): number {
      const start = area.longs[L_START];
      if (start === 0n) return 0;
      tscNow(now);
      const tsc = (BigInt(now[1] >>> 0) << 32n) | BigInt(now[0] >>> 0);
      return Number(tsc - start) / khz;
    },
    requestStop: () => {
      Atomics.store(area.words, W_LOAD_STATE, LOAD_STOP);
    },
    results: () => readResults(area, khz),
    close(): void {
      if (!open) return;
      open = false;
      unmap(buffer);
      closeFd(fd);
    },
  };
}

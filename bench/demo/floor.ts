/**
 * The floor of a move: a futex wake of a sleeper on a core that is idle. It is
 * measured in short blocks before, between and after the phases, because it depends
 * on how deep the core sleeps, and that changes while the demo runs.
 */
import { futexWakeFloor } from '../../native/index.ts';
import { Samples } from '../lib/stats.ts';
import type { Summary } from '../lib/stats.ts';

const BLOCK = 400;
/** Rest between two wakes, in which the core goes idle. */
const GAP_US = 200;

export interface Floor {
  /** Blocks this thread, which has to be pinned to another core, for about an eighth of a second. */
  measure(): void;
  /** Microseconds. */
  summary(): Summary | undefined;
}

export function makeFloor(core: number, blocks: number): Floor {
  const samples = new Samples(blocks * BLOCK);
  const out = new Float64Array(BLOCK);
  return {
    measure(): void {
      const n = futexWakeFloor(core, BLOCK, out, { gapUs: GAP_US });
      for (let i = 0; i < n; i++) samples.push(out[i] / 1000);
    },
    summary: () => samples.summary(),
  };
}

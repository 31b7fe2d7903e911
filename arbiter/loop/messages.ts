/**
 * What the arbiter's main thread and the loop's worker say to each other. The worker
 * never returns to its event loop while it turns: it looks at the control word once
 * a chunk, and only if that is set it takes messages off its port.
 */

import type { PaceLimits } from '../guard/pace.ts';

/** Index of the control word in the shared Int32Array: not 0, messages wait. */
export const CONTROL_WORD = 0;
export const CONTROL_WORDS = 16;

export type ToLoop =
  | { op: 'live'; deadlineFifo: boolean; epoch: number }
  | { op: 'attach'; slot: number }
  | { op: 'detach'; slot: number }
  | { op: 'configure'; slot: number }
  | { op: 'loads'; count: number }
  | { op: 'params'; params: Record<string, number> }
  | { op: 'stop' };

export type FromLoop =
  | { op: 'warm'; us: number }
  | { op: 'detached'; slot: number }
  /** The loop has ended: it was told to, or the lease is somebody else's. */
  | { op: 'ended'; stale: boolean };

/** What the worker needs to begin, all of it numbers or shared. */
export interface LoopOptions {
  arena: number;
  /** The loop's window on the hand-off table: shadow pages while it warms up, the table's own when it goes live. */
  table: number;
  stats: number;
  bridge: number;
  releaser: number;
  control: SharedArrayBuffer;
  arbiterCore: number;
  cores: number[];
  policy: string;
  params: Record<string, number>;
  /** How often cores may be taken. */
  pace: PaceLimits;
  tscKhz: number;
  stampShift: number;
  warmUpRounds: number;
  /** The longest rest of an idle loop; 0: it spins all the time. See idle.ts. */
  idleMaxUs: number;
}

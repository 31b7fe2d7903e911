// SPDX-License-Identifier: Apache-2.0
/**
 * The C twin of the arbiter's loop, and the stage on which it and the TypeScript loop are compared: guests that change
 * in a fixed pattern, a clock that notes the length of each turn, a bridge that carries nothing out. Nothing in
 * production uses it.
 */
import { addon } from './addon.ts';
import type { RawTwin } from './raw.ts';

/**
 * Over a whole arena and a whole hand-off table. The TypeScript loop uses `now` as its clock (the words are the first
 * two of `control`) and `submit`, `poll`, `beat` and `batch` as its bridge; the twin does the same inside.
 *
 * - `control`: the words by which the stage is steered, at the indices in `words`
 * - `samples`: 32-bit lengths of turns in ticks of the time stamp counter
 * - `state`: the twin's memory; its view is at the byte offsets in `fields`, its batch at `stateBatch`
 * - `chunk` does n turns, `runUntilDone` chunks until the signaller has finished
 * - `level` is the best CPU level that the twin was compiled for and this CPU has; `useLevel` takes another one and
 *   returns whether it could
 * - `signal` starts a thread on another core that raises flags and waits for the commands; `signalEnd` waits for its
 *   end and returns how many rounds it dropped because it was not running itself
 */
export type Twin = RawTwin;

export const openTwin: (
  arena: ArrayBuffer,
  table: ArrayBuffer,
  tscKhz: number,
  stampShift: number,
  maxSamples: number,
) => Twin = addon.twinOpen;

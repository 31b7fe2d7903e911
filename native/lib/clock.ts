// SPDX-License-Identifier: Apache-2.0
/** The time stamp counter. */
import { addon } from './addon.ts';

export interface TscCalibration {
  /** Ticks in a millisecond. */
  khz: number;
  /** Who said so; every claim was checked against the measurement. */
  source: 'sysfs' | 'cpuid' | 'hypervisor' | 'measured';
  /** What CLOCK_MONOTONIC made of it. */
  measured: number;
}

/** How fast the counter ticks. The first call in a process takes about 50 ms, later ones return the same. */
export const calibrateTsc: () => TscCalibration = addon.calibrateTsc;

/** The counter into out[index] (low) and out[index + 1] (high), without allocating. In the loop, use `Clock`. */
export function tscNow(out: Int32Array, index = 0): void {
  addon.tscNow(out, index);
}

/** The smallest shift at which one tick of a 32-bit stamp is at least 64 ns, so that stamps span minutes. */
export function chooseStampShift(tscKhz: number): number {
  if (!(tscKhz > 0)) {
    throw new RangeError(`tscKhz must be positive, not ${tscKhz}`);
  }
  let shift = 0;
  while (2 ** shift * 1e6 < 64 * tscKhz) {
    shift += 1;
  }
  return shift;
}

/** The counter for a loop: its functions take nothing, allocate nothing, and cost a call. */
export class Clock {
  /** Words LO and HI, filled in by `now`. */
  readonly words: Int32Array;
  /** Reads the counter into `words`. */
  readonly now: () => void;
  /** The counter >> shift as a signed 32-bit number: a stamp as in the control page. */
  readonly stamp: () => number;

  constructor(stampShift: number) {
    const raw = addon.clockOpen(stampShift);
    this.words = new Int32Array(raw.buffer, 0, 2);
    this.now = raw.now;
    this.stamp = raw.stamp;
  }
}

/**
 * Decisions as people and tools read them: the loop's fixed records turned into
 * objects, with names for reasons, operations and results.
 */
import { opName, resultName } from '../bridge/bridge.ts';
import { handleName } from '../bridge/words.ts';
import type { Stats } from '../loop/stats.ts';
import {
  RECORDS,
  REC_ALLOWED,
  REC_ASKED,
  REC_CORE,
  REC_DELAY,
  REC_EDIT,
  REC_FROM,
  REC_HAD,
  REC_OP,
  REC_RESULT,
  REC_SEQ,
  REC_TO,
  REC_TSC_HI,
  REC_TSC_LO,
  REC_WANTS,
  REC_WAS,
  REC_WHY,
  REC_WORDS,
  S_RECORDS,
  S_STAMP_SHIFT,
  S_TSC_KHZ,
} from '../loop/stats.ts';
import { reasonCode } from '../policy/reasons.ts';

export interface Decision {
  number: number;
  /** Microseconds of the time stamp counter: differences between records mean something, the value does not. */
  at_us: number;
  core: number;
  /** VM slots; -1: nobody. */
  was: number;
  asked: number;
  allowed: number;
  from: string;
  to: string;
  /** What was sent to the bridge; empty: nothing. */
  op: string;
  result: string;
  why: string;
  edit: string;
  delay_us: number;
  wants: number;
  had: number;
}

/** The latest records, oldest first. A record that the loop overwrites meanwhile is left out. */
export function readRecords(stats: Stats, most: number): Decision[] {
  const { words, records } = stats;
  const end = Atomics.load(words, S_RECORDS);
  const count = Math.min(most, RECORDS - 1, end >>> 0);
  const ticksPerUs = (words[S_TSC_KHZ] || 1e6) / 1000;
  const usPerStamp = 2 ** words[S_STAMP_SHIFT] / ticksPerUs;
  const found: Decision[] = [];
  for (let i = count; i > 0; i--) {
    const number = (end - i) | 0;
    const at = (number & (RECORDS - 1)) * REC_WORDS;
    const copy = records.slice(at, at + REC_WORDS);
    const whole =
      copy[REC_SEQ] === ((number + 1) | 0) && Atomics.load(records, at + REC_SEQ) === copy[REC_SEQ];
    if (!whole) continue;
    const tsc = (copy[REC_TSC_LO] >>> 0) + (copy[REC_TSC_HI] >>> 0) * 2 ** 32;
    found.push({
      number,
      at_us: tsc / ticksPerUs,
      core: copy[REC_CORE],
      was: copy[REC_WAS],
      asked: copy[REC_ASKED],
      allowed: copy[REC_ALLOWED],
      from: handleName(copy[REC_FROM]),
      to: handleName(copy[REC_TO]),
      op: copy[REC_OP] === 0 ? '' : opName(copy[REC_OP]),
      result: copy[REC_OP] === 0 ? '' : resultName(copy[REC_RESULT]),
      why: reasonCode(copy[REC_WHY]),
      edit: reasonCode(copy[REC_EDIT]),
      delay_us: copy[REC_DELAY] * usPerStamp,
      wants: copy[REC_WANTS],
      had: copy[REC_HAD],
    });
  }
  return found;
}

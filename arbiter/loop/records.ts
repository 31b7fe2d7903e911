/**
 * Decisions written down as they are made: asked, allowed, applied and why, in a
 * ring of fixed records in shared memory. A refusal that stands is written once,
 * not every microsecond.
 */
import { HEAD_CORES } from '../policy/api.ts';
import { WHY_NONE } from '../policy/reasons.ts';
import { NO_VM } from '../policy/api.ts';
import type { LoopMemory, LoopState } from './state.ts';
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
} from './stats.ts';

export interface Records {
  /** Writes down what was decided for core index k. `edit`: the guard's or the loop's reason. */
  write(k: number, edit: number, op: number, from: number, to: number): number;
  /** The result of the command that a record stands for. */
  result(record: number, result: number): void;
  /** A wish that was not carried out; written only if it is not what was written for this core last. */
  note(k: number, edit: number): void;
  /** The core has nothing outstanding. */
  clear(k: number): void;
}

export function makeRecords(mem: LoopMemory, s: LoopState): Records {
  const { words, records } = mem.stats;
  const { coreVm, target, why, vmDelay, vmWants, vmCores, head } = s.view;
  const { allowed } = s.guard;
  const { coreId, coreNoted } = s;
  const tsc = mem.clock.words;

  function write(k: number, edit: number, op: number, from: number, to: number): number {
    const number = words[S_RECORDS];
    const at = (number & (RECORDS - 1)) * REC_WORDS;
    const asked = target[k];
    records[at + REC_SEQ] = 0;
    records[at + REC_TSC_LO] = tsc[0];
    records[at + REC_TSC_HI] = tsc[1];
    records[at + REC_CORE] = coreId[k];
    records[at + REC_WAS] = coreVm[k];
    records[at + REC_ASKED] = asked;
    records[at + REC_ALLOWED] = allowed[k];
    records[at + REC_FROM] = from;
    records[at + REC_TO] = to;
    records[at + REC_OP] = op;
    records[at + REC_RESULT] = 0;
    records[at + REC_WHY] = why[k];
    records[at + REC_EDIT] = edit;
    // A wish may name nonsense: then there is nobody whose figures could be copied.
    const known = asked >= 0 && asked < vmDelay.length;
    records[at + REC_DELAY] = known ? vmDelay[asked] : 0;
    records[at + REC_WANTS] = known ? vmWants[asked] : 0;
    records[at + REC_HAD] = known ? vmCores[asked] : 0;
    // Last: stores become visible in order (x86, and V8 keeps it), so whoever sees the number sees the record.
    records[at + REC_SEQ] = (number + 1) | 0;
    words[S_RECORDS] = (number + 1) | 0;
    return at;
  }

  return {
    write,
    result(record, result): void {
      records[record + REC_RESULT] = result;
    },
    note(k, edit): void {
      const note = (edit << 16) | ((target[k] + 1) & 0xffff);
      if (coreNoted[k] === note) return;
      coreNoted[k] = note;
      if (target[k] !== NO_VM || edit !== WHY_NONE) write(k, edit, 0, 0, 0);
    },
    clear(k): void {
      if (k < head[HEAD_CORES]) coreNoted[k] = 0;
    },
  };
}

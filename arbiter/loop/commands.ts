/**
 * From what is allowed to commands: the difference between each core as it is and
 * as it should be, as one batch. A core that is changing hands gets no second
 * request; the wish for it stays with the policy, is made anew in each turn, and is
 * carried out in the turn that sees the move end (one in flight, one replaceable
 * pending).
 */
import {
  CMD_CORE,
  CMD_FLAGS,
  CMD_FROM,
  CMD_OP,
  CMD_RESULT,
  CMD_SHIFT,
  CMD_TO,
  CMD_TSC_HI,
  CMD_TSC_LO,
  OP_GRANT,
  OP_HEIR,
  OP_MOVE,
  OP_PARK,
  R_AGAIN,
  R_ALREADY,
  R_BUSY,
  R_DEAD,
  R_OFFLINE,
  R_STALE,
} from '../bridge/bridge.ts';
import { isHandle, ownerOf, slotOf } from '../bridge/words.ts';
import { CORE_MOVING, NO_VM } from '../policy/api.ts';
import { WHY_NONE, WHY_NO_VCPU, WHY_PENDING } from '../policy/reasons.ts';
import type { Place } from './place.ts';
import type { Records } from './records.ts';
import type { LoopMemory, LoopState } from './state.ts';
import { N_CORES, N_IN_FLIGHT, N_STALE } from './state.ts';
import { counter } from './stats.ts';

const C_COMMANDS = counter('commands');
const C_GRANTS = counter('grants');
const C_MOVES = counter('moves');
const C_PARKS = counter('parks');
const C_HEIRS = counter('heirs');
const C_FAILED = counter('failed');
const C_BUSY = counter('busy');
const C_OWNER_CHANGED = counter('owner_changed');
const C_IN_FLIGHT = counter('in_flight');
const C_DEAD = counter('dead');
const C_INVALID = counter('invalid');
const C_OFFLINE = counter('offline');

export interface Commands {
  /** Carries out what the guard allowed. */
  readonly carryOut: () => void;
  /** Takes in the results of the batch's first `count` commands. */
  readonly settle: (count: number) => void;
}

export function makeCommands(mem: LoopMemory, s: LoopState, place: Place, records: Records): Commands {
  const { n, coreId, coreLow, heirHandle } = s;
  const { coreVm, coreFlags, target, heir } = s.view;
  const { allowed, edits, known, limit } = s.guard;
  const counters = mem.stats.counters;
  const { bridge } = mem;
  const { batch } = bridge;
  const tsc = mem.clock.words;
  /** Record of each command of the batch; -1: heirs have none. */
  const recordOf = new Int32Array(mem.bridge.capacity);

  /** Adds command number i. */
  function put(i: number, k: number, op: number, from: number, to: number): void {
    const at = i << CMD_SHIFT;
    batch[at | CMD_OP] = op;
    batch[at | CMD_CORE] = coreId[k];
    batch[at | CMD_FROM] = from;
    batch[at | CMD_TO] = to;
    batch[at | CMD_FLAGS] = 0;
    batch[at | CMD_TSC_LO] = tsc[0];
    batch[at | CMD_TSC_HI] = tsc[1];
    recordOf[i] = op === OP_HEIR ? -1 : records.write(k, edits[k], op, from, to);
  }

  /** What core k needs as command number i. Returns how many commands there are then. */
  function putCore(i: number, k: number): number {
    const next = allowed[k];
    if ((coreFlags[k] & CORE_MOVING) !== 0) {
      if (target[k] !== coreVm[k]) records.note(k, WHY_PENDING);
      return i;
    }
    if (next === coreVm[k]) {
      if (edits[k] !== WHY_NONE) records.note(k, edits[k]);
      else records.clear(k);
      return i;
    }
    const owner = ownerOf(coreLow[k]);
    if (next === NO_VM) {
      put(i, k, OP_PARK, owner, 0);
      return i + 1;
    }
    const to = place.target(next, coreId[k]);
    if (to === 0) {
      records.note(k, WHY_NO_VCPU);
      return i;
    }
    put(i, k, owner === 0 ? OP_GRANT : OP_MOVE, owner, to);
    return i + 1;
  }

  function putHeir(i: number, k: number): number {
    const present = heirHandle[k];
    const wanted = heir[k];
    if (wanted === NO_VM) {
      if (present === 0) return i;
      put(i, k, OP_HEIR, 0, 0);
      return i + 1;
    }
    if (isHandle(present) && slotOf(present) === wanted && place.stands(present)) return i;
    const to = place.heir(wanted, coreId[k]);
    if (to === present) return i;
    put(i, k, OP_HEIR, 0, to);
    return i + 1;
  }

  /** A VM that is dead or that the bridge does not know is left alone until it is attached anew. */
  function forget(handle: number): void {
    if (!isHandle(handle)) return;
    known[slotOf(handle)] = 0;
    // It wants nothing any more, so the policy does not spend its turns on it.
    limit[slotOf(handle)] = 0;
  }

  function failure(result: number, to: number): void {
    counters[C_FAILED]++;
    if (result === R_BUSY) counters[C_BUSY]++;
    else if (result === R_AGAIN) counters[C_OWNER_CHANGED]++;
    else if (result === R_ALREADY) counters[C_IN_FLIGHT]++;
    else if (result === R_STALE) n[N_STALE] = 1;
    // It went offline after the cores were looked at. That is nothing against the VM.
    else if (result === R_OFFLINE) counters[C_OFFLINE]++;
    else {
      counters[result === R_DEAD ? C_DEAD : C_INVALID]++;
      forget(to);
    }
  }

  /** What became of the commands. */
  function settle(count: number): void {
    let heirs = 0;
    for (let i = 0; i < count; i++) {
      const at = i << CMD_SHIFT;
      const result = batch[at | CMD_RESULT];
      const op = batch[at | CMD_OP];
      if (op !== OP_HEIR) records.result(recordOf[i], result);
      if (result !== 0) failure(result, batch[at | CMD_TO]);
      else if (op === OP_HEIR) heirs++;
      else if (op === OP_GRANT) counters[C_GRANTS]++;
      else {
        counters[op === OP_MOVE ? C_MOVES : C_PARKS]++;
        n[N_IN_FLIGHT] = 1;
      }
    }
    if (heirs !== 0) counters[C_HEIRS] += heirs;
  }

  function carryOut(): void {
    const cores = n[N_CORES];
    let count = 0;
    place.begin();
    for (let k = 0; k < cores; k++) count = putCore(count, k);
    for (let k = 0; k < cores; k++) count = putHeir(count, k);
    if (count === 0) return;
    counters[C_COMMANDS] += count;
    bridge.submit(count);
    settle(count);
  }

  return { carryOut, settle };
}

/**
 * The hard limits, applied after the policy and in this one place.
 *
 * Whatever a policy wrote, what leaves the guard holds: only managed VMs are named,
 * no VM gets more cores than its maximum (nor than it has vCPUs), none that uses
 * its guaranteed cores loses them, and a core has one owner (which the form of a
 * decision gives: one wish per core). Where it is asked for, cores are also taken no
 * more often than so many times, and do not go back at once to where they came from
 * (pace.ts). Each edit leaves a reason. If edits contradict each other, nothing moves
 * in this turn: standing still is always allowed.
 */
import type { View } from '../policy/api.ts';
import { CORE_MOVING, HEAD_CORES, MAX_CORES, MAX_VMS, NO_VM, smallArray } from '../policy/api.ts';
import {
  WHY_KEEPS_GUARANTEE,
  WHY_MAX_CORES,
  WHY_NONE,
  WHY_OVER_MAX,
  WHY_RESET,
  WHY_UNKNOWN_VM,
} from '../policy/reasons.ts';
import type { Pace } from './pace.ts';
import { makePace, P_ON, plainPace } from './pace.ts';

export interface GuardState {
  /** Not 0 for slots whose VM is managed at present. */
  readonly known: Int32Array;
  /** Most cores that the VM may hold: its maximum, its vCPUs and the pool, whichever is least. */
  readonly limit: Int32Array;
  /** Out: what each core may do. */
  readonly allowed: Int32Array;
  /** Out: why the guard changed the wish for a core; 0: it did not. */
  readonly edits: Int32Array;
  /** How often cores may be taken: see pace.ts. */
  readonly pace: Int32Array;
}

/** Wishes can depend on each other this often before the guard gives up and stands still. */
const PASSES = 4;

const F_CHANGES = 0;
const F_OVER = 1;

export const plainGuardState = (): GuardState => ({
  known: new Int32Array(MAX_VMS),
  limit: new Int32Array(MAX_VMS),
  allowed: new Int32Array(MAX_CORES).fill(NO_VM),
  edits: new Int32Array(MAX_CORES),
  pace: plainPace(),
});

/** Returns a function that judges the view's wishes and returns how many it edited. */
export function makeGuard(view: View, state: GuardState): () => number {
  const { head, vmMin, vmWants, coreVm, coreFlags, target, heir } = view;
  const { known, limit, allowed, edits, pace } = state;
  /** Cores of each VM that this turn names, heirs included, if everything allowed happened. */
  const count = new Int32Array(MAX_VMS);
  /** Of those, the ones that it has already. What it is only just given may not come: it can have no vCPU for it. */
  const keeps = new Int32Array(MAX_VMS);
  /** What takeWishes and countAll found, so that passes with nothing to do are left out. */
  const found = smallArray(2);

  function isKnown(vm: number): boolean {
    return vm >= 0 && vm < MAX_VMS && known[vm] !== 0;
  }

  /** What is wished, with the count of every VM that this concerns made. Returns the number of edits. */
  function takeWishes(cores: number): number {
    let edited = 0;
    let changes = 0;
    for (let k = 0; k < cores; k++) {
      const owner = coreVm[k];
      const wish = target[k];
      const inherits = heir[k];
      let next = owner;
      let edit = WHY_NONE;
      // A wish for a core on the move has to wait for the move; it is not the guard's business yet.
      if (wish !== owner && (coreFlags[k] & CORE_MOVING) === 0) {
        if (wish === NO_VM || isKnown(wish)) {
          next = wish;
          changes++;
          if (wish !== NO_VM) count[wish] = 0;
        } else {
          edit = WHY_UNKNOWN_VM;
          edited++;
        }
      }
      if (owner !== NO_VM) {
        count[owner] = 0;
        keeps[owner] = 0;
      }
      if (inherits !== NO_VM && isKnown(inherits)) count[inherits] = 0;
      allowed[k] = next;
      edits[k] = edit;
    }
    found[F_CHANGES] = changes;
    return edited;
  }

  function add(vm: number): void {
    if (++count[vm] > limit[vm]) found[F_OVER] = 1;
  }

  function countAll(cores: number): void {
    found[F_OVER] = 0;
    for (let k = 0; k < cores; k++) {
      const next = allowed[k];
      if (next === NO_VM) continue;
      add(next);
      if (next === coreVm[k]) keeps[next]++;
    }
  }

  function undo(k: number, reason: number): void {
    if (allowed[k] !== NO_VM) count[allowed[k]]--;
    allowed[k] = coreVm[k];
    if (coreVm[k] !== NO_VM) {
      add(coreVm[k]);
      keeps[coreVm[k]]++;
    }
    edits[k] = reason;
  }

  /** Takes back what breaks a limit. Returns how many wishes it took back. */
  function pass(cores: number): number {
    let undone = 0;
    for (let k = 0; k < cores; k++) {
      const owner = coreVm[k];
      const next = allowed[k];
      if (next === owner) continue;
      if (next !== NO_VM && count[next] > limit[next]) {
        undo(k, WHY_MAX_CORES);
        undone++;
        continue;
      }
      if (owner === NO_VM || !isKnown(owner)) continue;
      const uses = vmMin[owner] < vmWants[owner] ? vmMin[owner] : vmWants[owner];
      if (keeps[owner] < uses) {
        undo(k, WHY_KEEPS_GUARANTEE);
        undone++;
      }
    }
    return undone;
  }

  /** A VM that came to hold too much (a stale heir can do that) gives cores up. */
  function shed(cores: number): number {
    let shed = 0;
    for (let k = 0; k < cores; k++) {
      const vm = allowed[k];
      if (vm === NO_VM || vm !== coreVm[k] || !isKnown(vm) || (coreFlags[k] & CORE_MOVING) !== 0) continue;
      if (count[vm] <= limit[vm]) continue;
      count[vm]--;
      allowed[k] = NO_VM;
      edits[k] = WHY_OVER_MAX;
      shed++;
    }
    return shed;
  }

  const restrain: Pace = makePace(view, state, undo);

  function standStill(cores: number): number {
    for (let k = 0; k < cores; k++) {
      if (allowed[k] !== coreVm[k]) edits[k] = WHY_RESET;
      if (allowed[k] !== NO_VM) count[allowed[k]] = 0;
      allowed[k] = coreVm[k];
    }
    for (let k = 0; k < cores; k++) {
      if (coreVm[k] === NO_VM) continue;
      count[coreVm[k]] = 0;
      keeps[coreVm[k]] = 0;
    }
    countAll(cores);
    return cores;
  }

  function checkHeirs(cores: number): number {
    let edited = 0;
    for (let k = 0; k < cores; k++) {
      const vm = heir[k];
      if (vm === NO_VM) continue;
      // A VM that inherits its own core does not hold more afterwards than before.
      const room = vm === coreVm[k] ? 1 : 0;
      if (isKnown(vm) && count[vm] < limit[vm] + room) continue;
      heir[k] = NO_VM;
      edited++;
    }
    return edited;
  }

  return function guard(): number {
    const cores = head[HEAD_CORES];
    let edited = takeWishes(cores);
    countAll(cores);
    if (pace[P_ON] !== 0) edited += restrain.before(cores);
    if (found[F_CHANGES] !== 0) {
      let undone = 0;
      for (let n = 0; n < PASSES; n++) {
        undone = pass(cores);
        edited += undone;
        if (undone === 0) break;
      }
      if (undone !== 0) edited += standStill(cores);
    }
    if (found[F_OVER] !== 0) edited += shed(cores);
    if (pace[P_ON] !== 0) restrain.after(cores);
    edited += checkHeirs(cores);
    return edited;
  };
}

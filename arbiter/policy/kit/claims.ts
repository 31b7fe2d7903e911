/**
 * From claims to cores: what policies have in common. A policy says at which level
 * a VM claims one more core, who goes first within a level, and how readily a core
 * goes from one VM to another; here it is found out which core that is.
 *
 * An idle core goes first, one that the VM had before if there is one: its caches
 * may still know it. Else the core that is given most readily is taken. Cores on
 * the move are let alone, and nobody gives up guaranteed cores that it uses.
 */
import type { Figures, Wishes } from '../api.ts';
import { CORE_MOVING, HEAD_CORES, HEAD_HOT, MAX_VMS, NO_VM, smallArray } from '../api.ts';
import { makeHeirs } from './heirs.ts';

/** Levels are 1 to 7, the highest first; 0 is no claim. */
export const LEVELS = 8;

/** Passes over the VMs in one turn. Each serves one VM of each level; the next turn serves the next. */
const ROUNDS = 4;
/** Passes that may serve nobody: whoever is refused stands back, so that the next one in line is tried, too. */
const REFUSALS = 2;

export interface Rules {
  /** At which level the VM claims one more core. `have`: what it has, with what this turn gave and took. */
  level(vm: number, have: number): number;
  /** Within a level: whoever has more goes first. An integer. */
  urgency(vm: number): number;
  /** How readily core k goes from `victim` to `vm`, whose claim has this level: the most readily first, below 0 not. */
  readiness(k: number, victim: number, vm: number, level: number): number;
  /** Why, for the record. `taken`: from another VM; else it was idle. */
  reason(vm: number, level: number, taken: boolean): number;
}

export interface Claims {
  /** Cores of each VM as this turn's decisions would have it. */
  readonly have: Int32Array;
  /** Idle cores that are kept for claims above level `keptFrom`; 0 unless the policy sets it. */
  readonly kept: Int32Array;
  /** Level up to which claims leave the kept cores alone. */
  readonly keptFrom: number;
  /** VMs that may claim something without being hot. The policy fills it in; the first word of `also` is the count. */
  readonly more: Int32Array;
  readonly also: Int32Array;
  /** To be called first in each turn: counts what everybody has. */
  begin(): void;
  /** Serves the claims, then chooses heirs. */
  serve(rules: Rules): void;
}

export function makeClaims(view: Figures, out: Wishes, keptFrom = 0): Claims {
  const { head, hot, vmMin, vmWants, vmCores, coreVm, coreFlags, coreLast } = view;
  const { target, why } = out;
  const have = new Int32Array(MAX_VMS);
  const more = new Int32Array(MAX_VMS);
  const also = smallArray(1);
  const kept = smallArray(1);
  /** The turn in which the VM's claim could last not be served. */
  const refused = new Int32Array(MAX_VMS);
  const best = smallArray(LEVELS);
  const urgencies = smallArray(LEVELS);
  /** Cores that nobody has and nobody was given yet, and the number of this turn. */
  const n = smallArray(2);
  const IDLE = 0;
  const TURN = 1;
  const chooseHeirs = makeHeirs(view, out, have);

  function idleCore(vm: number, level: number): number {
    if (n[IDLE] <= (level > keptFrom ? 0 : kept[0])) return -1;
    const cores = head[HEAD_CORES];
    let found = -1;
    for (let k = 0; k < cores; k++) {
      if (target[k] !== NO_VM || coreVm[k] !== NO_VM || (coreFlags[k] & CORE_MOVING) !== 0) continue;
      if (coreLast[k] === vm) return k;
      if (found < 0) found = k;
    }
    return found;
  }

  function coreToTake(vm: number, level: number, rules: Rules): number {
    const cores = head[HEAD_CORES];
    let found = -1;
    let most = -1;
    for (let k = 0; k < cores; k++) {
      const victim = target[k];
      if (victim === NO_VM || victim === vm || coreVm[k] !== victim) continue;
      if ((coreFlags[k] & CORE_MOVING) !== 0) continue;
      const uses = vmMin[victim] < vmWants[victim] ? vmMin[victim] : vmWants[victim];
      if (have[victim] <= uses) continue;
      const readiness = rules.readiness(k, victim, vm, level);
      if (readiness > most) {
        most = readiness;
        found = k;
      }
    }
    return found;
  }

  function give(vm: number, k: number, reason: number): void {
    const victim = target[k];
    if (victim === NO_VM) n[IDLE]--;
    else have[victim]--;
    have[vm]++;
    target[k] = vm;
    why[k] = reason;
  }

  /** Returns 1 if the claim was served. */
  function serveOne(vm: number, level: number, rules: Rules): number {
    let k = idleCore(vm, level);
    const taken = k < 0;
    if (taken) k = coreToTake(vm, level, rules);
    if (k >= 0) give(vm, k, rules.reason(vm, level, taken));
    else refused[vm] = n[TURN];
    return k >= 0 ? 1 : 0;
  }

  function consider(vm: number, rules: Rules): number {
    if (refused[vm] === n[TURN]) return 0;
    const level = rules.level(vm, have[vm]);
    if (level <= 0) return 0;
    const urgency = rules.urgency(vm);
    if (best[level] === NO_VM || urgency > urgencies[level]) {
      best[level] = vm;
      urgencies[level] = urgency;
    }
    return 1;
  }

  /** Returns how many claims were served; -1: there was none. */
  function round(rules: Rules): number {
    const count = head[HEAD_HOT];
    const others = also[0];
    let claims = 0;
    for (let level = 1; level < LEVELS; level++) best[level] = NO_VM;
    for (let i = 0; i < count; i++) claims += consider(hot[i], rules);
    for (let i = 0; i < others; i++) claims += consider(more[i], rules);
    if (claims === 0) return -1;
    let served = 0;
    for (let level = LEVELS - 1; level > 0; level--) {
      const vm = best[level];
      // What a higher level was given or taken may have changed the claim.
      if (vm !== NO_VM && rules.level(vm, have[vm]) === level) served += serveOne(vm, level, rules);
    }
    return served;
  }

  return {
    ...{ have, kept, keptFrom, more, also },
    begin(): void {
      const cores = head[HEAD_CORES];
      const count = head[HEAD_HOT];
      let free = 0;
      for (let k = 0; k < cores; k++) {
        const vm = coreVm[k];
        if (vm !== NO_VM) have[vm] = vmCores[vm];
        else if (target[k] === NO_VM && (coreFlags[k] & CORE_MOVING) === 0) free++;
      }
      for (let i = 0; i < count; i++) have[hot[i]] = vmCores[hot[i]];
      for (let i = 0; i < also[0]; i++) have[more[i]] = vmCores[more[i]];
      n[IDLE] = free;
      n[TURN] = (n[TURN] + 1) | 0;
    },
    serve(rules): void {
      let refusals = 0;
      for (let i = 0; i < ROUNDS && refusals < REFUSALS; i++) {
        const served = round(rules);
        if (served < 0) break;
        if (served === 0) refusals++;
      }
      chooseHeirs();
    },
  };
}

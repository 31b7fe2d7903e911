/**
 * The built-in policy `delay`: cores follow queueing delay.
 *
 * A VM that has work and no core, or whose oldest work has waited longer than the
 * threshold, claims a core. Idle cores go first; then cores are taken, by right:
 * guarantees before everything, latency-critical before best-effort, and among
 * equals whoever has less. A VM gives up nothing that it uses unless somebody with
 * a higher right needs it, and nothing that it has only just got (tenure), because
 * a move that is undone at once costs both sides and serves neither. Cores that
 * are not needed need not be taken: FluxOS yields them, and the heir has them.
 */
import { z } from 'zod';
import type { Figures, Wishes } from '../api.ts';
import {
  CLASS_LC,
  CORE_IDLE,
  CORE_MOVING,
  HEAD_CORES,
  HEAD_HOT,
  HEAD_NOW,
  MAX_VMS,
  NO_VM,
  POLICY_API,
  smallArray,
  VM_BOOTING,
} from '../api.ts';
import { definePolicy, type Hot } from '../define.ts';
import { makeHeirs } from '../kit/heirs.ts';
import { us } from '../kit/params.ts';
import { WHY_BOOT, WHY_DELAY, WHY_GUARANTEE, WHY_IDLE_CORE, WHY_SHARE, WHY_STARVED } from '../reasons.ts';

export const delayParams = z.strictObject({
  threshold_us: us(10, 'work that has waited this long claims a further core'),
  tenure_us: us(25, 'a core is not taken from a VM that has had it for less'),
  quantum_us: us(2000, 'a VM without a core takes one from its own class after this long'),
  step_us: us(10, 'a VM takes one core from others in this time at most; the first one at once'),
});

// Rights, the highest first.
const RIGHT_LC_GUARANTEE = 5;
const RIGHT_BE_GUARANTEE = 4;
const RIGHT_LC_STARVED = 3;
const RIGHT_LC_DELAY = 2;
const RIGHT_BE_STARVED = 1;
const RIGHT_BE_DELAY = 0;
const RIGHTS = 6;

/** Passes over the hot VMs in one turn. Each serves one VM of each right; the next turn serves the next. */
const ROUNDS = 4;

const T_THRESHOLD = 0;
const T_TENURE = 1;
const T_QUANTUM = 2;
const T_STEP = 3;

function bind(view: Figures, out: Wishes): Hot<z.output<typeof delayParams>> {
  const { head, hot, vmClass, vmMin, vmMax, vmCores, vmWants, vmDelay, vmAway, vmFlags } = view;
  const { coreVm, coreFlags, coreAge, coreLast } = view;
  const { target, why } = out;
  const times = smallArray(4);
  /** Cores of each VM as this turn's decisions would have it. */
  const have = new Int32Array(MAX_VMS);
  /** When the VM last took a core from somebody. */
  const lastTake = new Int32Array(MAX_VMS);
  /** The most urgent VM of each right. */
  const best = smallArray(RIGHTS);
  /** Cores that nobody has and nobody was given yet. */
  const idle = smallArray(1);
  const chooseHeirs = makeHeirs(view, out, have);

  function rightOf(vm: number): number {
    const cores = have[vm];
    if (vmWants[vm] <= cores || cores >= vmMax[vm]) return -1;
    const lc = vmClass[vm] === CLASS_LC;
    if (cores < vmMin[vm]) return lc ? RIGHT_LC_GUARANTEE : RIGHT_BE_GUARANTEE;
    if (cores === 0) return lc ? RIGHT_LC_STARVED : RIGHT_BE_STARVED;
    if (vmDelay[vm] >= times[T_THRESHOLD]) return lc ? RIGHT_LC_DELAY : RIGHT_BE_DELAY;
    return -1;
  }

  /** Among VMs of one right: who waits longest. For one without a core the host's own knowledge decides. */
  function urgency(vm: number): number {
    return have[vm] === 0 ? vmAway[vm] : vmDelay[vm];
  }

  // The loops over cores hold what does not change in locals: V8 does not lift loads out of loops.

  /** An idle core, one that the VM had before if there is one: its caches may still know it. */
  function idleCore(vm: number): number {
    if (idle[0] === 0) return -1;
    const cores = head[HEAD_CORES];
    let found = -1;
    for (let k = 0; k < cores; k++) {
      if (target[k] !== NO_VM || coreVm[k] !== NO_VM || (coreFlags[k] & CORE_MOVING) !== 0) continue;
      if (coreLast[k] === vm) return k;
      if (found < 0) found = k;
    }
    return found;
  }

  /** The core that suits a claim of `vm` with this right best; -1: none may be taken. */
  function coreToTake(vm: number, right: number): number {
    const cores = head[HEAD_CORES];
    const myClass = vmClass[vm];
    const mine = have[vm];
    // What an equal must have more than, to give.
    const fair = mine - vmMin[vm] + 1;
    const guaranteed = right >= RIGHT_BE_GUARANTEE;
    const tenure = times[T_TENURE];
    const quantum = times[T_QUANTUM];
    let found = -1;
    let best = -1;
    for (let k = 0; k < cores; k++) {
      const victim = target[k];
      if (victim === NO_VM || victim === vm || coreVm[k] !== victim) continue;
      const flags = coreFlags[k];
      if ((flags & CORE_MOVING) !== 0) continue;
      const held = have[victim];
      const rank = myClass - vmClass[victim];
      let score: number;
      if ((flags & CORE_IDLE) !== 0 && rank >= 0 && vmWants[victim] < held) {
        // It is only spun on.
        score = 1 << 20;
      } else {
        const burst = held - vmMin[victim];
        if (burst <= 0) continue;
        if (!guaranteed) {
          const age = coreAge[k];
          if (age < tenure || rank < 0) continue;
          if (rank === 0 && burst <= fair && (mine !== 0 || age < quantum)) continue;
        }
        score = (rank > 0 ? 1 << 16 : 0) + (burst << 4);
      }
      if (score > best) {
        best = score;
        found = k;
      }
    }
    return found;
  }

  function give(vm: number, k: number, reason: number): void {
    const victim = target[k];
    if (victim === NO_VM) idle[0]--;
    else have[victim]--;
    have[vm]++;
    target[k] = vm;
    why[k] = reason;
  }

  function reasonOf(vm: number, right: number): number {
    if ((vmFlags[vm] & VM_BOOTING) !== 0) return WHY_BOOT;
    if (right >= RIGHT_BE_GUARANTEE) return WHY_GUARANTEE;
    if (right === RIGHT_LC_STARVED || right === RIGHT_BE_STARVED) return WHY_STARVED;
    return WHY_DELAY;
  }

  /** Serves one claim if it can. Returns 1 if it did. */
  function serve(vm: number, right: number): number {
    let k = idleCore(vm);
    if (k >= 0) {
      const reason = reasonOf(vm, right);
      give(vm, k, reason === WHY_DELAY ? WHY_IDLE_CORE : reason);
      return 1;
    }
    const now = head[HEAD_NOW];
    const first = have[vm] === 0 || right >= RIGHT_BE_GUARANTEE;
    if (!first && (now - lastTake[vm]) >>> 0 < times[T_STEP]) return 0;
    k = coreToTake(vm, right);
    if (k < 0) return 0;
    const same = vmClass[coreVm[k]] === vmClass[vm] && right < RIGHT_BE_GUARANTEE;
    give(vm, k, same ? WHY_SHARE : reasonOf(vm, right));
    lastTake[vm] = now;
    return 1;
  }

  /**
   * One pass: the most urgent of each right, served from the highest right down. Returns whether another pass
   * could serve anybody.
   */
  function round(): boolean {
    for (let right = 0; right < RIGHTS; right++) best[right] = NO_VM;
    const count = head[HEAD_HOT];
    let claims = 0;
    for (let i = 0; i < count; i++) {
      const vm = hot[i];
      const right = rightOf(vm);
      if (right < 0) continue;
      claims++;
      const rival = best[right];
      if (rival === NO_VM || urgency(vm) > urgency(rival)) best[right] = vm;
    }
    if (claims === 0) return false;
    let served = 0;
    let free = idle[0];
    for (let right = RIGHTS - 1; right >= 0; right--) {
      const vm = best[right];
      if (vm === NO_VM || serve(vm, right) === 0) continue;
      served++;
      // It may have a claim to another core, and whoever lost one to it may have one now.
      if (idle[0] === free || rightOf(vm) >= 0) claims++;
      free = idle[0];
    }
    return served !== 0 && claims > served;
  }

  return {
    state: [lastTake],
    decide(): void {
      const cores = head[HEAD_CORES];
      const count = head[HEAD_HOT];
      let free = 0;
      for (let k = 0; k < cores; k++) {
        const vm = coreVm[k];
        if (vm !== NO_VM) have[vm] = vmCores[vm];
        else if (target[k] === NO_VM && (coreFlags[k] & CORE_MOVING) === 0) free++;
      }
      idle[0] = free;
      for (let i = 0; i < count; i++) have[hot[i]] = vmCores[hot[i]];
      for (let n = 0; n < ROUNDS; n++) {
        if (!round()) break;
      }
      chooseHeirs();
    },
    configure(params, stampsPerUs): void {
      times[T_THRESHOLD] = params.threshold_us * stampsPerUs;
      times[T_TENURE] = params.tenure_us * stampsPerUs;
      times[T_QUANTUM] = params.quantum_us * stampsPerUs;
      times[T_STEP] = params.step_us * stampsPerUs;
    },
  };
}

export const delay = definePolicy({
  api: POLICY_API,
  name: 'delay',
  version: '1.0.0',
  summary: 'cores follow queueing delay, latency-critical VMs first',
  params: delayParams,
  bind,
});

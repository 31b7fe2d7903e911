/**
 * The built-in policy `utilization`: as many cores as keep a VM's cores busy within a
 * range, which is how autoscalers and scx_layered's util_range decide, only faster.
 *
 * Over each window it is measured how much of the time that a VM had cores it ran
 * something on them. Above the range its goal grows by a core, below it shrinks by
 * one; between, it stays. A VM with fewer cores than its goal claims one if it can
 * use it, and takes it from whoever has more than his. Queueing delay plays no part,
 * so work can wait for a window or two; a VM without any core gets its first at once,
 * or takes turns with equals. Classes do not count here; guarantees do.
 */
import { z } from 'zod';
import type { Figures, Wishes } from '../api.ts';
import {
  AGE_MAX,
  CORE_IDLE,
  CORE_MOVING,
  HEAD_CORES,
  HEAD_HOT,
  HEAD_NOW,
  MAX_CORES,
  MAX_VMS,
  NO_VM,
  POLICY_API,
  smallArray,
  VM_BOOTING,
} from '../api.ts';
import { definePolicy, type Hot } from '../define.ts';
import { makeClaims, type Rules } from '../kit/claims.ts';
import { makeEquals } from '../kit/equals.ts';
import { percent, us } from '../kit/params.ts';
import { WHY_BOOT, WHY_BUSY, WHY_GUARANTEE, WHY_IDLE_CORE, WHY_STARVED } from '../reasons.ts';

const params = z.strictObject({
  low_percent: percent(40, 'below this the VM needs a core less'),
  high_percent: percent(85, 'above this it needs one more'),
  window_us: us(500, 'how long is measured before the goal changes'),
  tenure_us: us(50, 'a core is not taken from a VM that has had it for less'),
  quantum_us: us(2000, 'a VM without a core takes one from an equal after this long'),
});

const GUARANTEE = 3;
const STARVED = 2;
const GROWS = 1;

const P_LOW = 0;
const P_HIGH = 1;
const P_WINDOW = 2;
const P_TENURE = 3;
const P_QUANTUM = 4;

function bind(view: Figures, out: Wishes): Hot<z.output<typeof params>> {
  const { head, hot, vmMin, vmMax, vmWants, vmDelay, vmAway, vmFlags } = view;
  const { coreVm, coreFlags, coreAge } = view;
  const claims = makeClaims(view, out);
  const { have } = claims;
  const equal = makeEquals(view, have);
  const settings = smallArray(5);
  /** Stamps of cores had and used in this window. Sums of many cores can be long. */
  const had = new Float64Array(MAX_VMS);
  const used = new Float64Array(MAX_VMS);
  const since = new Int32Array(MAX_VMS);
  const goal = new Int32Array(MAX_VMS).fill(1);
  /** Whose the core was in the last turn, and whether something ran on it: it has been so until now. */
  const was = new Int32Array(MAX_CORES).fill(NO_VM);
  const ran = new Int32Array(MAX_CORES);
  const last = smallArray(1);

  function charge(): void {
    const cores = head[HEAD_CORES];
    const now = head[HEAD_NOW];
    const passed = (now - last[0]) | 0;
    const held = passed >= 0 && passed < AGE_MAX ? passed : 0;
    last[0] = now;
    for (let k = 0; k < cores; k++) {
      const vm = was[k];
      if (vm !== NO_VM) {
        had[vm] += held;
        if (ran[k] !== 0) used[vm] += held;
      }
      was[k] = coreVm[k];
      ran[k] = (coreFlags[k] & (CORE_IDLE | CORE_MOVING)) === 0 ? 1 : 0;
    }
  }

  /** At the end of a window the VM's goal follows what was measured. */
  function review(vm: number): void {
    const now = head[HEAD_NOW];
    const long = (now - since[vm]) | 0;
    if (long >= 0 && long < settings[P_WINDOW]) return;
    if (had[vm] === 0) goal[vm] = 1;
    else if (used[vm] * 100 > had[vm] * settings[P_HIGH]) goal[vm] = have[vm] + 1;
    else if (used[vm] * 100 < had[vm] * settings[P_LOW]) goal[vm] = have[vm] - 1;
    if (goal[vm] > vmMax[vm]) goal[vm] = vmMax[vm];
    const least = vmMin[vm] > 1 ? vmMin[vm] : 1;
    if (goal[vm] < least) goal[vm] = least;
    had[vm] = 0;
    used[vm] = 0;
    since[vm] = now;
  }

  const rules: Rules = {
    level(vm, cores): number {
      if (vmWants[vm] <= cores || cores >= vmMax[vm]) return 0;
      if (cores < vmMin[vm]) return GUARANTEE;
      if (cores === 0) return STARVED;
      return cores < goal[vm] ? GROWS : 0;
    },
    urgency: (vm) => (have[vm] === 0 ? vmAway[vm] : vmDelay[vm]),
    readiness(k, victim, vm, level): number {
      const over = have[victim] - goal[victim];
      if (level === GUARANTEE) return over + MAX_CORES;
      if (have[victim] <= vmMin[victim] || coreAge[k] < settings[P_TENURE]) return -1;
      if (over > 0) return over + MAX_CORES;
      return equal(k, victim, vm, settings[P_QUANTUM]);
    },
    reason(vm, level, taken): number {
      if (level === GUARANTEE) return WHY_GUARANTEE;
      if ((vmFlags[vm] & VM_BOOTING) !== 0) return WHY_BOOT;
      if (level === STARVED) return WHY_STARVED;
      return taken ? WHY_BUSY : WHY_IDLE_CORE;
    },
  };

  return {
    decide(): void {
      const cores = head[HEAD_CORES];
      const count = head[HEAD_HOT];
      charge();
      claims.begin();
      for (let k = 0; k < cores; k++) if (coreVm[k] !== NO_VM) review(coreVm[k]);
      for (let i = 0; i < count; i++) review(hot[i]);
      claims.serve(rules);
    },
    configure({ low_percent, high_percent, window_us, tenure_us, quantum_us }, stampsPerUs): void {
      settings[P_LOW] = low_percent;
      settings[P_HIGH] = high_percent;
      settings[P_WINDOW] = window_us * stampsPerUs;
      settings[P_TENURE] = tenure_us * stampsPerUs;
      settings[P_QUANTUM] = quantum_us * stampsPerUs;
    },
    save: () => goal.slice(),
    restore(state): void {
      if (!(state instanceof Int32Array) || state.length !== MAX_VMS)
        throw new RangeError(`a word for each of ${MAX_VMS} slots is needed`);
      goal.set(state);
    },
  };
}

export const utilization = definePolicy({
  api: POLICY_API,
  name: 'utilization',
  version: '1.0.0',
  summary: "keeps how busy each VM's cores are within a range",
  params,
  bind,
});

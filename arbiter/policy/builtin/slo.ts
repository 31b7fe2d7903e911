/**
 * The built-in policy `slo`: each VM has a queueing delay that it wants to stay under
 * (`hyperflux run --slo-us`), and feedback finds out how many cores that takes.
 *
 * The rule is additive in both directions. Work that has waited longer than the target
 * raises the VM's goal by a core, once in a step; when nothing has waited for half of
 * the target during the calm, the goal sinks by one. A VM with fewer cores than its
 * goal claims one: first from VMs without a target, then from those that have more
 * than their goal. Latency-critical VMs over their target also take from best-effort
 * ones that have a target; best-effort ones never take from latency-critical ones. VMs
 * without a target have what is left, and share it.
 *
 * The slow hook looks at all of them: where the targets together need more than there
 * is, it divides the pool in proportion to what each could use, and the goals start
 * from there.
 */
import { z } from 'zod';
import type { Figures, Wishes } from '../api.ts';
import {
  CLASS_LC,
  CORE_IDLE,
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
import { makeClaims, type Rules } from '../kit/claims.ts';
import { makeEquals } from '../kit/equals.ts';
import { us } from '../kit/params.ts';
import type { Target, World } from '../plan.ts';
import {
  WHY_BOOT,
  WHY_GUARANTEE,
  WHY_IDLE_CORE,
  WHY_PLAN,
  WHY_SHARE,
  WHY_SLO,
  WHY_STARVED,
} from '../reasons.ts';

const params = z.strictObject({
  default_us: us(0, 'the target of a latency-critical VM that did not say; 0: it has none'),
  step_us: us(20, "a VM's goal grows once in this time at most"),
  calm_us: us(2000, 'after so long without delay the goal sinks'),
  tenure_us: us(25, 'a core is not taken from a VM that has had it for less'),
  quantum_us: us(2000, 'a VM without a core takes one from an equal after this long'),
});

const GUARANTEE = 6;
const LC_LATE = 5;
const BE_LATE = 4;
const BELOW_GOAL = 3;
const STARVED = 2;
const REST = 1;

const T_DEFAULT = 0;
const T_STEP = 1;
const T_CALM = 2;
const T_TENURE = 3;
const T_QUANTUM = 4;

function bind(view: Figures, out: Wishes): Hot<z.output<typeof params>> {
  const { head, hot, vmClass, vmMin, vmMax, vmWants, vmDelay, vmAway, vmFlags, vmSlo, vmPlan } = view;
  const { coreVm, coreFlags, coreAge } = view;
  const claims = makeClaims(view, out);
  const { have } = claims;
  const equal = makeEquals(view, have);
  const times = smallArray(5);
  const goal = new Int32Array(MAX_VMS).fill(1);
  const raisedAt = new Int32Array(MAX_VMS);
  const calmSince = new Int32Array(MAX_VMS);

  function targetOf(vm: number): number {
    return vmSlo[vm] !== 0 ? vmSlo[vm] : vmClass[vm] === CLASS_LC ? times[T_DEFAULT] : 0;
  }

  function clamp(vm: number): void {
    const least = vmMin[vm] > 1 ? vmMin[vm] : 1;
    if (vmPlan[vm] > goal[vm]) goal[vm] = vmPlan[vm];
    if (goal[vm] > vmMax[vm]) goal[vm] = vmMax[vm];
    if (goal[vm] < least) goal[vm] = least;
  }

  /** Old stamps wrap: one that seems to be of the future is of long ago. */
  function since(stamp: number): number {
    const age = (head[HEAD_NOW] - stamp) | 0;
    return age < 0 ? 0x7fffffff : age;
  }

  function follow(vm: number): void {
    const target = targetOf(vm);
    if (target === 0) return;
    const now = head[HEAD_NOW];
    // What waits for its first core says nothing about how many cores are enough.
    if (vmDelay[vm] > target && have[vm] > 0) {
      if (since(raisedAt[vm]) >= times[T_STEP]) {
        if (goal[vm] <= have[vm]) goal[vm] = have[vm] + 1;
        raisedAt[vm] = now;
      }
      calmSince[vm] = now;
    } else if (vmDelay[vm] * 2 > target) {
      calmSince[vm] = now;
    } else if (since(calmSince[vm]) >= times[T_CALM]) {
      goal[vm]--;
      calmSince[vm] = now;
    }
    clamp(vm);
  }

  const rules: Rules = {
    level(vm, cores): number {
      if (vmWants[vm] <= cores || cores >= vmMax[vm]) return 0;
      if (cores < vmMin[vm]) return GUARANTEE;
      const target = targetOf(vm);
      if (target === 0) return cores === 0 ? STARVED : REST;
      if (cores !== 0 && cores >= goal[vm]) return 0;
      if (cores === 0 || vmDelay[vm] > target) return vmClass[vm] === CLASS_LC ? LC_LATE : BE_LATE;
      return BELOW_GOAL;
    },
    /** How far over its target, in percent. */
    urgency(vm): number {
      const target = targetOf(vm);
      if (target === 0 || have[vm] === 0) return have[vm] === 0 ? vmAway[vm] : vmDelay[vm];
      return ((vmDelay[vm] / target) * 100) | 0;
    },
    readiness(k, victim, vm, level): number {
      const burst = have[victim] - vmMin[victim];
      if (level === GUARANTEE) return burst + (targetOf(victim) === 0 ? 1 << 16 : 0);
      if (burst <= 0 || vmClass[vm] < vmClass[victim]) return -1;
      if ((coreFlags[k] & CORE_IDLE) !== 0 && vmWants[victim] < have[victim] && level !== REST)
        return 1 << 20;
      if (coreAge[k] < times[T_TENURE]) return -1;
      if (level <= STARVED) return targetOf(victim) === 0 ? equal(k, victim, vm, times[T_QUANTUM]) : -1;
      if (targetOf(victim) === 0) return burst + (1 << 16);
      const over = have[victim] - goal[victim];
      if (over > 0) return over + (1 << 8);
      if (level === LC_LATE && vmClass[victim] !== CLASS_LC) return burst;
      return equal(k, victim, vm, times[T_QUANTUM]);
    },
    reason(vm, level, taken): number {
      if (level === GUARANTEE) return WHY_GUARANTEE;
      if ((vmFlags[vm] & VM_BOOTING) !== 0) return WHY_BOOT;
      if (level === STARVED || (have[vm] === 0 && level !== REST)) return WHY_STARVED;
      if (level >= BE_LATE) return WHY_SLO;
      if (level === BELOW_GOAL) return vmPlan[vm] >= goal[vm] ? WHY_PLAN : WHY_SLO;
      return taken ? WHY_SHARE : WHY_IDLE_CORE;
    },
  };

  return {
    decide(): void {
      const cores = head[HEAD_CORES];
      const count = head[HEAD_HOT];
      claims.begin();
      for (let k = 0; k < cores; k++) if (coreVm[k] !== NO_VM) follow(coreVm[k]);
      for (let i = 0; i < count; i++) follow(hot[i]);
      claims.serve(rules);
    },
    configure({ default_us, step_us, calm_us, tenure_us, quantum_us }, stampsPerUs): void {
      times[T_DEFAULT] = default_us * stampsPerUs;
      times[T_STEP] = step_us * stampsPerUs;
      times[T_CALM] = calm_us * stampsPerUs;
      times[T_TENURE] = tenure_us * stampsPerUs;
      times[T_QUANTUM] = quantum_us * stampsPerUs;
    },
    save: () => goal.slice(),
    restore(state): void {
      if (!(state instanceof Int32Array) || state.length !== MAX_VMS)
        throw new RangeError(`a word for each of ${MAX_VMS} slots is needed`);
      goal.set(state);
    },
  };
}

/** The pool among those with a target, in proportion to what they could use; each its guarantee at least. */
function plan({ cores, vms }: World, { default_us }: z.output<typeof params>): Target[] {
  const withTarget = vms.filter((vm) => vm.sloUs > 0 || (vm.class === 'lc' && default_us > 0));
  const useful = withTarget.filter((vm) => vm.wants > 0);
  const wanted = useful.reduce((sum, vm) => sum + vm.wants, 0);
  const share = wanted <= cores ? 1 : cores / wanted;
  return useful.map((vm) => ({
    vm: vm.vm,
    cores: Math.min(vm.max, Math.max(vm.min, Math.floor(vm.wants * share))),
    reason:
      share === 1
        ? `it could use ${vm.wants}, and there are enough`
        : `it could use ${vm.wants}, and ${cores} cores are there for ${wanted}`,
  }));
}

export const slo = definePolicy({
  api: POLICY_API,
  name: 'slo',
  version: '1.0.0',
  summary: "keeps each VM's own delay target, by feedback",
  params,
  bind,
  plan,
});

/**
 * The built-in policy `classes`: rules in a file, for people who do not program.
 *
 * A TOML file (rules/file.ts) sorts VMs into classes by name and says of each class
 * how it is served: its priority, the delay at which it claims a further core, how
 * many cores each of its VMs and all of them together may have. Here is only what
 * follows from that: guarantees first, then the higher priority; a core goes down the
 * priorities and never up, and equals share as they do in `delay`.
 *
 * The slow hook divides the cores of a class that has a limit among its VMs, by
 * weight, so that the first one does not have them all.
 */
import { z } from 'zod';
import type { Figures, Wishes } from '../api.ts';
import {
  CORE_IDLE,
  HEAD_CORES,
  MAX_CORES,
  MAX_GROUPS,
  NO_PLAN,
  NO_VM,
  POLICY_API,
  smallArray,
  VM_BOOTING,
} from '../api.ts';
import { definePolicy, type Hot } from '../define.ts';
import { LEVELS, makeClaims, type Rules } from '../kit/claims.ts';
import { makeEquals } from '../kit/equals.ts';
import type { Target, World } from '../plan.ts';
import {
  WHY_BOOT,
  WHY_DELAY,
  WHY_GUARANTEE,
  WHY_IDLE_CORE,
  WHY_PLAN,
  WHY_PRIORITY,
  WHY_SHARE,
  WHY_STARVED,
} from '../reasons.ts';

/** Priorities are 0 to this; above them are the guarantees. */
export const MAX_PRIORITY = LEVELS - 3;

const GUARANTEE = LEVELS - 1;

/** What a rule says of its class, with what it is if the rule says nothing. */
export const RULE_FIELDS = {
  priority: { from: 0, to: MAX_PRIORITY, fallback: 0 },
  delay_us: { from: 0, to: 1_000_000, fallback: 10 },
  max_cores: { from: 1, to: MAX_CORES, fallback: MAX_CORES },
  cores: { from: 1, to: MAX_CORES, fallback: MAX_CORES },
} as const;
export type RuleField = keyof typeof RULE_FIELDS;
export const ruleFields = Object.keys(RULE_FIELDS) as RuleField[];

/** The parameter that carries a field of class number `group`. */
export const paramOf = (group: number, field: RuleField): string => `class${group}_${field}`;

const KEY = new RegExp(`^class(\\d+)_(${ruleFields.join('|')})$`);
const timing = { tenure_us: 25, quantum_us: 2000 };

const params = z
  .record(z.string(), z.number().min(0).max(1_000_000))
  .transform((given) => ({ ...timing, ...given }))
  .superRefine((given, context) => {
    for (const key of Object.keys(given)) {
      const group = Number(KEY.exec(key)?.[1] ?? (key in timing ? 0 : MAX_GROUPS));
      if (group >= MAX_GROUPS)
        context.addIssue({
          code: 'custom',
          message: `there is no parameter ${key}; classes come from a file: rules=FILE`,
        });
    }
  });

const T_TENURE = 0;
const T_QUANTUM = 1;

function bind(view: Figures, out: Wishes): Hot<Record<string, number>> {
  const { head, vmMin, vmMax, vmWants, vmDelay, vmAway, vmFlags, vmGroup, vmPlan } = view;
  const { coreVm, coreFlags, coreAge } = view;
  const { target, heir } = out;
  const claims = makeClaims(view, out);
  const { have } = claims;
  const equal = makeEquals(view, have);
  const times = smallArray(2);
  const priority = smallArray(MAX_GROUPS);
  const threshold = smallArray(MAX_GROUPS);
  const each = smallArray(MAX_GROUPS);
  const together = smallArray(MAX_GROUPS);
  /** Cores that the class has; what this turn takes from it counts from the next one on. */
  const total = smallArray(MAX_GROUPS);

  /** Heirs are within the limits of their class, too. */
  function limitHeirs(): void {
    const cores = head[HEAD_CORES];
    for (let k = 0; k < cores; k++) {
      const vm = heir[k];
      if (vm === NO_VM) continue;
      const group = vmGroup[vm];
      const owner = target[k];
      const stays = owner !== NO_VM && vmGroup[owner] === group;
      if (have[vm] >= each[group] || (!stays && total[group] >= together[group])) heir[k] = NO_VM;
      else if (!stays) total[group]++;
    }
  }

  function planned(vm: number, cores: number): boolean {
    return vmPlan[vm] !== NO_PLAN && cores < vmPlan[vm];
  }

  const rules: Rules = {
    level(vm, cores): number {
      const group = vmGroup[vm];
      if (vmWants[vm] <= cores || cores >= vmMax[vm]) return 0;
      if (cores < vmMin[vm]) return GUARANTEE;
      if (cores >= each[group] || total[group] >= together[group]) return 0;
      if (vmPlan[vm] !== NO_PLAN && cores !== 0 && cores >= vmPlan[vm]) return 0;
      if (cores !== 0 && !planned(vm, cores) && vmDelay[vm] < threshold[group]) return 0;
      return 1 + priority[group];
    },
    /** Whoever has nothing, before whoever waits; both fit into the positive half of a word. */
    urgency: (vm) => (have[vm] === 0 ? (1 << 29) + (vmAway[vm] >> 2) : vmDelay[vm] >> 2),
    readiness(k, victim, vm, level): number {
      const rank = priority[vmGroup[vm]] - priority[vmGroup[victim]];
      const burst = have[victim] - vmMin[victim];
      if (level === GUARANTEE) return (rank > 0 ? 1 << 16 : 0) + burst;
      if (rank < 0 || burst <= 0) return -1;
      if ((coreFlags[k] & CORE_IDLE) !== 0 && vmWants[victim] < have[victim]) return 1 << 20;
      if (coreAge[k] < times[T_TENURE]) return -1;
      if (rank > 0) return (rank << 16) + burst;
      return equal(k, victim, vm, times[T_QUANTUM]);
    },
    reason(vm, level, taken): number {
      total[vmGroup[vm]]++;
      if (level === GUARANTEE) return WHY_GUARANTEE;
      if ((vmFlags[vm] & VM_BOOTING) !== 0) return WHY_BOOT;
      if (have[vm] === 0) return WHY_STARVED;
      if (planned(vm, have[vm])) return WHY_PLAN;
      if (!taken) return WHY_IDLE_CORE;
      return level > 1 ? WHY_PRIORITY : vmDelay[vm] > 0 ? WHY_DELAY : WHY_SHARE;
    },
  };

  return {
    decide(): void {
      const cores = head[HEAD_CORES];
      total.fill(0);
      for (let k = 0; k < cores; k++) if (coreVm[k] !== NO_VM) total[vmGroup[coreVm[k]]]++;
      claims.begin();
      claims.serve(rules);
      limitHeirs();
    },
    configure(given, stampsPerUs): void {
      const of = (group: number, field: RuleField): number =>
        given[paramOf(group, field)] ?? RULE_FIELDS[field].fallback;
      for (let group = 0; group < MAX_GROUPS; group++) {
        priority[group] = of(group, 'priority');
        threshold[group] = of(group, 'delay_us') * stampsPerUs;
        each[group] = of(group, 'max_cores');
        together[group] = of(group, 'cores');
      }
      times[T_TENURE] = given.tenure_us * stampsPerUs;
      times[T_QUANTUM] = given.quantum_us * stampsPerUs;
    },
  };
}

/** The cores of each class with a limit, among those of its VMs that want some, by weight. */
function plan({ vms }: World, given: Record<string, number>): Target[] {
  const targets: Target[] = [];
  for (let group = 0; group < MAX_GROUPS; group++) {
    const limit = given[paramOf(group, 'cores')];
    if (limit === undefined) continue;
    const among = vms.filter((vm) => vm.group === group && vm.wants > 0);
    const part = new Map(among.map((vm) => [vm.vm, Math.min(vm.min, vm.wants)]));
    let left = limit - [...part.values()].reduce((sum, cores) => sum + cores, 0);
    for (; left > 0; left--) {
      const open = among.filter((vm) => part.get(vm.vm)! < Math.min(vm.wants, vm.max));
      if (open.length === 0) break;
      const rank = (vm: (typeof open)[number]): number => part.get(vm.vm)! / vm.weight;
      const next = open.reduce((a, b) => (rank(b) < rank(a) ? b : a));
      part.set(next.vm, part.get(next.vm)! + 1);
    }
    for (const vm of among)
      targets.push({
        vm: vm.vm,
        cores: part.get(vm.vm)!,
        reason: `its part of the ${limit} cores of class ${group}`,
      });
  }
  return targets;
}

export const classes = definePolicy({
  api: POLICY_API,
  name: 'classes',
  version: '1.0.0',
  summary: 'rules in a TOML file: classes of VMs, their priorities and limits',
  params,
  bind,
  plan,
});

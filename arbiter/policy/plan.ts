/**
 * The slow hook: a policy that needs more thought than a turn allows plans outside
 * the loop, with plain objects, as often as it is called. A plan is declarative: so
 * many cores for this VM, for this reason. It becomes two words per VM that the hot
 * hook reads (view.vmPlan, view.vmPlanWhy) and honours as it sees fit; nothing waits
 * for it, and without one the hot hook goes on alone.
 */
import type { Figures } from './api.ts';
import { CLASS_LC, HEAD_CORES, HEAD_NOW, MAX_VMS, NO_PLAN } from './api.ts';

/** A VM as the slow hook sees it. Times are in microseconds. */
export interface PlannedVm {
  readonly vm: string;
  readonly slot: number;
  readonly class: 'lc' | 'be';
  readonly group: number;
  readonly weight: number;
  readonly min: number;
  readonly max: number;
  readonly sloUs: number;
  /** Announced cores, as long as the announcement holds. */
  readonly hint: number;
  readonly cores: number;
  readonly wants: number;
  readonly delayUs: number;
}

export interface World {
  /** How many cores are managed. */
  readonly cores: number;
  readonly vms: readonly PlannedVm[];
}

/** So many cores for this VM. A VM that no target names has no plan. */
export interface Target {
  readonly vm: string;
  readonly cores: number;
  readonly reason: string;
}

/** Pure: the same world and parameters, the same targets. */
export type Plan = (world: World, params: Record<string, number>) => readonly Target[];

/** The world at this moment. `nameOf`: the VM in a slot. */
export function worldOf(view: Figures, nameOf: (slot: number) => string, stampsPerUs: number): World {
  const vms: PlannedVm[] = [];
  const us = (stamps: number): number => Math.round(stamps / stampsPerUs);
  for (let slot = 0; slot < MAX_VMS; slot++) {
    if (view.vmMax[slot] === 0) continue;
    const announced = ((view.vmHintUntil[slot] - view.head[HEAD_NOW]) | 0) > 0;
    vms.push({
      ...{ vm: nameOf(slot), slot, class: view.vmClass[slot] === CLASS_LC ? 'lc' : 'be' },
      ...{ group: view.vmGroup[slot], weight: view.vmWeight[slot] },
      ...{ min: view.vmMin[slot], max: view.vmMax[slot], sloUs: us(view.vmSlo[slot]) },
      ...{ hint: announced ? view.vmHint[slot] : 0, cores: view.vmCores[slot] },
      ...{ wants: view.vmWants[slot], delayUs: us(view.vmDelay[slot]) },
    });
  }
  return { cores: view.head[HEAD_CORES], vms };
}

export interface Adopted {
  /** The reasons by their numbers in vmPlanWhy; number 0 is no reason. */
  reasons: string[];
  /** Targets that were left out, and why. */
  problems: string[];
}

/** Writes a plan where the hot hook reads it. What is wrong with one target does not spoil the others. */
export function adoptPlan(
  { vms }: World,
  targets: readonly Target[],
  { vmPlan, vmPlanWhy }: { vmPlan: Int32Array; vmPlanWhy: Int32Array },
): Adopted {
  const byName = new Map(vms.map((vm) => [vm.vm, vm]));
  const planned = new Map<number, number>();
  const reasons = [''];
  const problems: string[] = [];
  targets.forEach(({ vm: name, cores, reason }, i) => {
    const where = `target ${i + 1}, ${name}`;
    const vm = byName.get(name);
    if (vm === undefined) problems.push(`${where}: there is no such VM`);
    else if (!Number.isInteger(cores) || cores < 0) problems.push(`${where}: ${cores} is no number of cores`);
    else if (planned.has(vm.slot)) problems.push(`${where}: an earlier target names it`);
    else {
      if (cores > vm.max)
        problems.push(`${where}: ${cores} cores are more than its ${vm.max}, which it gets`);
      let number = reasons.indexOf(reason);
      if (number < 0) number = reasons.push(reason) - 1;
      planned.set(vm.slot, Math.min(cores, vm.max));
      // Before the number of cores: whoever sees that sees why.
      vmPlanWhy[vm.slot] = number;
    }
  });
  for (let slot = 0; slot < vmPlan.length; slot++) vmPlan[slot] = planned.get(slot) ?? NO_PLAN;
  return { reasons, problems };
}

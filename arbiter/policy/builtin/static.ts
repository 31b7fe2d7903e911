/**
 * The built-in policy `static`: a fixed partition, what most platforms do today and
 * what the others are compared with.
 *
 * Every VM has its guaranteed cores for itself; of what is left, whoever has none gets
 * one, and the rest is dealt out by weight, up to each VM's maximum. Cores are dealt anew when a VM comes
 * or goes or is configured, and then change hands as seldom as possible. They never
 * follow the load: what its VM does not use stays idle. A VM whose part is nothing,
 * because there are more VMs than cores, does not run.
 */
import type { Figures, Wishes } from '../api.ts';
import {
  CORE_MOVING,
  HEAD_CHANGES,
  HEAD_CORES,
  MAX_CORES,
  MAX_VMS,
  NO_VM,
  POLICY_API,
  smallArray,
} from '../api.ts';
import { definePolicy } from '../define.ts';
import { WHY_PARTITION } from '../reasons.ts';

function bind(view: Figures, out: Wishes): () => void {
  const { head, vmMin, vmMax, vmWeight, vmWants, coreVm, coreFlags } = view;
  const { target, why } = out;
  /** Whose core it is. */
  const home = new Int32Array(MAX_CORES).fill(NO_VM);
  /** Cores of the VM's part that have not been placed yet. */
  const open = new Int32Array(MAX_VMS);
  const part = new Int32Array(MAX_VMS);
  /** Cores that a VM has at home, in this turn. */
  const settled = new Int32Array(MAX_VMS);
  const present = new Int32Array(MAX_VMS);
  const seen = smallArray(2);
  const CHANGES = 0;
  const DEALT = 1;

  function findPresent(): number {
    let count = 0;
    for (let vm = 0; vm < MAX_VMS; vm++) {
      part[vm] = 0;
      if (vmMax[vm] > 0) present[count++] = vm;
    }
    return count;
  }

  /** Who gets the next core: the highest averages method, as for seats in a parliament. NO_VM: all have their maximum. */
  function next(count: number): number {
    let found = NO_VM;
    for (let i = 0; i < count; i++) {
      const vm = present[i];
      if (part[vm] >= vmMax[vm]) continue;
      // Whoever has none goes first, in the order of the slots.
      if (part[vm] === 0) return vm;
      if (found === NO_VM || (part[vm] + 1) * vmWeight[found] < (part[found] + 1) * vmWeight[vm]) found = vm;
    }
    return found;
  }

  function dealOut(cores: number, count: number): void {
    let left = cores;
    for (let i = 0; i < count && left > 0; i++) {
      const vm = present[i];
      part[vm] = vmMin[vm] < left ? vmMin[vm] : left;
      left -= part[vm];
    }
    for (; left > 0; left--) {
      const vm = next(count);
      if (vm === NO_VM) break;
      part[vm]++;
    }
    for (let i = 0; i < count; i++) open[present[i]] = part[present[i]];
  }

  /** Takes core k for the VM if its part has room. */
  function settle(k: number, vm: number): boolean {
    if (vm === NO_VM || open[vm] === 0) return false;
    open[vm]--;
    home[k] = vm;
    return true;
  }

  /** Whoever has a core keeps it, else whoever had it before the dealing; then the rest. */
  function place(cores: number, count: number): void {
    for (let k = 0; k < cores; k++) {
      const before = home[k];
      home[k] = NO_VM;
      if (!settle(k, coreVm[k])) settle(k, before);
    }
    let i = 0;
    for (let k = 0; k < cores; k++) {
      if (home[k] !== NO_VM) continue;
      while (i < count && open[present[i]] === 0) i++;
      if (i === count) break;
      settle(k, present[i]);
    }
  }

  function deal(): void {
    if (seen[DEALT] !== 0 && seen[CHANGES] === head[HEAD_CHANGES]) return;
    seen[CHANGES] = head[HEAD_CHANGES];
    seen[DEALT] = 1;
    const cores = head[HEAD_CORES];
    const count = findPresent();
    // A slot that is empty now is nobody's home.
    open.fill(0);
    dealOut(cores, count);
    place(cores, count);
  }

  return function decide(): void {
    deal();
    const cores = head[HEAD_CORES];
    for (let k = 0; k < cores; k++) if (home[k] !== NO_VM) settled[home[k]] = 0;
    for (let k = 0; k < cores; k++) if (home[k] !== NO_VM && coreVm[k] === home[k]) settled[home[k]]++;
    for (let k = 0; k < cores; k++) {
      const vm = home[k];
      if (coreVm[k] === vm || (coreFlags[k] & CORE_MOVING) !== 0) continue;
      const wanted = vm !== NO_VM && vmWants[vm] > settled[vm];
      // A stranger leaves, whether somebody comes or not.
      if (wanted) settled[vm]++;
      target[k] = wanted ? vm : NO_VM;
      if (target[k] !== coreVm[k]) why[k] = WHY_PARTITION;
    }
  };
}

export const fixed = definePolicy({
  api: POLICY_API,
  name: 'static',
  version: '1.0.0',
  summary: 'a fixed partition: guaranteed cores, and the rest dealt out by weight once',
  bind,
});

import { describe, expect, test } from 'vitest';
import type { GuardState } from '../../arbiter/guard/guard.ts';
import { makeGuard, plainGuardState } from '../../arbiter/guard/guard.ts';
import type { View } from '../../arbiter/policy/api.ts';
import { CORE_MOVING, HEAD_CORES, MAX_VMS, NO_VM, plainView } from '../../arbiter/policy/api.ts';
import {
  WHY_KEEPS_GUARANTEE,
  WHY_MAX_CORES,
  WHY_OVER_MAX,
  WHY_UNKNOWN_VM,
} from '../../arbiter/policy/reasons.ts';

function setUp(vms: { min?: number; limit?: number; wants?: number }[], owners: number[]) {
  const view: View = plainView();
  const state: GuardState = plainGuardState();
  view.head[HEAD_CORES] = owners.length;
  vms.forEach((vm, slot) => {
    state.known[slot] = 1;
    state.limit[slot] = vm.limit ?? owners.length;
    view.vmMin[slot] = vm.min ?? 0;
    view.vmWants[slot] = vm.wants ?? owners.length;
  });
  owners.forEach((vm, k) => {
    view.coreVm[k] = vm;
    view.target[k] = vm;
    if (vm !== NO_VM) view.vmCores[vm]++;
  });
  const guard = makeGuard(view, state);
  const allowed = () => [...state.allowed.subarray(0, owners.length)];
  const edits = () => [...state.edits.subarray(0, owners.length)];
  return { view, state, guard, allowed, edits };
}

describe('guard', () => {
  test('lets through what breaks no limit', () => {
    const { view, guard, allowed } = setUp([{}, {}], [0, NO_VM]);
    view.target.set([1, 0]);
    expect(guard()).toBe(0);
    expect(allowed()).toEqual([1, 0]);
  });

  test.each([-2, -1000, MAX_VMS, 0x7fffffff, 5])('a VM that is not managed (%i) gets nothing', (nonsense) => {
    const { view, guard, allowed, edits } = setUp([{}], [0, NO_VM]);
    view.target.set([nonsense, nonsense]);
    expect(guard()).toBe(2);
    expect(allowed()).toEqual([0, NO_VM]);
    expect(edits()).toEqual([WHY_UNKNOWN_VM, WHY_UNKNOWN_VM]);
  });

  test('a VM gets no more than its maximum', () => {
    const { view, guard, allowed, edits } = setUp([{ limit: 1 }, {}], [1, NO_VM, NO_VM]);
    view.target.set([0, 0, NO_VM]);
    guard();
    expect(allowed().filter((vm) => vm === 0)).toHaveLength(1);
    expect(edits()).toContain(WHY_MAX_CORES);
  });

  test('a VM that uses its guaranteed cores keeps them', () => {
    const { view, guard, allowed, edits } = setUp([{ min: 1, wants: 1 }, {}], [0]);
    view.target[0] = 1;
    guard();
    expect(allowed()).toEqual([0]);
    expect(edits()).toEqual([WHY_KEEPS_GUARANTEE]);
  });

  test('one that does not use them does not', () => {
    const { view, guard, allowed } = setUp([{ min: 1, wants: 0 }, {}], [0]);
    view.target[0] = 1;
    guard();
    expect(allowed()).toEqual([1]);
  });

  test('taking a wish back does not break another limit', () => {
    // VM 0 may hold one; the policy wants to swap cores 0 and 1 between them and give VM 0 a second.
    const { view, guard, allowed } = setUp([{ limit: 1 }, { min: 1, wants: 1 }], [0, 1, NO_VM]);
    view.target.set([1, 0, 0]);
    guard();
    expect(allowed().filter((vm) => vm === 0).length).toBeLessThanOrEqual(1);
    expect(allowed()).toContain(1);
  });

  test('a VM that came to hold too much gives cores up', () => {
    const { guard, allowed, edits } = setUp([{ limit: 1 }], [0, 0]);
    guard();
    expect(allowed().filter((vm) => vm === 0)).toHaveLength(1);
    expect(edits()).toContain(WHY_OVER_MAX);
  });

  test('a core on the move is not its business', () => {
    const { view, guard, allowed } = setUp([{}, {}], [0]);
    view.coreFlags[0] = CORE_MOVING;
    view.target[0] = 1;
    expect(guard()).toBe(0);
    expect(allowed()).toEqual([0]);
  });

  test('heirs: unknown VMs and full ones are struck out', () => {
    const { view, guard } = setUp([{ limit: 1 }, {}], [0, 1, 1]);
    view.heir.set([1, 0, 77]);
    guard();
    expect([...view.heir.subarray(0, 3)]).toEqual([1, NO_VM, NO_VM]);
  });

  test('heirs: a full VM may inherit its own core', () => {
    const { view, guard } = setUp([{ limit: 1 }], [0]);
    view.heir[0] = 0;
    guard();
    expect(view.heir[0]).toBe(0);
  });
});

/** Small deterministic generator: a failing round can be repeated by its number. */
function random(seed: number): (below: number) => number {
  let state = seed * 2654435761 + 1;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

test('guard: over random worlds and wild policies every limit holds', () => {
  for (let round = 0; round < 3000; round++) {
    const pick = random(round);
    const cores = 1 + pick(8);
    const vms = Array.from({ length: 1 + pick(5) }, () => {
      const limit = 1 + pick(cores);
      return { limit, min: pick(limit + 1), wants: pick(limit + 1) };
    });
    // A world that keeps the limits to begin with.
    const held = vms.map(() => 0);
    const owners = Array.from({ length: cores }, () => {
      const vm = pick(vms.length + 1) - 1;
      if (vm < 0 || held[vm] >= vms[vm].limit) return NO_VM;
      held[vm]++;
      return vm;
    });
    const { view, guard, allowed, state } = setUp(vms, owners);
    for (let k = 0; k < cores; k++) {
      view.target[k] = pick(4) === 0 ? pick(3000) - 1000 : pick(vms.length + 1) - 1;
      view.heir[k] = pick(vms.length + 3) - 1;
      view.coreFlags[k] = pick(5) === 0 ? CORE_MOVING : 0;
    }
    guard();
    const after = allowed();
    const count = (vm: number) => after.filter((other) => other === vm).length;
    vms.forEach((vm, slot) => {
      expect(count(slot), `round ${round}: VM ${slot} over its maximum`).toBeLessThanOrEqual(vm.limit);
      const uses = Math.min(vm.min, vm.wants, held[slot]);
      expect(count(slot), `round ${round}: VM ${slot} below its guarantee`).toBeGreaterThanOrEqual(uses);
    });
    for (let k = 0; k < cores; k++) {
      expect(after[k] === NO_VM || state.known[after[k]] === 1, `round ${round}: core ${k}`).toBe(true);
      if (view.coreFlags[k] !== 0) expect(after[k]).toBe(owners[k]);
      const heir = view.heir[k];
      expect(heir === NO_VM || state.known[heir] === 1, `round ${round}: heir of ${k}`).toBe(true);
    }
  }
});

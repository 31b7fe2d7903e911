/** How often the guard lets cores be taken, and that they do not go back at once. */
import { describe, expect, test } from 'vitest';
import { makeGuard, plainGuardState } from '../../arbiter/guard/guard.ts';
import type { PaceLimits } from '../../arbiter/guard/pace.ts';
import { configurePace, NO_PACE } from '../../arbiter/guard/pace.ts';
import { HEAD_CORES, HEAD_NOW, NO_VM, plainView } from '../../arbiter/policy/api.ts';
import { WHY_RATE, WHY_SETTLING } from '../../arbiter/policy/reasons.ts';

/** One stamp is a microsecond. Everybody may have everything and wants it. */
function setUp(owners: number[], limits: Partial<PaceLimits>, now = 0) {
  const view = plainView();
  const state = plainGuardState();
  view.head[HEAD_CORES] = owners.length;
  view.head[HEAD_NOW] = now;
  state.known.fill(1, 0, 8);
  state.limit.fill(owners.length, 0, 8);
  view.vmWants.fill(owners.length, 0, 8);
  view.coreVm.set(owners);
  for (const vm of owners) if (vm !== NO_VM) view.vmCores[vm]++;
  configurePace(state.pace, { ...NO_PACE, ...limits }, 1);
  const guard = makeGuard(view, state);
  return {
    view,
    state,
    /** The policy wishes this, `us` later; what was allowed happens at once. Returns what became of core k. */
    wish(k: number, vm: number, us = 0, happens = true): { to: number; edit: number } {
      view.head[HEAD_NOW] = (view.head[HEAD_NOW] + us) | 0;
      for (let i = 0; i < owners.length; i++) view.coreAge[i] += us;
      view.target.set(view.coreVm.subarray(0, owners.length));
      view.target[k] = vm;
      guard();
      const to = state.allowed[k];
      if (happens && to !== view.coreVm[k]) {
        view.coreLast[k] = view.coreVm[k];
        view.coreVm[k] = to;
        view.coreAge[k] = 0;
      }
      return { to, edit: state.edits[k] };
    },
  };
}

describe('off', () => {
  test('unless it is asked for', () => {
    const { wish } = setUp([0], {});
    for (let i = 1; i < 1000; i++) expect(wish(0, i % 2).to).toBe(i % 2);
  });
});

describe('rates', () => {
  // A tenth of a second's takings may come at once.
  test.each(['moves_per_s', 'vm_moves_per_s'] as const)('%s', (name) => {
    const { wish } = setUp([0], { [name]: 20 });
    // Between two VMs each loses every other time.
    const each = name === 'moves_per_s' ? 1 : 2;
    let allowed = 0;
    for (let i = 0; i < 20; i++) if (wish(0, (allowed + 1) % 2).edit === 0) allowed++;
    expect(allowed).toBe(3 * each);
    expect(wish(0, (allowed + 1) % 2)).toEqual({ to: allowed % 2, edit: WHY_RATE });
    // 50 ms are one more for each bucket.
    expect(wish(0, (allowed + 1) % 2, 50_001).edit).toBe(0);
  });

  test('granting idle cores does not count', () => {
    const { view, wish } = setUp([NO_VM], { moves_per_s: 1 });
    for (let i = 0; i < 50; i++) {
      expect(wish(0, i % 3).edit).toBe(0);
      view.coreVm[0] = NO_VM;
    }
  });

  test('what was allowed and did not happen is given back', () => {
    const { wish } = setUp([0], { moves_per_s: 10 });
    for (let i = 0; i < 50; i++) expect(wish(0, 1, 1, false).edit).toBe(0);
    expect(wish(0, 1, 1).edit).toBe(0);
    expect(wish(0, 0, 1).edit).toBe(0);
    expect(wish(0, 1, 1).edit).toBe(WHY_RATE);
  });

  test('what another limit took back is not charged', () => {
    const { state, wish } = setUp([0, 1], { moves_per_s: 10 });
    state.limit[1] = 1;
    for (let i = 0; i < 50; i++) expect(wish(0, 1).to).toBe(0);
    expect(wish(0, 2).edit).toBe(0);
  });

  test('a guarantee is not held up', () => {
    const { view, wish } = setUp([0], { moves_per_s: 1 });
    let vm = 0;
    for (let i = 0; i < 9; i++) if (wish(0, 1 - vm).edit === 0) vm = 1 - vm;
    expect(wish(0, 2).edit).toBe(WHY_RATE);
    view.vmMin[2] = 1;
    expect(wish(0, 2).edit).toBe(0);
  });

  test('the wrap of stamps fills no bucket', () => {
    const { wish } = setUp([0], { vm_moves_per_s: 5, moves_per_s: 5 }, 0x7fffff00);
    expect(wish(0, 1).edit).toBe(0);
    expect(wish(0, 0, 0x7fffffff).edit).toBe(0);
    expect(wish(0, 1, 200_001).edit).toBe(0);
  });
});

describe('a core that has only just come from there', () => {
  test('does not go back, but elsewhere', () => {
    const { wish } = setUp([0], { back_us: 100 });
    expect(wish(0, 1).edit).toBe(0);
    expect(wish(0, 0, 99)).toEqual({ to: 1, edit: WHY_SETTLING });
    expect(wish(0, 2).to).toBe(2);
    expect(wish(0, 1, 100).to).toBe(1);
  });

  test('unless a guarantee needs it', () => {
    const { view, wish } = setUp([0], { back_us: 100 });
    wish(0, 1);
    view.vmMin[0] = 1;
    view.vmCores[0] = 0;
    expect(wish(0, 0, 1).to).toBe(0);
  });
});

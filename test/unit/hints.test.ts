/** What policies go by: from the words of the table to the view, and announced need from its beginning to its end. */
import { describe, expect, test } from 'vitest';
import {
  MAX_VMS,
  TABLE_BYTES,
  W_VM_CONFIGURED,
  W_VM_GROUP,
  W_VM_SLO_US,
  W_VM_WEIGHT,
} from '../../arbiter/abi/layout.gen.ts';
import { vmBase } from '../../arbiter/bridge/words.ts';
import { closeFd, createTable, mapShared } from '../../native/index.ts';
import { N_HINTS } from '../../arbiter/loop/state.ts';
import { configureVm, detachVm } from '../../arbiter/loop/vms.ts';
import { AGE_MAX, DEFAULT_WEIGHT, HEAD_CHANGES, MAX_GROUPS, NO_PLAN } from '../../arbiter/policy/api.ts';
import { proactive } from '../../arbiter/policy/builtin/proactive.ts';
import { readSection, reconfigure, takeSlot } from '../../arbiter/vm/section.ts';
import { STAMPS_PER_US, World } from './world.ts';

describe('the view', () => {
  test('has what the table says, clamped, and defaults where it says nothing', () => {
    const w = new World();
    const { view } = w.state;
    w.vm(0);
    expect([view.vmWeight[0], view.vmSlo[0], view.vmGroup[0], view.vmPlan[0]]).toEqual([
      DEFAULT_WEIGHT,
      0,
      0,
      NO_PLAN,
    ]);
    w.vm(1, { weight: 300, sloUs: 40, group: 3 });
    expect([view.vmWeight[1], view.vmSlo[1], view.vmGroup[1]]).toEqual([300, 40 * STAMPS_PER_US, 3]);
    const at = vmBase(1);
    w.table[at + W_VM_WEIGHT] = -1;
    w.table[at + W_VM_SLO_US] = -1;
    w.table[at + W_VM_GROUP] = -1;
    configureVm(w.mem, w.state, 1);
    expect([view.vmWeight[1], view.vmSlo[1], view.vmGroup[1]]).toEqual([10_000, AGE_MAX, MAX_GROUPS - 1]);
  });

  test('tells that somebody came or went, and a slot that is empty has no maximum', () => {
    const w = new World();
    const { view } = w.state;
    const seen = [view.head[HEAD_CHANGES]];
    w.vm(4);
    seen.push(view.head[HEAD_CHANGES]);
    detachVm(w.mem, w.state, 4);
    seen.push(view.head[HEAD_CHANGES]);
    expect(new Set(seen).size).toBe(3);
    expect(view.vmMax[4]).toBe(0);
  });
});

describe('announced need', () => {
  test('is there until it is over, and then the policy is asked', () => {
    const w = new World([1, 2], proactive);
    const { view } = w.state;
    w.vm(0);
    w.run(10);
    w.hint(0, 9, 50);
    expect(view.vmHint[0]).toBe(2);
    w.run(3);
    expect(w.held(0)).toBe(2);
    const decisions = w.counter('decisions');
    w.run(45);
    expect(view.vmHint[0]).toBe(2);
    w.run(5);
    expect([view.vmHint[0], w.state.n[N_HINTS]]).toEqual([0, 0]);
    expect(w.counter('decisions')).toBeGreaterThan(decisions);
  });

  test('that is over already is none, however often the VM is configured', () => {
    const w = new World();
    w.vm(0);
    w.hint(0, 1, 20);
    w.run(30);
    // Long enough for stamps to wrap: what is over does not come back.
    w.time += 200e9;
    configureVm(w.mem, w.state, 0);
    expect([w.state.view.vmHint[0], w.state.n[N_HINTS]]).toEqual([0, 0]);
  });

  test('goes with its VM, and is counted once', () => {
    const w = new World();
    w.vm(0);
    w.vm(1);
    for (let i = 0; i < 3; i++) w.hint(0, 1, 1000);
    w.hint(1, 1, 1000);
    expect(w.state.n[N_HINTS]).toBe(2);
    w.hint(1, 0, 1000);
    detachVm(w.mem, w.state, 0);
    expect(w.state.n[N_HINTS]).toBe(0);
  });
});

describe('the table', () => {
  const table = (): Int32Array => {
    const fd = createTable('hyperflux-test');
    const buffer = mapShared(fd, TABLE_BYTES);
    closeFd(fd);
    return new Int32Array(buffer);
  };
  const vm = { name: 'web', vcpus: 2, latencyCritical: true, minCores: 0, maxCores: 2 };

  test('a new VM begins without what the last one in its slot had', () => {
    const t = table();
    const slot = takeSlot(t, { ...vm, weight: 7, sloUs: 8, group: 9 });
    expect(readSection(t, slot)).toMatchObject({ weight: 7, sloUs: 8, group: 9 });
    t[vmBase(slot)] = 0;
    expect(takeSlot(t, vm)).toBe(slot);
    expect(readSection(t, slot)).toMatchObject({ weight: 0, sloUs: 0, group: 0 });
  });

  test('a change is told by its count', () => {
    const t = table();
    const slot = takeSlot(t, vm);
    const before = t[vmBase(slot) + W_VM_CONFIGURED];
    reconfigure(t, slot, { group: 2 });
    expect(readSection(t, slot)).toMatchObject({ group: 2, configured: before + 1 });
    expect(slot).toBeLessThan(MAX_VMS);
  });
});

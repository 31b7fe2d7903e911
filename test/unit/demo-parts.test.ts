/** The demo's small parts: which cores, which backend, how busy the machine is, what a VM's words say. */
import { describe, expect, test } from 'vitest';
import {
  CONTROL_BYTES,
  SUMMARY_BOOTED,
  TABLE_BYTES,
  VM_LIVE,
  VM_POISONED,
  W_GUEST_VCPU_DONE_HI,
  W_GUEST_VCPU_DONE_LO,
  W_SUMMARY_FLAGS,
  W_SUMMARY_INTEGRITY_ERRORS,
  W_VCPU_GRANTS,
  W_VM_FORCED,
  W_VM_STATE,
} from '../../arbiter/abi/layout.gen.ts';
import { vmBase } from '../../arbiter/bridge/words.ts';
import { cpuTicks, foreignShare, parseStat, processTicks, selfShare } from '../../bench/demo/busy.ts';
import { demo, demoSchedule, divideCores, makePhases } from '../../bench/demo/demo.ts';
import { batch, chooseBackend, requestFor, serve } from '../../bench/demo/guests.ts';
import { vmFigures } from '../../bench/demo/watch.ts';
import { utilisation } from '../../bench/load/schedule.ts';

describe('cores', () => {
  test('are one for the arbiter and the rest to move', () => {
    expect(divideCores([2, 3])).toEqual({ arbiter: 2, movable: [3] });
    expect(divideCores([0, 1, 5])).toEqual({ arbiter: 0, movable: [1, 5] });
    expect(divideCores(Array.from({ length: 64 }, (_, i) => i)).movable).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  });

  test('must be two at least', () => {
    expect(() => divideCores([3])).toThrow('two cores are needed');
  });

  test('are the same in the phases that are compared', () => {
    const phases = makePhases({ arbiter: 0, movable: [1, 2] });
    expect(phases.map(({ id, cores, batch: both }) => [id, cores.join(), both])).toEqual([
      ['alone', '1,2', false],
      ['linux-movable', '1,2', true],
      ['linux-all', '0,1,2', true],
      ['hyperflux', '1,2', true],
    ]);
  });
});

test('the load needs most of the movable cores in a burst, and little in the long run', () => {
  for (const cores of [1, 4]) {
    const { burst, mean } = utilisation(demoSchedule(cores, 1, 1).spec);
    expect(burst / cores).toBeGreaterThan(0.5);
    expect(burst / cores).toBeLessThan(0.9);
    expect(mean / cores).toBeLessThan(0.3);
  }
});

describe('the backend', () => {
  test('is hosted where KVM cannot be used or is not wanted, and says why', () => {
    expect(chooseBackend(false, () => 'there is no /dev/kvm')).toMatchObject({
      hosted: true,
      mode: 'hosted',
    });
    expect(chooseBackend(false, () => 'there is no /dev/kvm').how).toContain('because there is no /dev/kvm');
    expect(chooseBackend(true, () => '').how).toContain('because that was asked for');
    expect(chooseBackend(false, () => '')).toMatchObject({ hosted: false, mode: 'unprivileged' });
  });

  test('goes into requests that the daemon accepts', () => {
    const hosted = chooseBackend(true);
    expect(requestFor(serve, 2, hosted)).toMatchObject({
      name: 'serve',
      class: 'lc',
      vcpus: 2,
      backend: 'hosted',
    });
    expect(requestFor(batch, 1, { ...hosted, hosted: false }, { unmanaged: true })).toMatchObject({
      workload: 'batch',
      class: 'be',
      backend: 'kvm',
      unmanaged: true,
    });
  });
});

test('the busy share is that of the cores that count', () => {
  const stat = (busy: number, idle: number): string =>
    `cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 ${busy} 0 0 ${idle} 0 0 0 0 0 0\ncpu1 50 0 0 50 0 0 0 0 0 0\nintr 5\n`;
  const [before, after] = [parseStat(stat(100, 100), [0]), parseStat(stat(130, 170), [0])];
  expect(before).toEqual({ busy: 100, all: 200 });
  const used = (own: number, self = 0): { own: number; self: number } => ({ own, self });
  expect(foreignShare({ ...before, ...used(5) }, { ...after, ...used(5) })).toBeCloseTo(0.3);
  expect(foreignShare({ ...before, ...used(5) }, { ...after, ...used(25) })).toBeCloseTo(0.1);
  expect(foreignShare({ ...before, ...used(5) }, { ...after, ...used(85) })).toBe(0);
  expect(foreignShare({ ...before, ...used(5) }, { ...before, ...used(5) })).toBe(0);
  expect(selfShare({ ...before, ...used(5, 5) }, { ...after, ...used(15, 15) }, 2)).toBeCloseTo(0.2);
  expect(selfShare({ ...before, ...used(5, 5) }, { ...before, ...used(5, 5) }, 2)).toBe(0);
  expect(parseStat(stat(1, 2), [0, 1])).toEqual({ busy: 51, all: 103 });
  // Waiting for a disk is not use.
  expect(processTicks(2 ** 22 + 1)).toBe(0);
  expect(cpuTicks([0], []).self).toBeGreaterThan(0);
  expect(parseStat('cpu0 1 0 0 2 7 0 0 0 0 0\n', [0])).toEqual({ busy: 1, all: 10 });
});

test("a VM's figures are read from its page and its section", () => {
  const table = new Int32Array(TABLE_BYTES / 4);
  const page = new Int32Array(CONTROL_BYTES / 4);
  const vm = vmFigures(table, page, 3, 2);
  expect(vm.trouble()).toBe('is gone');
  expect(vm.booted()).toBe(false);
  table[vmBase(3) + W_VM_STATE] = VM_LIVE;
  table[vmBase(3) + W_VM_FORCED] = 4;
  for (const [i, { host, guestHalf }] of vm.vcpus.entries()) {
    table[host + W_VCPU_GRANTS] = 10 + i;
    page[guestHalf + W_GUEST_VCPU_DONE_LO] = -1;
    page[guestHalf + W_GUEST_VCPU_DONE_HI] = i;
  }
  // The summary line of slot 3 is the fourth.
  page[3 * 16 + W_SUMMARY_FLAGS] = SUMMARY_BOOTED;
  page[3 * 16 + W_SUMMARY_INTEGRITY_ERRORS] = 2;
  expect(vm.trouble()).toBeUndefined();
  expect(vm.booted()).toBe(true);
  expect(vm.done()).toBe(2 * 0xffffffff + 0x100000000);
  expect([vm.grants(), vm.forced(), vm.forcedDescheduled(), vm.integrityErrors()]).toEqual([21, 4, 0, 2]);
  table[vmBase(3) + W_VM_STATE] = VM_POISONED;
  expect(vm.trouble()).toContain('unexpected exit');
});

test.each([{ seconds: 0 }, { seconds: Number.NaN }, { seed: 0.5 }])(
  'nonsense is refused: %o',
  async (options) => {
    expect(await demo(options)).toBe(1);
  },
);

/**
 * Time slices with everything real: two uThreads that never give way on a VM's only vCPU, the loop that sees
 * one of them wait, the kick, and the upcall in the guest. Each shows when it ran last.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  COMPLETIONS_OFFSET,
  HOT_BYTES,
  OFF_COMPLETION_DONE_LO,
  OFF_SUMMARY_INTEGRITY_ERRORS,
  SIZE_COMPLETION,
} from '../../arbiter/abi/layout.gen.ts';
import { summaryBase } from '../../arbiter/bridge/words.ts';
import { VmClient } from '../faults/vm-client.ts';
import { TestDaemon } from './daemon.ts';

const timeout = 600_000;

describe('time slices, end to end', { timeout }, () => {
  let d: TestDaemon;

  beforeAll(async () => {
    const { getAffinity } = await import('../../native/index.ts');
    const cores = getAffinity(0);
    d = new TestDaemon({ arbiter_core: cores[0], cores: [cores.at(-1)!], lease_ms: 20_000 });
    await d.start();
  }, timeout);
  afterAll(() => d.end(), timeout);

  /** A VM of two spinners: what tells when each ran last. */
  async function spinners(name: string, fields: object) {
    await d.run(name, { workload: 'probe', args: ['mode=spin', 'uthreads=2'], ...fields });
    const client = new VmClient(d.paths.vmSocket(name));
    const page = client.page();
    const ran = (which: number): number =>
      Atomics.load(page, (COMPLETIONS_OFFSET + which * SIZE_COMPLETION + OFF_COMPLETION_DONE_LO) / 4);
    await d.until('the first runs', () => ran(0) !== 0);
    const slot = (await d.vms())[name].slot;
    const errors = (): number =>
      Atomics.load(page, (summaryBase(slot) % (HOT_BYTES / 4)) + OFF_SUMMARY_INTEGRITY_ERRORS / 4);
    return { ran, errors, close: () => client.close() };
  }

  test('uThreads of a VM with a quantum take turns, and keep their registers', async () => {
    const vm = await spinners('sliced', { quantum_us: 500 });
    for (let turn = 0; turn < 20; turn++) {
      for (const which of [0, 1]) {
        const before = vm.ran(which);
        await d.until(`uThread ${which} runs`, () => vm.ran(which) !== before);
      }
    }
    const { sliced } = await d.vms();
    expect(sliced).toMatchObject({ quantum_us: 500, cores: 1, forced: 0 });
    expect(sliced.preempted).toBeGreaterThan(0);
    const { counters } = await d.ask<{ counters: Record<string, number> }>('stats');
    expect(counters.preempts).toBeGreaterThanOrEqual(sliced.preempted);
    expect(vm.errors()).toBe(0);
    vm.close();
    await d.ask('stop', { name: 'sliced' });
  });

  test('without a quantum the one that runs keeps the vCPU', async () => {
    const vm = await spinners('whole', { quantum_us: 0 });
    for (let turn = 0; turn < 50; turn++) {
      const before = vm.ran(0);
      await d.until('the first goes on', () => vm.ran(0) !== before);
    }
    expect(vm.ran(1)).toBe(0);
    expect((await d.vms()).whole).toMatchObject({ quantum_us: 0, preempted: 0 });
    vm.close();
    await d.ask('stop', { name: 'whole' });
  });

  test('a quantum that is none is refused', async () => {
    const asked = d.ask('run', { name: 'odd', workload: 'batch', quantum_us: 2_000_000 });
    await expect(asked).rejects.toThrow(/quantum_us/);
  });
});

/** `hyperflux start --idle adaptive` with a real daemon, arbiter and VMs: the loop rests, and is back when it is needed. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ControlClient } from '../../arbiter/control/client.ts';
import { runPaths } from '../../arbiter/control/paths.ts';
import type { StatusInfo, VmInfo } from '../../arbiter/control/protocol.ts';
import { cannot, until } from './host.ts';
import { Cli } from './run.ts';

const why = await cannot();

describe.skipIf(why !== '')(`an arbiter that rests${why === '' ? '' : `, not run: ${why}`}`, () => {
  let cli: Cli;
  async function ask<T>(op: 'stats' | 'status' | 'ps'): Promise<T> {
    const client = await ControlClient.connect(runPaths(cli.dir));
    try {
      return await client.ask<T>(op);
    } finally {
      client.close();
    }
  }
  const rests = async (): Promise<number> =>
    (await ask<{ counters: Record<string, number> }>('stats')).counters.rests;
  const vm = async (name: string): Promise<VmInfo | undefined> =>
    (await ask<{ vms: VmInfo[] }>('ps')).vms.find((vm) => vm.name === name);
  const restsOn = async (): Promise<boolean> => {
    const before = await rests();
    return until(async () => (await rests()) > before + 10);
  };

  beforeAll(async () => {
    cli = new Cli();
    const { code, err } = await cli.run('start', '--idle', 'adaptive', '--idle-max-us', '300');
    if (code !== 0) throw new Error(err);
  });
  afterAll(() => cli.end());

  test('rests while there is no VM, and says so', async () => {
    expect(await restsOn()).toBe(true);
    const { arbiter } = await ask<StatusInfo>('status');
    expect(arbiter.time?.resting).toBeGreaterThan(0);
    const { out } = await cli.run('status');
    expect(out).toMatch(/resting \d/);
  });

  test('boots a VM, rests again when it is dormant, and runs one that has work', async () => {
    expect((await cli.run('run', 'quiet', '--workload', 'serve')).code).toBe(0);
    expect(await until(async () => (await vm('quiet'))?.state === 'dormant')).toBe(true);
    expect(await restsOn()).toBe(true);
    expect((await cli.run('run', 'busy', '--workload', 'batch')).code).toBe(0);
    expect(await until(async () => ((await vm('busy'))?.used_us ?? 0) > 10_000)).toBe(true);
    expect((await vm('busy'))?.cores).toBe(1);
  });

  test('spins while a VM runs', async () => {
    const before = await rests();
    await sleep(100);
    expect(await rests()).toBe(before);
  });

  test('refuses a rest that is longer than the lease could bear', async () => {
    const { code, err } = await cli.run('start', '--idle', 'adaptive', '--idle-max-us', '1000000');
    expect(code).toBe(2);
    expect(err).toContain('--idle-max-us');
  });
});

/**
 * The command line with a real daemon and arbiter: commands that are refused, and
 * that nobody else notices. VMs run in KVM or hosted, whatever this host offers.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ControlClient } from '../../arbiter/control/client.ts';
import { runPaths } from '../../arbiter/control/paths.ts';
import type { VmInfo } from '../../arbiter/control/protocol.ts';
import { backend, cannot, until } from './host.ts';
import { Cli } from './run.ts';

const why = await cannot();

describe.skipIf(why !== '')(`the daemon (VMs: ${backend})${why === '' ? '' : `, not run: ${why}`}`, () => {
  let cli: Cli;
  /** Without a process of its own each time: the arbiter's core is busy. */
  const ps = async (): Promise<VmInfo[]> => {
    const client = await ControlClient.connect(runPaths(cli.dir));
    try {
      return (await client.ask<{ vms: VmInfo[] }>('ps')).vms;
    } finally {
      client.close();
    }
  };
  const names = async (): Promise<string[]> => (await ps()).map(({ name }) => name);

  beforeAll(async () => {
    cli = new Cli();
    const { code, err } = await cli.run('start');
    if (code !== 0) throw new Error(err);
    const started = await cli.run('run', 'witness', '--workload', 'batch');
    if (started.code !== 0) throw new Error(started.err);
  });
  afterAll(() => cli.end());

  test('status: everything runs', async () => {
    const status = await cli.json('status');
    expect(status).toMatchObject({
      schema: 1,
      bridge: 'affinity',
      arbiter: { state: 'live', restarts: 0 },
      vms: { managed: 1, all: 1 },
    });
    expect((await cli.run('status')).out).toContain('live');
  });

  test('a VM with work gets a core, and ps counts it', async () => {
    let vm = (await ps())[0];
    for (let tries = 0; tries < 1000 && vm.granted_us === 0; tries++) {
      await sleep(5);
      vm = (await ps())[0];
    }
    expect(vm).toMatchObject({ name: 'witness', class: 'be', managed: true, forced: 0, error: '' });
    expect(vm.granted_us).toBeGreaterThan(0);
    expect((await cli.run('ps')).out).toMatch(/^NAME .*GRANTED.*USED.*TAKEN[^\n]*\nwitness /);
  });

  test('decisions can be explained', async () => {
    const { decisions } = (await cli.json('explain')) as { decisions: { op: string; why: string }[] };
    expect(decisions.some(({ op }) => op === 'grant')).toBe(true);
    expect((await cli.run('explain', '--count', '5')).code).toBe(0);
  });

  test('a second daemon is refused, and the first goes on', async () => {
    const { code, error } = await cli.error('start');
    expect(code).toBe(1);
    expect(error).toMatchObject({ code: 'running' });
    expect(error.message).toContain('running already');
    expect(await names()).toEqual(['witness']);
  });

  test.each([
    ['name in use', ['run', 'witness', '--workload', 'batch'], 1, 'name-in-use', /already/],
    ['bad name', ['run', 'a/b', '--workload', 'batch'], 2, 'request', /name/],
    ['a name too long', ['run', 'x'.repeat(32), '--workload', 'batch'], 2, 'request', /name/],
    [
      'more cores than the pool',
      ['run', 'big', '--workload', 'batch', '--vcpus', '16', '--max-cores', '16'],
      1,
      'pool',
      /pool has/,
    ],
    [
      'more cores than vCPUs',
      ['run', 'big', '--workload', 'batch', '--vcpus', '1', '--max-cores', '2'],
      1,
      'pool',
      /2 cores with 1 vCPU/,
    ],
    [
      'more guaranteed than possible',
      ['run', 'big', '--workload', 'batch', '--min-cores', '2', '--max-cores', '1'],
      1,
      'pool',
      /guaranteed/,
    ],
    ['bad argument', ['run', 'big', '--workload', 'batch', '--arg', 'nothing'], 2, 'request', /key=value/],
    [
      'an image that is not there',
      ['run', 'big', '--workload', 'batch', '--image', '/nonexistent'],
      1,
      'image',
      /no such file/,
    ],
    [
      'an image that is a directory',
      ['run', 'big', '--workload', 'batch', '--image', '/tmp'],
      1,
      'image',
      /\/tmp/,
    ],
    ['no such VM', ['stop', 'nobody'], 1, 'not-found', /nobody/],
  ] as const)('%s: refused with a reason, running VMs untouched', async (_name, args, exit, code, says) => {
    if (code === 'image' && backend !== 'KVM') return;
    const before = (await ps())[0].pid;
    const result = await cli.error(...args);
    expect(result.code).toBe(exit);
    expect(result.error.code).toBe(code);
    expect(result.error.message).toMatch(says);
    expect((await ps()).map(({ name, pid }) => [name, pid])).toEqual([['witness', before]]);
  });

  test.skipIf(backend !== 'KVM')('an image that is not an ELF', async () => {
    const path = join(cli.dir, 'image');
    writeFileSync(path, '#!/bin/sh\necho no\n'.repeat(10));
    const { code, error } = await cli.error('run', 'odd', '--workload', 'batch', '--image', path);
    expect([code, error.code]).toEqual([1, 'image']);
    expect(error.message).toContain('not a 64-bit ELF file');
  });

  test.skipIf(backend !== 'KVM')(
    'an ELF that is no guest: the log says why, the name is free again',
    async () => {
      const { code, error } = await cli.error(
        'run',
        'odd',
        '--workload',
        'batch',
        '--image',
        process.execPath,
      );
      expect([code, error.code]).toEqual([1, 'start-failed']);
      expect(error.message).toContain('error odd');
      expect(error.hint).toContain('odd.log');
      expect(await names()).toEqual(['witness']);
      expect((await cli.run('run', 'odd', '--workload', 'batch')).code).toBe(0);
      expect((await cli.run('stop', 'odd')).code).toBe(0);
      expect(await names()).toEqual(['witness']);
    },
  );

  test('an unmanaged VM runs without the arbiter, and can be stopped', async () => {
    const { code, out } = await cli.run('run', 'plain', '--workload', 'batch', '--unmanaged');
    expect([code, out]).toEqual([0, expect.stringContaining('not managed') as string]);
    expect(await ps()).toContainEqual(
      expect.objectContaining({ name: 'plain', managed: false, state: 'unmanaged' }),
    );
    expect((await cli.error('run', 'plain', '--workload', 'batch')).error.code).toBe('name-in-use');
    expect((await cli.run('stop', 'plain')).code).toBe(0);
    expect(await names()).toEqual(['witness']);
  });

  test('rubbish on the control socket does not disturb anybody', async () => {
    await new Promise<void>((resolve) => {
      const socket = connect(join(cli.dir, 'control.sock'), () =>
        socket.end(Buffer.from([255, 255, 255, 255, 1, 2, 3])),
      );
      socket.on('error', () => {});
      socket.resume();
      socket.on('close', () => resolve());
    });
    expect(await names()).toEqual(['witness']);
  });

  test('the arbiter is killed: a new one adopts the VMs that run', async () => {
    const before = (await ps())[0].pid;
    const { arbiter } = (await cli.json('status')) as { arbiter: { pid: number; epoch: number } };
    process.kill(arbiter.pid, 'SIGKILL');
    const unmanaged = await until(async () => !(await ps())[0].managed);
    expect(unmanaged && (await ps())[0].state).toBe('unmanaged');
    await until(async () => (await ps())[0].managed);
    expect((await ps())[0]).toMatchObject({ managed: true, pid: before });
    const now = (await cli.json('status')) as {
      arbiter: { pid: number; epoch: number; restarts: number; last_fault: string };
    };
    expect(now.arbiter.pid).not.toBe(arbiter.pid);
    expect(now.arbiter).toMatchObject({
      restarts: 1,
      last_fault: expect.stringContaining('SIGKILL') as string,
    });
    expect(now.arbiter.epoch).toBeGreaterThan(arbiter.epoch);
  });

  test('the daemon is killed: a new one finds arbiter and VMs', async () => {
    const before = (await ps())[0].pid;
    const { arbiter } = (await cli.json('status')) as { arbiter: { pid: number } };
    process.kill(Number(readFileSync(join(cli.dir, 'daemon.lock'), 'utf8')), 'SIGKILL');
    await until(async () => (await cli.run('ps')).code === 3);
    expect((await cli.run('start')).code).toBe(0);
    expect((await ps()).map(({ name, pid, managed }) => [name, pid, managed])).toEqual([
      ['witness', before, true],
    ]);
    expect(await cli.json('status')).toMatchObject({ arbiter: { pid: arbiter.pid, state: 'live' } });
  });

  test('a VMM is killed: its name is free again', async () => {
    expect((await cli.run('run', 'victim', '--workload', 'batch')).code).toBe(0);
    const victim = (await ps()).find(({ name }) => name === 'victim')!;
    process.kill(victim.pid, 'SIGKILL');
    await until(async () => !(await names()).includes('victim'));
    expect(await names()).toEqual(['witness']);
    expect((await cli.run('run', 'victim', '--workload', 'batch')).code).toBe(0);
    expect((await cli.run('stop', 'victim')).code).toBe(0);
  });

  test('stop --all stops the VMs and leaves the daemon', async () => {
    expect(await cli.json('stop', '--all')).toEqual({ stopped: ['witness'], daemon: false });
    expect((await cli.run('ps')).out).toContain('no VMs');
  });

  test('stop --daemon ends everything', async () => {
    expect((await cli.run('stop', '--daemon')).code).toBe(0);
    expect(await until(async () => (await cli.run('ps')).code === 3)).toBe(true);
  });
});

/**
 * `hyperflux trace` with a real daemon and running VMs: what is in the file, that the VMs stop recording
 * afterwards, and what it says where it cannot trace.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  MAX_VCPUS,
  VCPUS_OFFSET,
  VCPU_BYTES,
  VCPU_HOST_OFFSET,
  W_HOST_VCPU_TRACE_UNTIL,
} from '../../arbiter/abi/layout.gen.ts';
import { runPaths } from '../../arbiter/control/paths.ts';
import { VmClient } from '../faults/vm-client.ts';
import { backend, cannot } from './host.ts';
import { Cli } from './run.ts';

interface Summary {
  file: string;
  vms: { name: string; vcpus: number; events: number; lost: number; by: Record<string, number> }[];
}

const why = await cannot();

test('without a daemon it says how to start one', async () => {
  const cli = new Cli();
  try {
    const { code, error } = await cli.error('trace', 'web');
    expect([code, error.code]).toEqual([3, 'not-running']);
  } finally {
    await cli.end();
  }
});

describe.skipIf(why !== '')(`tracing (VMs: ${backend})${why === '' ? '' : `, not run: ${why}`}`, () => {
  let cli: Cli;

  beforeAll(async () => {
    cli = new Cli();
    const { code, err } = await cli.run('start');
    if (code !== 0) throw new Error(err);
    // Two VMs that want the same core, so that it moves.
    for (const name of ['one', 'two']) {
      const started = await cli.run(
        'run',
        name,
        '--workload',
        'batch',
        '--vcpus',
        '2',
        '--arg',
        'uthreads=2',
      );
      if (started.code !== 0) throw new Error(started.err);
    }
  });
  afterAll(() => cli.end());

  const recording = (name: string): number[] => {
    const client = new VmClient(runPaths(cli.dir).vmSocket(name));
    const page = client.page();
    client.close();
    return Array.from(
      { length: MAX_VCPUS },
      (_, v) => page[(VCPUS_OFFSET + v * VCPU_BYTES + VCPU_HOST_OFFSET) / 4 + W_HOST_VCPU_TRACE_UNTIL],
    ).filter((until) => until !== 0);
  };

  test('a file with what the VMs did, and nobody records any more', { timeout: 300_000 }, async () => {
    const out = join(cli.dir, 'trace.json');
    let summary: Summary;
    // However long it takes until both have been seen to run and to give a core away.
    do summary = (await cli.json('trace', '--all', '--seconds', '1', '--out', out)) as unknown as Summary;
    while (!summary.vms.every(({ by }) => by.run > 0) || !summary.vms.some(({ by }) => by.resume > 0));
    expect(summary.vms.map(({ name, vcpus }) => [name, vcpus])).toEqual([
      ['one', 2],
      ['two', 2],
    ]);
    expect(summary.file).toBe(out);
    const { traceEvents } = JSON.parse(readFileSync(out, 'utf8')) as {
      traceEvents: { ph: string; pid: number; tid: number; name: string; dur: number }[];
    };
    for (const pid of [1, 2]) {
      const ran = traceEvents.filter((e) => e.pid === pid && e.ph === 'X' && e.name.startsWith('uThread '));
      expect(ran.length).toBeGreaterThan(0);
      expect(ran.every(({ tid, dur }) => tid < 2 && dur >= 0)).toBe(true);
      // More than one uThread has had its turn.
      expect(new Set(ran.map(({ name }) => name)).size).toBeGreaterThan(1);
    }
    expect([recording('one'), recording('two')]).toEqual([[], []]);
  });

  test('the summary for people says how to open it', { timeout: 120_000 }, async () => {
    const out = join(cli.dir, 'one.json');
    const { code, out: said } = await cli.run('trace', 'one', '--seconds', '1', '--out', out);
    expect(code).toBe(0);
    expect(said).toMatch(/^one: 2 vCPUs, [\d,]+ events, [\d,]+ lost/);
    expect(said).toContain('https://ui.perfetto.dev');
  });

  test('what cannot be traced is refused with the next step', { timeout: 120_000 }, async () => {
    const missing = await cli.error('trace', 'nobody');
    expect([missing.code, missing.error.code, missing.error.hint]).toEqual([
      1,
      'not-found',
      'hyperflux ps shows the VMs.',
    ]);
    const unwritable = await cli.error('trace', 'one', '--out', join(cli.dir, 'no', 'folder', 'x.json'));
    expect([unwritable.code, unwritable.error.code]).toEqual([1, 'failed']);
    expect(unwritable.error.hint).toContain('--out');
    for (const args of [['trace'], ['trace', 'one', '--all'], ['trace', 'one', '--seconds', '0']]) {
      expect((await cli.error(...args)).code).toBe(2);
    }
  });
});

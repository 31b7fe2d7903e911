/**
 * `hyperflux policy sim`, which needs nothing, and `hyperflux record` and `policy
 * replay` with a real daemon and VMs between which a core moves.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { cannot } from './host.ts';
import { Cli } from './run.ts';

const why = await cannot();
let cli: Cli;
beforeAll(() => void (cli = new Cli()));
afterAll(() => cli.end());

describe('policy sim', () => {
  const scenario = `
    name = "tiny"
    seconds = 0.01
    cores = 2
    [[vms]]
    name = "web"
    count = 3
    class = "lc"
    arrivals = { kind = "poisson", per_second = 5000 }
    service = { kind = "exponential", mean_us = 40 }
    [[vms]]
    name = "bulk"
    class = "be"
    threads = 2`;

  test('compares policies as a table, as JSON and as a page', async () => {
    const file = join(cli.dir, 'tiny.toml');
    writeFileSync(file, scenario);
    const html = join(cli.dir, 'tiny.html');
    const policies = ['--policy', 'delay', '--policy', 'delay:tenure_us=900'];
    const table = await cli.run('policy', 'sim', file, ...policies, '--html', html);
    expect([table.code, table.err]).toEqual([0, '']);
    for (const text of ['tiny: 4 VMs on 2 cores', 'web (lc)', 'bulk (be)', 'delay:tenure_us=900', 'moves/s'])
      expect(table.out).toContain(text);
    expect(readFileSync(html, 'utf8')).toContain('<svg');
    const [a, b] = await Promise.all([1, 2].map(() => cli.json('policy', 'sim', file, ...policies)));
    const results = ({ results: all }: Record<string, unknown>): unknown =>
      (all as Record<string, unknown>[]).map((result) => ({ ...result, wall_seconds: 0 }));
    expect(results(a)).toEqual(results(b));
  });

  test.each([
    ['a file that is not there', ['none.toml'], 'there is no file none.toml'],
    ['a policy that is none', ['--policy', 'magic'], 'there is no policy magic'],
    ['a parameter that is none', ['--policy', 'delay:speed=1'], 'speed'],
    ['a policy twice', ['--policy', 'delay', '--policy', 'delay'], 'is there twice'],
  ])('%s is wrong usage', async (_name, args, message) => {
    const { code, error } = await cli.error('policy', 'sim', ...args);
    expect(code).toBe(2);
    expect(error.message).toContain(message);
  });
});

test('record without a daemon says how to start one', async () => {
  const { code, error } = await cli.error('record');
  expect([code, error.code]).toEqual([3, 'not-running']);
});

test('replay of something else says so', async () => {
  const file = join(cli.dir, 'text.turns');
  writeFileSync(file, 'this is a text, and by no means a recording');
  const { code, error } = await cli.error('policy', 'replay', file);
  expect(code).toBe(2);
  expect(error.message).toContain('text.turns, byte 0: this is not a recording');
});

describe.skipIf(why !== '')(`record and replay${why === '' ? '' : `, not run: ${why}`}`, () => {
  beforeAll(async () => {
    const { code, err } = await cli.run('start');
    if (code !== 0) throw new Error(err);
    // Two VMs that want the same core, so that it moves.
    for (const name of ['one', 'two']) {
      const started = await cli.run('run', name, '--workload', 'batch', '--vcpus', '1');
      if (started.code !== 0) throw new Error(started.err);
    }
  });

  test('the live policy decides the same again, bit for bit; other parameters are told apart, and the VMs named', async () => {
    const file = join(cli.dir, 'live.turns');
    const done = await cli.json('record', '--seconds', '1', '--out', file);
    expect(done.turns).toBeGreaterThan(1000);
    const same = await cli.json('policy', 'replay', file);
    expect(same).toMatchObject({ turns: done.turns, differing: 0, faults: 0, exact: true });
    const other = await cli.run('policy', 'replay', file, '--policy', 'delay:quantum_us=1000000');
    expect(other.code).toBe(0);
    expect(other.out).toMatch(/decides otherwise in [\d,]+ of/);
    expect(other.out).toMatch(/\b(one|two) \(share\)/);
  });
});

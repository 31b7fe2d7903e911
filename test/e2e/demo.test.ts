/**
 * The demo for real, but short: it ends with 0, says what it measured in the schema
 * of all benchmarks, its guests found no damage, and it leaves nothing behind, also
 * when it is stopped in the middle. Nothing here is said about how fast anything was.
 */
import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parseReport } from '../../bench/lib/schema.ts';
import type { Report, Row } from '../../bench/lib/schema.ts';
import { until } from '../../bench/demo/cleanup.ts';
import { kvmTrouble } from '../../arbiter/vm/host.ts';

const main = fileURLToPath(new URL('../../arbiter/cli/main.ts', import.meta.url));

/** Everything of the demo's that could stay has this directory in its command line or lies in it. */
let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'hyperflux-e2e-'));
});

afterEach(() => {
  rmSync(directory, { recursive: true, force: true });
});

function start(...args: string[]): { child: ChildProcess; out: () => string; err: () => string } {
  const child = spawn(process.execPath, [main, 'demo', ...args], {
    env: { ...process.env, TMPDIR: directory },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let out = '';
  let err = '';
  child.stdout.on('data', (data: Buffer) => (out += data.toString()));
  child.stderr.on('data', (data: Buffer) => (err += data.toString()));
  return { child, out: () => out, err: () => err };
}

/** Processes whose command line names the demo's directory: VMs, the daemon, the arbiter. */
function leftovers(): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .flatMap((pid) => {
      try {
        const line = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
        return line.includes(directory) ? [`${pid} ${line}`] : [];
      } catch {
        // It ended meanwhile.
        return [];
      }
    });
}

function checkReport(report: Report, mode: string): void {
  expect(report.bench).toBe('demo');
  expect(report.env.mode).toBe(mode);
  const rows = (prefix: string): Row[] => report.rows.filter((row) => row.name.startsWith(prefix));
  expect(rows('serve latency')).toHaveLength(4);
  for (const row of rows('serve latency')) expect(row.n).toBeGreaterThan(0);
  for (const row of rows('releaser lateness')) expect(row.n).toBeGreaterThan(0);
  // The same schedule in each phase: answered and unfinished requests add up to the same number.
  const unfinished = rows('serve requests unfinished').map((row) => row.p50!);
  const totals = rows('serve latency').map((row, i) => row.n + unfinished[i]);
  expect(new Set(totals).size).toBe(1);
  expect(rows('batch')).toHaveLength(3);
  for (const row of rows('batch')) expect(row.max).toBeGreaterThan(0);
  expect(rows('moves, ')[0].p50).toBeGreaterThan(0);
  expect(rows('floor')[0].n).toBeGreaterThan(0);
  expect(rows('decision to first guest instruction')).toHaveLength(1);
  expect(report.goals.find((goal) => goal.name === 'guest integrity errors')).toMatchObject({
    value: 0,
    ok: true,
  });
}

async function run(...args: string[]): Promise<{ report: Report; err: string }> {
  const { child, out, err } = start('--json', '--seconds', '2', ...args);
  const [code] = (await once(child, 'close')) as [number];
  expect({ code, err: err() }).toMatchObject({ code: 0 });
  return { report: parseReport(JSON.parse(out())), err: err() };
}

describe('the demo', () => {
  const trouble = kvmTrouble();

  test.skipIf(trouble !== '')('runs KVM guests and leaves nothing behind', { timeout: 120_000 }, async () => {
    const { report, err } = await run();
    checkReport(report, 'unprivileged');
    expect(err).toContain('Guests run in KVM');
    expect(leftovers()).toEqual([]);
    expect(readdirSync(directory)).toEqual([]);
  });

  test('runs hosted guests and leaves nothing behind', { timeout: 120_000 }, async () => {
    const { report, err } = await run('--hosted');
    checkReport(report, 'hosted');
    expect(err).toContain('Guests run hosted');
    expect(leftovers()).toEqual([]);
    expect(readdirSync(directory)).toEqual([]);
  });

  test.each(['both, Linux, all cores', 'both, HyperFlux'])(
    'that is stopped while %s runs leaves nothing behind',
    { timeout: 120_000 },
    async (phase) => {
      const { child, out, err } = start('--seconds', '2');
      const closed = once(child, 'close');
      expect(await until(() => err().includes(`${phase}`) || child.exitCode !== null, 100_000)).toBe(true);
      // In the middle of something: VMs are being started, or a load runs.
      await until(() => leftovers().length >= 2, 10_000);
      child.kill('SIGTERM');
      const [code] = (await closed) as [number];
      expect({ code, err: err() }).toMatchObject({ code: 143 });
      expect(out()).toBe('');
      expect(err()).toContain('stopped by SIGTERM');
      expect(leftovers()).toEqual([]);
      expect(readdirSync(directory)).toEqual([]);
    },
  );
});

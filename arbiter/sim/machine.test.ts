import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Row } from '../../bench/lib/schema.ts';
import { quantilesOf, readMachine } from './machine.ts';
import { DEFAULT_MACHINE } from './run.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'hyperflux-machine-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

const measured: Row = {
  ...{ name: 'moves', unit: 'us', n: 5000, ratio: null },
  ...{ p50: 30, p90: 40, p99: 80, p999: 300, max: 900 },
};

test('a curve goes through the percentiles, never falls, and ends at the maximum', () => {
  const at = quantilesOf(measured);
  for (const [share, us] of [
    [0.5, 30],
    [0.9, 40],
    [0.99, 80],
    [0.999, 300],
    [0.9998, 900],
    [0.9999999, 900],
  ])
    expect(at(share) / 1000).toBeCloseTo(us, 6);
  let last = 0;
  for (let share = 0; share < 1; share += 0.0005) {
    expect(at(share)).toBeGreaterThanOrEqual(last);
    last = at(share);
  }
  // Below the median it mirrors what is above.
  expect(at(0) / 1000).toBeCloseTo(20, 6);
});

test('few samples: the curve ends where they end', () => {
  const at = quantilesOf({ ...measured, n: 50, p99: 45, p999: 45, max: 45 });
  expect(at(0.999) / 1000).toBeCloseTo(45, 6);
  expect(() => quantilesOf({ ...measured, p99: null })).toThrow('no percentiles');
  expect(() => quantilesOf({ ...measured, unit: 'B' })).toThrow('not in a unit of time');
});

test('the machine that comes along has all that is drawn from', () => {
  const machine = readMachine(DEFAULT_MACHINE);
  for (const { handed, first } of [machine.asked, machine.kicked]) {
    expect(handed(0.5)).toBeGreaterThan(1000);
    expect(first(0.5)).toBeGreaterThan(handed(0.5));
  }
  for (const time of [machine.granted(0.5), machine.yielded(0.5)]) {
    expect(time).toBeGreaterThan(1000);
    expect(time).toBeLessThan(1e6);
  }
});

test('a file that is no report of bench realloc says what it should be', () => {
  const path = join(folder, 'other.json');
  writeFileSync(path, JSON.stringify({ schema: 1, bench: 'loop', env: {}, rows: [measured], goals: [] }));
  expect(() => readMachine(path)).toThrow(/other\.json: it has no measured row "asked/);
  writeFileSync(path, '{');
  expect(() => readMachine(path)).toThrow(/cannot take the times of moves from .*other\.json/);
});

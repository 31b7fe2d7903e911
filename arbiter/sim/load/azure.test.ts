import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { random } from '../../../bench/load/random.ts';
import type { Arrivals } from './arrivals.ts';
import { readInvocations2019, readInvocations2021 } from './azure.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'hyperflux-azure-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

function file(name: string, lines: readonly string[], end = '\n'): string {
  const path = join(folder, name);
  writeFileSync(path, lines.join(end) + end);
  return path;
}

function all(arrivals: Arrivals): { due: number; serviceNs: number }[] {
  const found = [];
  while (arrivals.next()) found.push({ due: arrivals.due, serviceNs: arrivals.serviceNs });
  return found;
}

const MINUTES = Array.from({ length: 1440 }, (_, i) => i + 1);
const head2019 = ['HashOwner,HashApp,HashFunction,Trigger', ...MINUTES].join(',');
/** `counts` by minute, from 1; the others are 0. */
const row2019 = (owner: string, app: string, fn: string, counts: Record<number, number>): string =>
  [owner, app, fn, 'http', ...MINUTES.map((m) => counts[m] ?? 0)].join(',');

describe('2019: invocations a minute', () => {
  const rows = [
    row2019('o', 'a', 'f', { 1: 3, 2: 100, 4: 7 }),
    row2019('o', 'a', 'g', { 2: 20 }),
    row2019('o', 'b', 'f', { 2: 500 }),
    // Another owner's application of the same name is another one.
    row2019('p', 'b', 'f', { 3: 5 }),
  ];
  const window = { fromS: 60, seconds: 120, speed: 1 };

  test('an application is a VM, the busiest first, with as many requests as the minutes say', () => {
    const path = file('day.csv', [head2019, ...rows]);
    const apps = readInvocations2019(path, undefined, window);
    expect(apps.map(({ invocations }) => invocations)).toEqual([500, 120, 5]);
    const arrivals = apps.map((app, i) => all(app.arrivals(random(1, i), () => 1234, 1)));
    expect(arrivals.map((list) => list.length)).toEqual([500, 120, 5]);
    for (const { due, serviceNs } of arrivals[1]) {
      expect(due).toBeLessThan(60e9);
      expect(serviceNs).toBe(1234);
    }
    for (const { due } of arrivals[2]) expect(due).toBeGreaterThanOrEqual(60e9);
    const times = arrivals[0].map(({ due }) => due);
    expect(times).toEqual(times.toSorted((a, b) => a - b));
  });

  test('part of a minute has its share, and speed makes room for more', () => {
    const path = file('part.csv', [head2019, ...rows]);
    const count = (seconds: number, speed: number): number =>
      all(
        readInvocations2019(path, undefined, { fromS: 60, seconds, speed })[0].arrivals(
          random(2, 0),
          () => 1,
          1,
        ),
      ).length;
    expect(count(30, 1)).toBeGreaterThan(200);
    expect(count(30, 1)).toBeLessThan(300);
    expect(count(1, 60)).toBe(500);
  });

  test('durations are drawn between the percentiles of each function', () => {
    const names = [0, 1, 25, 50, 75, 99, 100].map((p) => `percentile_Average_${p}`);
    const durations = file('durations.csv', [
      ['HashOwner,HashApp,HashFunction,Average,Count,Minimum,Maximum', ...names].join(','),
      'o,b,f,20,500,10,90,10,11,15,20,25,80,90',
      'o,b,unknown,20,500,10,90,1,1,1,1,1,1,1',
    ]);
    const path = file('with.csv', [head2019, ...rows]);
    const [app] = readInvocations2019(path, durations, window);
    const ms = all(app.arrivals(random(3, 0), undefined, 1))
      .map(({ serviceNs }) => serviceNs / 1e6)
      .toSorted((a, b) => a - b);
    expect(ms[0]).toBeGreaterThanOrEqual(10);
    expect(ms.at(-1)).toBeLessThanOrEqual(90);
    expect(Math.abs(ms[250] - 20)).toBeLessThan(2);
    expect(Math.abs(ms[125] - 15)).toBeLessThan(2);
  });

  test('a broken file says line and column', () => {
    const broken = rows[0].replace(',100,', ',many,');
    expect(() => readInvocations2019(file('a.csv', [head2019, broken]), undefined, window)).toThrow(
      /a\.csv, line 2: the count of minute 2 is "many"/,
    );
    expect(() => readInvocations2019(file('b.csv', ['HashOwner,HashApp']), undefined, window)).toThrow(
      /line 1: there is no column HashFunction/,
    );
    const short = file('c.csv', [head2019, 'o,a,f,http,1']);
    expect(() => readInvocations2019(short, undefined, window)).toThrow(
      /line 2: the count of minute 2 is missing/,
    );
    expect(() => readInvocations2019(short, undefined, { fromS: 86_000, seconds: 900, speed: 1 })).toThrow(
      /one day/,
    );
  });
});

describe('2021: each invocation', () => {
  const lines = [
    'app,func,end_timestamp,duration',
    'x,f,101.5,0.5',
    'x,g,100.25,0.125',
    'y,f,103.0,0.25',
    'x,f,220.0,1.0',
    'y,f,100.1,3.0',
  ];

  test('it begins at its end less its duration, and takes so long', () => {
    // Lines may end as on Windows.
    const apps = readInvocations2021(file('t.txt', lines, '\r\n'), { fromS: 100, seconds: 10, speed: 1 });
    expect(apps.map(({ invocations }) => invocations)).toEqual([2, 1]);
    const [x, y] = apps.map((app, i) => all(app.arrivals(random(1, i), undefined, 1)));
    expect(x).toEqual([
      { due: 0.125e9, serviceNs: 0.125e9 },
      { due: 1e9, serviceNs: 0.5e9 },
    ]);
    expect(y).toEqual([{ due: 2.75e9, serviceNs: 0.25e9 }]);
  });

  test('a broken file says where', () => {
    const path = file('broken.txt', [...lines, 'z,f,12.0,-3']);
    expect(() => readInvocations2021(path, { fromS: 0, seconds: 1, speed: 1 })).toThrow(
      /line 7: duration is "-3"/,
    );
    const other = file('other.txt', ['a,b']);
    expect(() => readInvocations2021(other, { fromS: 0, seconds: 1, speed: 1 })).toThrow(/no column app/);
  });
});

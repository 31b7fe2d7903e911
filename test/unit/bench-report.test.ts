import { describe, expect, it } from 'vitest';
import {
  allMet,
  formatReport,
  goal,
  notMeasured,
  parseReport,
  row,
  type Report,
} from '../../bench/lib/schema.ts';
import { figure, renderReport } from '../../bench/lib/table.ts';

const summary = { n: 3000, p50: 29.4, p90: 31, p99: 44.25, p999: 80, max: 12345.6 };

const report = (): Report => ({
  schema: 1,
  bench: 'example',
  env: {
    cpu: 'AMD EPYC',
    cores: 2,
    kernel: '6.1',
    kvm: 'none',
    mode: 'hosted',
    mitigations: {},
    commit: null,
  },
  rows: [
    row('asked', 'us', summary, 21),
    row('floor', 'us', { ...summary, p50: 21 }, 21),
    notMeasured('far', 'us', 'two cores'),
  ],
  goals: [goal('asked against kicked', 1.1, 0.8), goal('p99', 1.5, 1.62), goal('third core', 1, null)],
});

describe('rows and goals', () => {
  it('give the ratio to the floor', () => {
    expect(row('a', 'us', summary, 21).ratio).toBeCloseTo(1.4);
    expect(row('a', 'us', summary).ratio).toBeNull();
  });

  it('a row without samples is one that was not measured', () => {
    expect(row('a', 'us', undefined, 21)).toMatchObject({ n: 0, p50: null, note: 'no samples' });
  });

  it('a goal is met at its limit, and not met by what was not measured', () => {
    expect(goal('a', 2, 2).ok).toBe(true);
    expect(goal('a', 2, 2.001).ok).toBe(false);
    expect(goal('a', 2, null)).toMatchObject({ value: null, ok: null });
    expect(goal('a', 2, Infinity)).toMatchObject({ value: null, ok: null });
    expect(allMet({ ...report(), goals: [goal('a', 2, 1)] })).toBe(true);
    expect(allMet({ ...report(), goals: [goal('a', 2, 1), goal('b', 2, null)] })).toBe(false);
  });
});

describe('the written report', () => {
  it('is JSON of the schema and comes back as it was', () => {
    expect(parseReport(JSON.parse(formatReport(report())))).toEqual({
      ...report(),
      rows: report().rows.map((r) => ({ ...r, ratio: r.ratio && Number(r.ratio.toPrecision(6)) })),
    });
  });

  it('has one row and one goal a line', () => {
    const lines = formatReport(report()).split('\n');
    expect(lines.filter((line) => line.includes('"p50"'))).toHaveLength(3);
    expect(lines.filter((line) => line.includes('"limit"'))).toHaveLength(3);
  });

  it('is not written if it breaks the schema', () => {
    expect(() => formatReport({ ...report(), schema: 2 } as unknown as Report)).toThrow(
      'not a benchmark report of schema 1',
    );
    const bad = { ...report(), rows: [{ ...row('a', 'us', summary), mean: 3 }] } as unknown as Report;
    expect(() => formatReport(bad)).toThrow('mean');
  });
});

describe('the table', () => {
  const text = renderReport(report());
  const line = (start: string): string => text.split('\n').find((l) => l.startsWith(start)) ?? '';

  it('prints what was not measured as not measured, with the reason', () => {
    expect(line('far')).toBe('far    us    not measured: two cores');
    expect(line('third core')).toContain('not measured');
  });

  it('prints goals as met or not', () => {
    expect(line('asked against kicked')).toMatch(/<= 1\.10 +0\.80 +met$/);
    expect(line('p99')).toMatch(/<= 1\.50 +1\.62 +NOT MET$/);
  });

  it('keeps its columns in line', () => {
    const end = line('asked ').indexOf('29.4') + 4;
    expect(line('floor').slice(0, end)).toMatch(/21$/);
    expect(
      text
        .split('\n')
        .find((l) => l.includes('p99.9'))!
        .slice(0, end),
    ).toMatch(/p50$/);
  });

  it('names what it ran on', () => {
    expect(text.split('\n')[0]).toBe('example on AMD EPYC, 2 cores, Linux 6.1, no KVM, hosted');
  });

  it('prints figures with the digits that mean something', () => {
    expect([1.234, 45.67, 789.4, 12345.6, 3, 0, 0.01234].map(figure)).toEqual([
      '1.23',
      '45.7',
      '789',
      '12,346',
      '3',
      '0',
      '0.0123',
    ]);
  });
});

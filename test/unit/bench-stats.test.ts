import { describe, expect, it } from 'vitest';
import { percentile, ratio, Samples, summarize } from '../../bench/lib/stats.ts';

const upTo = (n: number): Float64Array => Float64Array.from({ length: n }, (_, i) => i + 1);

describe('percentile', () => {
  it('is the nearest rank, always a value that was measured', () => {
    expect(percentile(upTo(1000), 0.5)).toBe(500);
    expect(percentile(upTo(1000), 0.9)).toBe(900);
    expect(percentile(upTo(1000), 0.99)).toBe(990);
    expect(percentile(upTo(1000), 0.999)).toBe(999);
    expect(percentile(upTo(1001), 0.999)).toBe(1000);
    expect(percentile(upTo(3), 0.5)).toBe(2);
    expect(percentile(upTo(4), 0.5)).toBe(2);
  });

  it('takes the ends', () => {
    expect(percentile(upTo(10), 0)).toBe(1);
    expect(percentile(upTo(10), 1)).toBe(10);
    expect(percentile(upTo(1), 0.999)).toBe(1);
  });

  it('refuses no samples and shares outside 0 to 1', () => {
    expect(() => percentile(upTo(0), 0.5)).toThrow('no samples');
    expect(() => percentile(upTo(5), 50)).toThrow('from 0 to 1');
    expect(() => percentile(upTo(5), NaN)).toThrow('from 0 to 1');
  });
});

describe('summarize', () => {
  it('does not depend on the order and leaves the samples alone', () => {
    const samples = Float64Array.from([30, 10, 2, 100, 20]);
    expect(summarize(samples)).toEqual({ n: 5, p50: 20, p90: 100, p99: 100, p999: 100, max: 100 });
    expect([...samples]).toEqual([30, 10, 2, 100, 20]);
  });

  it('sorts as numbers and says nothing about nothing', () => {
    expect(summarize(Float64Array.from([10, 9, 100]))?.p50).toBe(10);
    expect(summarize(new Float64Array())).toBeUndefined();
  });

  it('refuses what is not a number', () => {
    expect(() => summarize(Float64Array.from([1, NaN, 2]))).toThrow('not a number');
  });
});

describe('ratio', () => {
  it('has no value without a floor that divides', () => {
    expect(ratio(30, 20)).toBe(1.5);
    expect(ratio(30, 0)).toBeUndefined();
    expect(ratio(30, undefined)).toBeUndefined();
    expect(ratio(undefined, 20)).toBeUndefined();
  });
});

describe('Samples', () => {
  it('counts what did not fit and then gives no percentiles', () => {
    const samples = new Samples(2);
    samples.push(1);
    samples.push(2);
    expect(samples.summary()).toMatchObject({ n: 2, max: 2 });
    samples.push(3);
    expect(samples).toMatchObject({ length: 2, lost: 1 });
    expect(() => samples.summary()).toThrow('1 samples did not fit into 2');
    samples.clear();
    expect(samples.summary()).toBeUndefined();
  });
});

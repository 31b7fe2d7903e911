import { expect, test } from 'vitest';
import { exponential, random } from '../../bench/load/random.ts';
import { percentile } from '../../bench/lib/stats.ts';
import { Latencies } from './latency.ts';

test('percentiles are within 0.4 % of the exact ones, over seven orders of magnitude', () => {
  const draw = random(3, 0);
  const samples = Float64Array.from({ length: 50_000 }, (_, i) =>
    exponential(draw, 10 ** (2 + (i % 7) * 1.3)),
  );
  const latencies = new Latencies();
  for (const sample of samples) latencies.add(sample);
  const sorted = samples.slice().sort();
  for (const share of [0.1, 0.5, 0.9, 0.99, 0.999]) {
    const exact = percentile(sorted, share);
    expect(Math.abs(latencies.at(share)! / exact - 1)).toBeLessThan(0.004 + 1 / exact);
  }
  expect(latencies.at(1)).toBe(sorted.at(-1));
  expect(latencies.n).toBe(50_000);
});

test('two merged are as one, and none has no percentiles', () => {
  const [a, b, all] = [new Latencies(), new Latencies(), new Latencies()];
  for (let i = 1; i < 1000; i++) {
    (i % 3 === 0 ? a : b).add(i * 1000);
    all.add(i * 1000);
  }
  expect(a.at(0.5)).toBeDefined();
  a.merge(b);
  for (const share of [0, 0.5, 0.999, 1]) expect(a.at(share)).toBe(all.at(share));
  expect(a.mean).toBeCloseTo(all.mean);
  expect(new Latencies().at(0.5)).toBeUndefined();
});

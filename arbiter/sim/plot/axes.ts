/** The axes that latencies are read on. */
import type { Axis, Tick } from './svg.ts';

/** 1/(1-p): each further nine as wide as the one before. `n`: how many samples there are at least. */
export function nines(n: number): Axis {
  const most = Math.min(5, Math.max(1, Math.floor(Math.log10(Math.max(10, n)))));
  const ticks: Tick[] = [{ value: 0, label: 'min' }];
  const names = ['90', '99', '99.9', '99.99', '99.999'];
  ticks.push({ value: 0.5, label: '50' });
  for (let i = 0; i < most; i++) ticks.push({ value: 1 - 10 ** -(i + 1), label: names[i] });
  ticks[0] = { value: 0, label: '0' };
  return {
    title: 'percentile, on an axis of 1/(1-p)',
    ticks,
    at: (share) => Math.min(1, -Math.log10(1 - share) / most),
  };
}

/** Shares at which a curve on such an axis is drawn. */
export function shares(n: number): number[] {
  const most = Math.min(5, Math.max(1, Math.log10(Math.max(10, n))));
  const all: number[] = [];
  for (let depth = 0; depth <= most; depth += 0.04) all.push(1 - 10 ** -depth);
  return all;
}

const duration = (us: number): string => {
  if (us >= 1e6) return `${us / 1e6} s`;
  if (us >= 1000) return `${us / 1000} ms`;
  return `${us} µs`;
};

/** Microseconds, logarithmic, from a power of ten to a power of ten. */
export function logTimes(title: string, least: number, most: number): Axis {
  const from = Math.floor(Math.log10(Math.max(least, 0.01)));
  const to = Math.max(from + 1, Math.ceil(Math.log10(Math.max(most, 0.02))));
  const ticks: Tick[] = [];
  for (let power = from; power <= to; power++) ticks.push({ value: 10 ** power, label: duration(10 ** power) });
  return {
    title,
    ticks,
    at: (us) => Math.min(1, Math.max(0, (Math.log10(Math.max(us, 1e-3)) - from) / (to - from))),
  };
}

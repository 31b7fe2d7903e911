/** The axes that latencies are read on. */
import type { Axis, Tick } from './svg.ts';

/** 1/(1-p): each further nine as wide as the one before. `n`: how many samples there are at least. */
export function nines(n: number): Axis {
  const most = Math.min(5, Math.max(1, Math.floor(Math.log10(Math.max(10, n)))));
  const names = ['90', '99', '99.9', '99.99', '99.999'];
  const ticks: Tick[] = [
    { value: 0, label: '0' },
    { value: 0.5, label: '50' },
    ...names.slice(0, most).map((label, i) => ({ value: 1 - 10 ** -(i + 1), label })),
  ];
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
  // Over few decades the twos and fives have lines as well.
  const between = to - from <= 2 ? [1, 2, 5] : [1];
  for (let power = from; power <= to; power++) {
    for (const f of between) {
      const value = Number((f * 10 ** power).toPrecision(1));
      if (value <= 10 ** to) ticks.push({ value, label: duration(value) });
    }
  }
  return {
    title,
    ticks,
    at: (us) => Math.min(1, Math.max(0, (Math.log10(Math.max(us, 1e-3)) - from) / (to - from))),
  };
}

/**
 * A log-linear histogram in an Int32Array: 32 buckets for each power of two, so the
 * error is 3 % at most, and recording is a few instructions without allocation.
 */

const SUB_BITS = 5;
const SUB = 1 << SUB_BITS;
/** Enough for every value below 2^31. */
export const HISTOGRAM_BUCKETS = (31 - SUB_BITS + 1) * SUB;

export function bucketOf(value: number): number {
  const v = value < 0 ? 0 : value | 0;
  if (v < SUB) return v;
  const shift = 31 - Math.clz32(v) - SUB_BITS;
  return (shift + 1) * SUB + ((v >>> shift) & (SUB - 1));
}

/** The smallest value that falls into a bucket. */
export function bucketFloor(bucket: number): number {
  if (bucket < SUB) return bucket;
  const shift = ((bucket / SUB) | 0) - 1;
  return (SUB + (bucket % SUB)) * 2 ** shift;
}

export interface Summary {
  n: number;
  p50: number;
  p90: number;
  p99: number;
  p999: number;
  max: number;
}

/** Percentiles; a bucket stands for its largest value, so a summary never flatters. */
export function summarize(counts: Int32Array): Summary {
  let n = 0;
  let last = 0;
  for (let i = 0; i < counts.length; i++) {
    n += counts[i] >>> 0;
    if (counts[i] !== 0) last = i;
  }
  const at = (share: number): number => {
    const rank = Math.ceil(n * share);
    let seen = 0;
    for (let i = 0; i <= last; i++) {
      seen += counts[i] >>> 0;
      if (seen >= rank) return top(i);
    }
    return n === 0 ? 0 : top(last);
  };
  return { n, p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: n === 0 ? 0 : top(last) };
}

const top = (bucket: number): number => bucketFloor(bucket + 1) - 1;

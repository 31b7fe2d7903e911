/**
 * Exact percentiles. Samples are kept, all of them, in one preallocated array: a
 * histogram would round the very figures that are compared, and an array that
 * grows would be collected in the middle of what is measured.
 */

export interface Summary {
  n: number;
  p50: number;
  p90: number;
  p99: number;
  p999: number;
  max: number;
}

/**
 * The smallest sample that at least this share of all samples does not exceed
 * (nearest rank): always a value that was really measured.
 */
export function percentile(sorted: Float64Array, share: number): number {
  if (sorted.length === 0) throw new RangeError('there is no percentile of no samples');
  if (!(share >= 0 && share <= 1)) throw new RangeError(`share must be from 0 to 1, not ${share}`);
  // 0.999 * 1000 is a little more than 999 in binary; that must not cost a whole rank.
  const rank = Math.ceil(share * sorted.length - 1e-9);
  return sorted[Math.max(rank, 1) - 1];
}

/** Undefined for no samples: what was not measured has no percentiles. */
export function summarize(samples: Float64Array): Summary | undefined {
  if (samples.length === 0) return undefined;
  const sorted = samples.slice().sort();
  // NaN sorts last, so one look finds it.
  if (Number.isNaN(sorted[sorted.length - 1])) throw new RangeError('a sample is not a number');
  return {
    n: sorted.length,
    p50: percentile(sorted, 0.5),
    p90: percentile(sorted, 0.9),
    p99: percentile(sorted, 0.99),
    p999: percentile(sorted, 0.999),
    max: sorted[sorted.length - 1],
  };
}

/** How many times the floor; undefined where there is no floor or none that can divide. */
export function ratio(value: number | undefined, floor: number | undefined): number | undefined {
  if (value === undefined || floor === undefined || !(floor > 0)) return undefined;
  return value / floor;
}

/** A place for samples, as large as it will ever be. */
export class Samples {
  readonly #values: Float64Array;
  #count = 0;
  #lost = 0;

  constructor(capacity: number) {
    // Written once, so that the pages are there before anything is measured.
    this.#values = new Float64Array(capacity).fill(-1);
  }

  push(value: number): void {
    if (this.#count < this.#values.length) this.#values[this.#count++] = value;
    else this.#lost++;
  }

  get length(): number {
    return this.#count;
  }

  /** Samples for which there was no room: must be 0, or the percentiles are not of everything. */
  get lost(): number {
    return this.#lost;
  }

  clear(): void {
    this.#count = 0;
    this.#lost = 0;
  }

  values(): Float64Array {
    return this.#values.subarray(0, this.#count);
  }

  summary(): Summary | undefined {
    if (this.#lost > 0) throw new RangeError(`${this.#lost} samples did not fit into ${this.#values.length}`);
    return summarize(this.values());
  }
}

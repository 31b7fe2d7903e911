/**
 * Latencies of millions of requests in little memory: log-linear buckets, 128 to each
 * power of two, so a percentile is off by 0.4 % at most. Nanoseconds.
 */
const SUB_BITS = 7;
const SUB = 1 << SUB_BITS;
/** Above 2^31 ns what is counted is this many nanoseconds: 32-bit arithmetic goes up to half an hour then. */
const COARSE = 1024;
const FINE_BUCKETS = (31 - SUB_BITS + 1) * SUB;

function bucketOf(value: number): number {
  if (value < SUB) return value;
  const shift = 31 - Math.clz32(value) - SUB_BITS;
  return (shift + 1) * SUB + ((value >>> shift) & (SUB - 1));
}

/** The middle of a bucket. */
function middle(bucket: number): number {
  if (bucket < SUB) return bucket;
  const shift = ((bucket / SUB) | 0) - 1;
  return (SUB + (bucket % SUB) + 0.5) * 2 ** shift - 0.5;
}

export class Latencies {
  readonly #counts = new Float64Array(2 * FINE_BUCKETS);
  #n = 0;
  #sum = 0;
  #max = 0;

  get n(): number {
    return this.#n;
  }

  /** Exact. */
  get mean(): number {
    return this.#n === 0 ? 0 : this.#sum / this.#n;
  }

  get max(): number {
    return this.#max;
  }

  add(ns: number): void {
    this.#n++;
    this.#sum += ns;
    if (ns > this.#max) this.#max = ns;
    if (ns < 0x7fffffff) this.#counts[bucketOf(ns | 0)]++;
    else this.#counts[FINE_BUCKETS + bucketOf(Math.min(ns / COARSE, 0x7fffffff) | 0)]++;
  }

  merge(other: Latencies): void {
    for (let i = 0; i < this.#counts.length; i++) this.#counts[i] += other.#counts[i];
    this.#n += other.#n;
    this.#sum += other.#sum;
    this.#max = Math.max(this.#max, other.#max);
  }

  /** Nearest rank. Undefined without samples: what did not happen has no percentiles. */
  at(share: number): number | undefined {
    if (this.#n === 0) return undefined;
    const rank = Math.max(1, Math.ceil(share * this.#n - 1e-9));
    if (rank >= this.#n) return this.#max;
    let seen = 0;
    for (let i = 0; i < this.#counts.length; i++) {
      seen += this.#counts[i];
      if (seen < rank) continue;
      const value = i < FINE_BUCKETS ? middle(i) : middle(i - FINE_BUCKETS) * COARSE;
      return Math.min(value, this.#max);
    }
    return this.#max;
  }
}

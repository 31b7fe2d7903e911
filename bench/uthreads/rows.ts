/** What is measured. bench/uthreads/README.md says what each contestant does for it. */

/** Which contestants of a runtime a row is for: those with one core, or those with all of them. */
export type Where = 'one' | 'all';

export interface RowSpec {
  /** What the contestants call it. */
  readonly key: string;
  readonly title: string;
  readonly where: Where;
  /** Operations of a sample; unless given, as many as take about `SAMPLE_NS`. */
  readonly ops?: number;
  /** Samples of a block. */
  readonly samples: number;
  /** Whether FluxOS has to be ahead of Go and tokio in it. */
  readonly micro: boolean;
  /** It makes no sense with fewer cores. */
  readonly cores?: number;
  /** How many times FluxOS has to be faster than pthreads. */
  readonly overThreads?: number;
}

/** Long against the clock's own cost, short against what disturbs. */
export const SAMPLE_NS = 100_000;
const SAMPLES = 40;
/** Twenty times: what a thread costs that no kernel knows of. */
const OVER_THREADS = 20;

const micro = { samples: SAMPLES, micro: true };
const one = (key: string, title: string, more: Partial<RowSpec> = {}): RowSpec => ({
  ...{ key, title, where: 'one', ...micro },
  ...more,
});
const all = (key: string, title: string, more: Partial<RowSpec> = {}): RowSpec => ({
  ...one(key, title, more),
  where: 'all',
});
/** A latency: each sample is one. */
const single = { ops: 1, samples: 20 };
const across = { ...single, cores: 2 };

export const ROWS: readonly RowSpec[] = [
  one('floor', 'floor: empty call', { micro: false, samples: 10 }),
  one('clock', 'reading the clock', { micro: false, samples: 10 }),
  one('spawn', 'spawn+join', { overThreads: OVER_THREADS }),
  one('yield', 'yield', { overThreads: OVER_THREADS }),
  one('mutex', 'mutex, uncontended'),
  one('condvar', 'condvar ping-pong, same vCPU'),
  one('semaphore', 'semaphore, uncontended'),
  one('baton', 'semaphore ping-pong'),
  one('timed', 'timer arm+cancel: ping-pong with deadlines'),
  one('late', 'timer fire: how late', single),
  all('spawn', 'spawn+join', { overThreads: OVER_THREADS }),
  all('wake', 'condvar wake on another vCPU', across),
  all('steal', 'steal from a busy vCPU', across),
  all('fan', 'fan-out/fan-in of 64'),
];

/** Numbers that are sorted, and with `--quick`. */
export const SORT = { full: 10_000_000, quick: 1_000_000 } as const;

export const sortRow = (numbers: number): RowSpec => ({
  ...all('sort', `parallel quicksort of ${numbers.toLocaleString('en-US')}`),
  ...{ ops: numbers, samples: 1, micro: false },
});

/** The rows of these keys, and the floor, which the others are compared with; all of them unless told. */
export function rowsOf(keys: readonly string[] | undefined, sort: RowSpec): RowSpec[] {
  const all = [...ROWS, sort];
  if (keys === undefined) return all;
  const known = [...new Set(all.map(({ key }) => key))];
  const unknown = keys.find((key) => !known.includes(key));
  if (unknown !== undefined) throw new Error(`there is no row "${unknown}"; choose from ${known.join(', ')}`);
  return all.filter(({ key }) => key === 'floor' || keys.includes(key));
}

/** The name of a row of the report. */
export function rowName(row: RowSpec, contestant: string, cores: number): string {
  const on = row.where === 'one' || cores === 1 ? '1 core' : `${cores} cores`;
  return `${row.title} (${on}): ${contestant}`;
}

/** 32-bit FNV-1a: how the guest is told a row's name. */
export function hash(name: string): number {
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(name)) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash >>> 0;
}

/**
 * How many operations make a sample, from one that took `ns` for `ops`. Even, because some rows give each of
 * two sides its half; never more than tenfold at once, because the first sample of all is the slowest.
 */
export function nextOps(ops: number, ns: number): number {
  const wanted = ns > 0 ? (ops * SAMPLE_NS) / ns : Infinity;
  const next = Math.min(Math.max(wanted, 2), ops * 10, MAX_OPS);
  return Math.round(next / 2) * 2;
}

/** More are not needed of anything that takes time at all. */
export const MAX_OPS = 1_000_000;

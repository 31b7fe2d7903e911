/** Who takes part: what every contestant can do, and how the number of its operations is found. */
import { MAX_OPS, nextOps, SAMPLE_NS, type RowSpec } from './rows.ts';

/** Why a contestant did not do a row. The rest of them go on. */
export class Refusal extends Error {}

export interface Contestant {
  /** As the report has it: FluxOS on KVM, pthreads, ... */
  readonly name: string;
  /** How it describes itself: versions, runtime, workers. */
  readonly version: string;
  /**
   * Runs one block, and returns the nanoseconds of each sample, all `ops` operations of it together. Throws a
   * Refusal if it cannot. `expectMs` is how long it is likely to take.
   */
  run(key: string, samples: number, ops: number, expectMs: number): Promise<number[]>;
  close(): Promise<void>;
  /** Ends it at once, for when the benchmark itself is ended. */
  kill(): void;
}

const CALIBRATIONS = 8;

/** Operations of a sample for this contestant, and the milliseconds that a block takes then. */
export async function calibrate(of: Contestant, row: RowSpec): Promise<{ ops: number; blockMs: number }> {
  const cost = async (ops: number): Promise<number> => (await of.run(row.key, 1, ops, 0))[0];
  if (row.ops !== undefined) return { ops: row.ops, blockMs: ((await cost(row.ops)) * row.samples) / 1e6 };
  let ops = 2;
  let ns = await cost(ops);
  for (let i = 0; i < CALIBRATIONS && ops < MAX_OPS; i++) {
    const next = nextOps(ops, ns);
    // Near enough, or it costs too much as it is.
    if (next <= ops * 1.2) break;
    ops = next;
    ns = await cost(ops);
  }
  return { ops, blockMs: (Math.min(ns, 10 * SAMPLE_NS) * row.samples) / 1e6 };
}

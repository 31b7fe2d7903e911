/** One row of the benchmark: its samples, and for moves their stages. */
import type { Samples } from '../lib/stats.ts';

export interface Measured {
  readonly name: string;
  readonly samples: Samples;
  /** Stages in the order of time, if the row is a move of ours. */
  readonly stages?: ReadonlyMap<string, Samples>;
  /** What a move was made of, a sample a block, by what was counted; undefined where nothing can be counted. */
  readonly counts?: ReadonlyMap<string, Samples>;
  /** Runs one block of `moves` moves. */
  block(moves: number): void;
  /** Why there are no samples, if the row cannot be measured here. */
  readonly missing?: string;
  /** Lets go of what the row held. */
  close?(): void;
}

/** A rest of 30 to 70 us between two moves, never the same twice in a row. */
export const restUs = (i: number): number => 30 + ((i * 37) % 41);

export class RowError extends Error {}

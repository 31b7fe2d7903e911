/** One contestant in one row: its operations, its blocks, its samples, and why there are none. */
import { Samples, type Summary } from '../lib/stats.ts';
import { calibrate, Refusal, type Contestant } from './contestant.ts';
import type { RowSpec, Where } from './rows.ts';

export interface Entrant {
  readonly name: string;
  readonly where: Where;
  readonly cores: number;
  readonly contestant: Contestant | { readonly missing: string };
}

export class Lane {
  readonly row: RowSpec;
  readonly contestant: string;
  readonly unit: 'ns' | 'ms';
  readonly #entrant: Entrant;
  readonly #samples: Samples;
  #missing: string | null = null;
  #ops = 0;
  #blockMs = 0;

  constructor(row: RowSpec, entrant: Entrant, rounds: number, unit: 'ns' | 'ms') {
    this.row = row;
    this.contestant = entrant.name;
    this.unit = unit;
    this.#entrant = entrant;
    this.#samples = new Samples(row.samples * rounds);
  }

  get name(): string {
    return `${this.row.title}: ${this.contestant}`;
  }

  /** Why nothing, or not everything, was measured. */
  get missing(): string | null {
    return this.#missing;
  }

  /** Undefined unless all of it was measured: half a row is not comparable. */
  summary(): Summary | undefined {
    return this.#missing === null ? this.#samples.summary() : undefined;
  }

  async #attempt(what: (contestant: Contestant) => Promise<void>): Promise<void> {
    if (this.#missing !== null) return;
    const { contestant, cores } = this.#entrant;
    const needed = this.row.cores ?? 1;
    if ('missing' in contestant || cores < needed) {
      this.#missing = 'missing' in contestant ? contestant.missing : `it needs ${needed} cores`;
      return;
    }
    try {
      await what(contestant);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      this.#missing = error.message;
    }
  }

  /** Finds how many operations make a sample; the row's code is warm afterwards. */
  prepare(): Promise<void> {
    return this.#attempt(async (contestant) => {
      const { ops, blockMs } = await calibrate(contestant, this.row);
      this.#ops = ops;
      this.#blockMs = blockMs;
    });
  }

  block(): Promise<void> {
    return this.#attempt(async (contestant) => {
      const { key, samples } = this.row;
      const taken = await contestant.run(key, samples, this.#ops, this.#blockMs);
      for (const ns of taken) this.#samples.push(this.unit === 'ms' ? ns / 1e6 : ns / this.#ops);
    });
  }
}

/** The lanes of a row: one for each contestant that has as many cores as the row is for. */
export const lanesOf = (
  row: RowSpec,
  entrants: readonly Entrant[],
  rounds: number,
  unit: 'ns' | 'ms' = 'ns',
): Lane[] =>
  entrants.filter(({ where }) => where === row.where).map((entrant) => new Lane(row, entrant, rounds, unit));

/**
 * Core time by group of VMs and by what it was spent on, exact at every moment: how
 * many cores are in each state is known, and integrated whenever it changes.
 */

/** What a core is doing that a vCPU has. */
export const USEFUL = 0;
/** Its vCPU looks for work. */
export const SPINNING = 1;
/** On its way: handed over, and no instruction has been executed yet. */
export const ARRIVING = 2;
export const MODES = 3;
/** Nobody's; not counted for any group. */
export const NOWHERE = -1;

export class Meter {
  readonly #cores: Float64Array;
  readonly #spent: Float64Array;
  readonly #since: Float64Array;

  constructor(groups: number) {
    this.#cores = new Float64Array(groups * MODES);
    this.#spent = new Float64Array(groups * MODES);
    this.#since = new Float64Array(groups * MODES);
  }

  /** A core of the group changes from one mode to another. */
  change(group: number, from: number, to: number, now: number): void {
    if (from !== NOWHERE) this.#add(group * MODES + from, -1, now);
    if (to !== NOWHERE) this.#add(group * MODES + to, 1, now);
  }

  /** Nanoseconds of core time up to now. */
  spent(group: number, mode: number, now: number): number {
    const i = group * MODES + mode;
    return this.#spent[i] + this.#cores[i] * (now - this.#since[i]);
  }

  #add(i: number, by: number, now: number): void {
    this.#spent[i] += this.#cores[i] * (now - this.#since[i]);
    this.#since[i] = now;
    this.#cores[i] += by;
  }
}

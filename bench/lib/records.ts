/** What a `probe` guest has recorded: durations that end at a TSC, in the entries that other guests use for completions. */
import {
  COMPLETIONS_OFFSET,
  CONTROL_BYTES,
  OFF_COMPLETION_DONE_HI,
  OFF_COMPLETION_DONE_LO,
  OFF_COMPLETION_WAIT,
  RING_ENTRIES,
  SIZE_COMPLETION,
  W_COMPLETION_SEQ_PLUS_1,
} from '../../arbiter/abi/layout.gen.ts';
import { mapShared } from '../../native/index.ts';

export class Records {
  readonly #page: Int32Array;
  #next = 0;

  /** `controlPage` is the descriptor of the VM's page. */
  constructor(controlPage: number) {
    this.#page = new Int32Array(mapShared(controlPage, CONTROL_BYTES));
  }

  #word(seq: number, offset: number): number {
    const entry = COMPLETIONS_OFFSET + (seq & (RING_ENTRIES - 1)) * SIZE_COMPLETION;
    return Atomics.load(this.#page, (entry + offset) / 4);
  }

  /**
   * Calls back with each record since the last look: its length in ticks, the low word of the TSC at its end, and
   * what the guest says besides. False if the guest has overwritten some before they were read.
   */
  read(each: (ticks: number, end: number, more: number) => void): boolean {
    // Bounded: the guest writes these words.
    for (let i = 0; i < RING_ENTRIES; i++) {
      const stands = this.#word(this.#next, W_COMPLETION_SEQ_PLUS_1 * 4);
      if (stands !== ((this.#next + 1) | 0)) {
        const ahead = (stands - this.#next - 1) | 0;
        if (ahead <= 0) return true;
        // It has come round: what is there now is newer.
        this.#next = (stands - 1) | 0;
        return false;
      }
      each(
        this.#word(this.#next, OFF_COMPLETION_WAIT) >>> 0,
        this.#word(this.#next, OFF_COMPLETION_DONE_LO),
        this.#word(this.#next, OFF_COMPLETION_DONE_HI),
      );
      this.#next = (this.#next + 1) | 0;
    }
    return true;
  }
}

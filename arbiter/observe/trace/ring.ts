/**
 * A vCPU's trace ring, read while its guest writes it (abi/control_page.h).
 *
 * The guest may be ahead by any number of laps, may be stopped in the middle of a
 * record, and may be hostile. So a record counts only if its number is the expected
 * one before and after it was copied; what was overwritten is counted as lost; and
 * one visit does a bounded amount of work, whatever stands in the ring.
 */
import {
  TRACE_RECORDS,
  W_TRACE_RECORD_SEQ_PLUS_1,
  W_TRACE_RECORD_TIME,
  W_TRACE_RECORD_UTHREAD,
  W_TRACE_RECORD_WHAT,
  SIZE_TRACE_RECORD,
} from '../../abi/layout.gen.ts';

const WORDS = SIZE_TRACE_RECORD / 4;
/** Left to the writer when it was a lap ahead: it goes on writing while we read. */
const HEAD_START = TRACE_RECORDS / 8;
/** How often one visit may find that it was overtaken. */
const LAPS = 4;

/** Takes a record: its time, what happened (event and number), and to which uThread. All as signed 32 bits. */
export type Sink = (time: number, what: number, uthread: number) => void;

export class RingReader {
  /** Records that were overwritten before they were read, or torn. */
  lost = 0;
  private readonly ring: Int32Array;
  private next: number;

  /** Reads what is written from now on. `ring`: this vCPU's part of the page. */
  constructor(ring: Int32Array) {
    this.ring = ring;
    this.next = this.newest(undefined) ?? 0;
  }

  /** Gives all that is new to `sink`, oldest first. */
  read(sink: Sink): void {
    let laps = 0;
    for (let budget = TRACE_RECORDS; budget > 0; budget--) {
      const at = place(this.next);
      const wanted = (this.next + 1) | 0;
      const found = Atomics.load(this.ring, at + W_TRACE_RECORD_SEQ_PLUS_1);
      if (found === wanted) {
        const time = Atomics.load(this.ring, at + W_TRACE_RECORD_TIME);
        const what = Atomics.load(this.ring, at + W_TRACE_RECORD_WHAT);
        const uthread = Atomics.load(this.ring, at + W_TRACE_RECORD_UTHREAD);
        // The number whose successor is 0 cannot be told from a record that is being written.
        const whole = wanted !== 0 && Atomics.load(this.ring, at + W_TRACE_RECORD_SEQ_PLUS_1) === wanted;
        if (whole) sink(time, what, uthread);
        else this.lost++;
        this.next = wanted;
        continue;
      }
      // Being written, or still what was here a lap ago: nothing is new.
      if (found === 0 || ((found - wanted) | 0) < 0) return;
      const newest = this.newest(this.next);
      if (newest === undefined || ++laps > LAPS) return;
      const oldest = (newest - TRACE_RECORDS + HEAD_START) | 0;
      // Of a ring that contradicts itself nothing can be read; go where it says that it is.
      const to = ((oldest - this.next) | 0) > 0 ? oldest : newest;
      this.lost += (to - this.next) >>> 0;
      this.next = to;
    }
  }

  /** The number after that of the newest record, if there is one behind `from`; of any if `from` is not given. */
  private newest(from: number | undefined): number | undefined {
    let best: number | undefined;
    for (let i = 0; i < TRACE_RECORDS; i++) {
      const after = Atomics.load(this.ring, i * WORDS + W_TRACE_RECORD_SEQ_PLUS_1);
      if (after === 0 || place(after - 1) !== i * WORDS) continue;
      if (from !== undefined && ((after - from) | 0) <= 0) continue;
      if (best === undefined || ((after - best) | 0) > 0) best = after;
    }
    return best;
  }
}

const place = (number: number): number => (number & (TRACE_RECORDS - 1)) * WORDS;

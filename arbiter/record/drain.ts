/** Who records: tells the loop to write, and takes from the ring what it wrote. */
import { lengthAt } from './file.ts';
import type { Recording } from './format.ts';
import { R_BYTES, R_DROPPED, R_GENERATION, R_HEAD, R_PID, R_TAIL, R_UNTIL } from './format.ts';

export class Drain {
  readonly #words: Int32Array;
  readonly #ring: Uint8Array;
  #tail: number;
  readonly #dropped: number;

  /** Begins. The loop answers with a keyframe. `until`: a stamp, as for `goOn`. */
  constructor({ words, ring }: Recording, pid: number, until: number) {
    this.#words = words;
    this.#ring = ring;
    this.#tail = Atomics.load(words, R_HEAD);
    this.#dropped = words[R_DROPPED];
    Atomics.store(words, R_TAIL, this.#tail);
    Atomics.store(words, R_PID, pid);
    Atomics.add(words, R_GENERATION, 1);
    Atomics.store(words, R_UNTIL, until);
  }

  /** Says that it goes on, until that stamp; never 0, which means off. */
  goOn(until: number): void {
    Atomics.store(this.#words, R_UNTIL, until | 0 || 1);
  }

  /** Turns that the loop had no room for. */
  get lost(): number {
    return this.#words[R_DROPPED] - this.#dropped;
  }

  /** Hands over all turns that are there, each in a buffer of its own with its length before it. */
  take(turn: (framed: Buffer) => void): void {
    // Pairs with the recorder's store: the bytes below the head are written.
    const head = Atomics.load(this.#words, R_HEAD);
    const size = (head - this.#tail) >>> 0;
    if (size === 0) return;
    if (size > R_BYTES) throw new Error('the ring has been written anew: another arbiter has taken over');
    const bytes = Buffer.allocUnsafe(size);
    const from = this.#tail & (R_BYTES - 1);
    const first = Math.min(size, R_BYTES - from);
    bytes.set(this.#ring.subarray(from, from + first));
    bytes.set(this.#ring.subarray(0, size - first), first);
    this.#tail = head;
    // The loop may use the place again: everything is copied.
    Atomics.store(this.#words, R_TAIL, head);
    for (let at = 0; at < size;) {
      const length = 3 + lengthAt(bytes, at);
      turn(bytes.subarray(at, at + length));
      at += length;
    }
  }

  stop(): void {
    Atomics.store(this.#words, R_UNTIL, 0);
    Atomics.store(this.#words, R_PID, 0);
  }
}

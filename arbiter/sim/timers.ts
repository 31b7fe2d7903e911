/**
 * What happens next: timers in the order of their times. Each has a number and one
 * place in a 4-ary heap, so it can be moved or taken out where it stands, and nothing
 * stale is ever in the way. Of two at the same time the smaller number comes first:
 * the order depends on nothing but times and numbers, so a run can be repeated.
 */
export class Timers {
  /** By number; means something while the timer is set. */
  readonly when: Float64Array;
  /** By number; -1: not set. */
  readonly #place: Int32Array;
  readonly #heap: Int32Array;
  #size = 0;

  constructor(timers: number) {
    this.when = new Float64Array(timers);
    this.#place = new Int32Array(timers).fill(-1);
    this.#heap = new Int32Array(timers);
  }

  /** The number of the first timer; -1: none is set. */
  get first(): number {
    return this.#size === 0 ? -1 : this.#heap[0];
  }

  isSet(timer: number): boolean {
    return this.#place[timer] >= 0;
  }

  set(timer: number, when: number): void {
    const place = this.#place[timer];
    if (place < 0) {
      this.when[timer] = when;
      this.#rise(this.#size++, timer);
      return;
    }
    const before = this.when[timer];
    this.when[timer] = when;
    if (when < before) this.#rise(place, timer);
    else this.#sink(place, timer);
  }

  cancel(timer: number): void {
    const place = this.#place[timer];
    if (place < 0) return;
    this.#place[timer] = -1;
    const last = this.#heap[--this.#size];
    if (last === timer) return;
    // The last one may belong above or below the gap: it comes from another branch.
    if (place > 0 && this.#before(last, this.#heap[(place - 1) >> 2])) this.#rise(place, last);
    else this.#sink(place, last);
  }

  #before(a: number, b: number): boolean {
    const x = this.when[a];
    const y = this.when[b];
    return x < y || (x === y && a < b);
  }

  #rise(from: number, timer: number): void {
    const heap = this.#heap;
    let at = from;
    while (at > 0) {
      const parent = (at - 1) >> 2;
      const above = heap[parent];
      if (!this.#before(timer, above)) break;
      heap[at] = above;
      this.#place[above] = at;
      at = parent;
    }
    heap[at] = timer;
    this.#place[timer] = at;
  }

  #sink(from: number, timer: number): void {
    const heap = this.#heap;
    const size = this.#size;
    let at = from;
    for (;;) {
      const child = (at << 2) + 1;
      if (child >= size) break;
      let least = child;
      const end = child + 4 < size ? child + 4 : size;
      for (let i = child + 1; i < end; i++) if (this.#before(heap[i], heap[least])) least = i;
      const below = heap[least];
      if (!this.#before(below, timer)) break;
      heap[at] = below;
      this.#place[below] = at;
      at = least;
    }
    heap[at] = timer;
    this.#place[timer] = at;
  }
}

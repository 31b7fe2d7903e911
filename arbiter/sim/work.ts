/**
 * Requests and uThreads, as numbers into arrays that grow, and the queues in which
 * they stand. A request is split into as many uThreads as it says; it is done when
 * the last of them is.
 */

export const NONE = 0;

/** Arrays with free places that are linked; place 0 is never used. */
class Pool {
  #free = 0;
  #used = 1;
  size: number;
  /** Doubles the arrays. */
  readonly #grow: (size: number) => Int32Array;
  /** The link of each place, which the free ones use. */
  #next: Int32Array;

  constructor(size: number, grow: (size: number) => Int32Array) {
    this.size = size;
    this.#grow = grow;
    this.#next = grow(size);
  }

  take(): number {
    const free = this.#free;
    if (free !== 0) {
      this.#free = this.#next[free];
      return free;
    }
    if (this.#used === this.size) {
      this.size *= 2;
      this.#next = this.#grow(this.size);
    }
    return this.#used++;
  }

  give(place: number): void {
    this.#next[place] = this.#free;
    this.#free = place;
  }
}

function grown<T extends Int32Array | Float64Array>(old: T, fresh: T): T {
  fresh.set(old);
  return fresh;
}

const SIZE = 1024;

export class Requests {
  next = new Int32Array(SIZE);
  due = new Float64Array(SIZE);
  serviceNs = new Float64Array(SIZE);
  fanout = new Int32Array(SIZE);
  /** uThreads that are not done yet. */
  parts = new Int32Array(SIZE);
  readonly #pool = new Pool(SIZE, (size) => {
    this.due = grown(this.due, new Float64Array(size));
    this.serviceNs = grown(this.serviceNs, new Float64Array(size));
    this.fanout = grown(this.fanout, new Int32Array(size));
    this.parts = grown(this.parts, new Int32Array(size));
    return (this.next = grown(this.next, new Int32Array(size)));
  });

  make(due: number, serviceNs: number, fanout: number): number {
    const request = this.#pool.take();
    this.due[request] = due;
    this.serviceNs[request] = serviceNs;
    this.fanout[request] = fanout;
    this.parts[request] = fanout;
    this.next[request] = NONE;
    return request;
  }

  drop(request: number): void {
    this.#pool.give(request);
  }
}

export class UThreads {
  next = new Int32Array(SIZE);
  /** The request that it is a part of; NONE: it computes for ever. */
  request = new Int32Array(SIZE);
  /** Nanoseconds of work that are left. */
  left = new Float64Array(SIZE);
  /** Since when it is runnable. */
  ready = new Float64Array(SIZE);
  readonly #pool = new Pool(SIZE, (size) => {
    this.request = grown(this.request, new Int32Array(size));
    this.left = grown(this.left, new Float64Array(size));
    this.ready = grown(this.ready, new Float64Array(size));
    return (this.next = grown(this.next, new Int32Array(size)));
  });

  make(request: number, left: number, ready: number): number {
    const uthread = this.#pool.take();
    this.request[uthread] = request;
    this.left[uthread] = left;
    this.ready[uthread] = ready;
    this.next[uthread] = NONE;
    return uthread;
  }

  drop(uthread: number): void {
    this.#pool.give(uthread);
  }
}

/** Queues, one for each owner, of things that have a `next`. */
export class Queues {
  readonly head: Int32Array;
  readonly length: Int32Array;
  readonly #tail: Int32Array;
  readonly #things: { readonly next: Int32Array };

  constructor(owners: number, things: { readonly next: Int32Array }) {
    this.head = new Int32Array(owners);
    this.length = new Int32Array(owners);
    this.#tail = new Int32Array(owners);
    this.#things = things;
  }

  push(owner: number, thing: number): void {
    this.#things.next[thing] = NONE;
    if (this.head[owner] === NONE) this.head[owner] = thing;
    else this.#things.next[this.#tail[owner]] = thing;
    this.#tail[owner] = thing;
    this.length[owner]++;
  }

  /** NONE if there is nothing. */
  pop(owner: number): number {
    const thing = this.head[owner];
    if (thing === NONE) return NONE;
    this.head[owner] = this.#things.next[thing];
    this.length[owner]--;
    return thing;
  }
}

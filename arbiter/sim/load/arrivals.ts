/**
 * Open-loop arrivals, one after the other: when the next request of a VM is due and
 * how much work it is. What the VM does with them has no influence on them, and
 * neither has the policy: the same seed gives the same requests to every policy.
 */
import type { Service } from '../../../bench/load/schedule.ts';
import type { Random } from '../../../bench/load/random.ts';
import { around, exponential } from '../../../bench/load/random.ts';

export interface Arrivals {
  /** The present request: nanoseconds after the beginning, its work, and into how many parts it is split. */
  readonly due: number;
  readonly serviceNs: number;
  readonly fanout: number;
  /** On to the next one. Returns false if there is none. */
  next(): boolean;
}

/** Arrivals and services are drawn from streams of their own, so that neither shifts the other. */
export interface Streams {
  readonly arrivals: Random;
  readonly service: Random;
}

export type DrawService = () => number;

export function serviceOf(service: Service, draw: Random): DrawService {
  switch (service.kind) {
    case 'constant':
      return () => service.ns;
    case 'exponential':
      return () => exponential(draw, service.meanNs);
    case 'bimodal':
      return () => (draw() < service.longShare ? service.longNs : service.shortNs);
  }
}

export interface Phase {
  readonly ns: number;
  readonly perSecond: number;
  readonly fanout: number;
}

/** A Poisson process whose rate, and whose requests' parallelism, changes from phase to phase, round and round. */
export class Phased implements Arrivals {
  due = 0;
  serviceNs = 0;
  fanout = 1;
  readonly #phases: readonly Phase[];
  readonly #draw: Random;
  readonly #service: DrawService;
  #phase = 0;
  #end: number;

  constructor(phases: readonly Phase[], streams: Streams, service: DrawService) {
    this.#phases = phases;
    this.#draw = streams.arrivals;
    this.#service = service;
    this.#end = phases[0].ns;
  }

  next(): boolean {
    // The exponential distribution has no memory, so each phase may begin anew.
    let from = this.due;
    for (;;) {
      const { perSecond, fanout } = this.#phases[this.#phase];
      const due = perSecond > 0 ? from + exponential(this.#draw, 1e9 / perSecond) : Infinity;
      if (due < this.#end || this.#end === Infinity) {
        this.due = due;
        this.serviceNs = this.#service();
        this.fanout = fanout;
        return due !== Infinity;
      }
      from = this.#end;
      this.#phase = (this.#phase + 1) % this.#phases.length;
      this.#end += this.#phases[this.#phase].ns;
    }
  }
}

export const poisson = (
  perSecond: number,
  fanout: number,
  streams: Streams,
  service: DrawService,
): Arrivals => new Phased([{ ns: Infinity, perSecond, fanout }], streams, service);

const BURST_SPREAD = 0.5;

/** Bursts of Poisson arrivals and pauses without any; the lengths of both vary by half around their means. */
export class Bursty implements Arrivals {
  due = 0;
  serviceNs = 0;
  readonly fanout: number;
  readonly #gapNs: number;
  readonly #onNs: number;
  readonly #offNs: number;
  readonly #draw: Random;
  readonly #service: DrawService;
  #end = 0;

  constructor(
    spec: { perSecond: number; onNs: number; offNs: number },
    fanout: number,
    streams: Streams,
    service: DrawService,
  ) {
    this.#gapNs = 1e9 / spec.perSecond;
    this.#onNs = spec.onNs;
    this.#offNs = spec.offNs;
    this.fanout = fanout;
    this.#draw = streams.arrivals;
    this.#service = service;
  }

  next(): boolean {
    this.due += exponential(this.#draw, this.#gapNs);
    while (this.due >= this.#end) {
      const begin = this.#end + around(this.#draw, this.#offNs, BURST_SPREAD);
      this.#end = begin + around(this.#draw, this.#onNs, BURST_SPREAD);
      this.due = begin + exponential(this.#draw, this.#gapNs);
    }
    this.serviceNs = this.#service();
    return true;
  }
}

/** Requests that are known beforehand, in the order of their times. */
export class Listed implements Arrivals {
  due = 0;
  serviceNs = 0;
  readonly fanout: number;
  readonly #dueNs: Float64Array;
  readonly #serviceNs: Float64Array;
  #at = 0;

  constructor(dueNs: Float64Array, serviceNs: Float64Array, fanout: number) {
    this.#dueNs = dueNs;
    this.#serviceNs = serviceNs;
    this.fanout = fanout;
  }

  next(): boolean {
    if (this.#at >= this.#dueNs.length) return false;
    this.due = this.#dueNs[this.#at];
    this.serviceNs = this.#serviceNs[this.#at++];
    return true;
  }
}

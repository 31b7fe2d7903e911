/**
 * Open-loop arrival schedules: when each request is due and how much work it is,
 * laid down before anything runs. Nobody's slowness moves an arrival, so a queue
 * that builds up is seen by every request that waits in it.
 *
 * Times are nanoseconds here and become TSC ticks in the load area.
 */
import { around, exponential, random } from './random.ts';
import type { Random } from './random.ts';

export type Arrivals =
  | { kind: 'poisson'; perSecond: number }
  /** Bursts with Poisson arrivals, and pauses without any; the lengths of both vary by half around their means. */
  | { kind: 'bursty'; perSecond: number; onMs: number; offMs: number };

export type Service =
  | { kind: 'constant'; ns: number }
  | { kind: 'exponential'; meanNs: number }
  /** Mostly short, now and then long: the load on which queues behind one another hurt. */
  | { kind: 'bimodal'; shortNs: number; longNs: number; longShare: number };

export interface LoadSpec {
  seed: number;
  seconds: number;
  arrivals: Arrivals;
  service: Service;
  /** Each request is split into this many parallel uThreads; 0 and 1: not at all. */
  fanout?: number;
}

export interface Schedule {
  readonly spec: LoadSpec;
  /** Nanoseconds after the start, ascending. */
  readonly dueNs: Float64Array;
  readonly serviceNs: Uint32Array;
  readonly fanout: number;
}

/** The contract's field has 32 bits; a request of a second or more is a mistake anyway. */
const SERVICE_MAX_NS = 1_000_000_000;
const BURST_SPREAD = 0.5;
/** More than this does not fit into memory sensibly, and no releaser keeps up with it. */
const REQUESTS_MAX = 20_000_000;

const STREAM_ARRIVALS = 0;
const STREAM_SERVICE = 1;

function positive(value: number, name: string): void {
  if (!(value > 0) || !Number.isFinite(value)) {
    throw new RangeError(`${name} must be a positive number, not ${value}`);
  }
}

function check(spec: LoadSpec): void {
  positive(spec.seconds, 'seconds');
  if (!Number.isInteger(spec.seed)) throw new RangeError(`seed must be an integer, not ${spec.seed}`);
  const { arrivals, service, fanout = 1 } = spec;
  positive(arrivals.perSecond, 'arrivals.perSecond');
  if (arrivals.kind === 'bursty') {
    positive(arrivals.onMs, 'arrivals.onMs');
    positive(arrivals.offMs, 'arrivals.offMs');
  }
  if (service.kind === 'constant') positive(service.ns, 'service.ns');
  if (service.kind === 'exponential') positive(service.meanNs, 'service.meanNs');
  if (service.kind === 'bimodal') {
    positive(service.shortNs, 'service.shortNs');
    positive(service.longNs, 'service.longNs');
    if (!(service.longShare >= 0 && service.longShare <= 1)) {
      throw new RangeError(`service.longShare must be 0 to 1, not ${service.longShare}`);
    }
  }
  if (!Number.isInteger(fanout) || fanout < 0 || fanout > 1024) {
    throw new RangeError(`fanout must be an integer from 0 to 1024, not ${fanout}`);
  }
  if (meanRate(arrivals) * spec.seconds > REQUESTS_MAX) {
    throw new RangeError(
      `the schedule would have more than ${REQUESTS_MAX} requests; lower its rate or length`,
    );
  }
}

/** Requests a second in the long run. */
export function meanRate(arrivals: Arrivals): number {
  if (arrivals.kind === 'poisson') return arrivals.perSecond;
  return (arrivals.perSecond * arrivals.onMs) / (arrivals.onMs + arrivals.offMs);
}

export function meanServiceNs(service: Service): number {
  if (service.kind === 'constant') return service.ns;
  if (service.kind === 'exponential') return service.meanNs;
  return service.shortNs * (1 - service.longShare) + service.longNs * service.longShare;
}

/** Share of one core that the load needs, in the long run and while a burst lasts. */
export function utilisation(spec: LoadSpec): { mean: number; burst: number } {
  const seconds = meanServiceNs(spec.service) / 1e9;
  return { mean: meanRate(spec.arrivals) * seconds, burst: spec.arrivals.perSecond * seconds };
}

function* arrivalTimes(arrivals: Arrivals, endNs: number, draw: Random): Generator<number> {
  const gapNs = 1e9 / arrivals.perSecond;
  if (arrivals.kind === 'poisson') {
    for (let t = exponential(draw, gapNs); t < endNs; t += exponential(draw, gapNs)) yield t;
    return;
  }
  // It begins with a pause: the VMs have only just been told to start.
  let from = around(draw, arrivals.offMs * 1e6, BURST_SPREAD);
  while (from < endNs) {
    const to = Math.min(endNs, from + around(draw, arrivals.onMs * 1e6, BURST_SPREAD));
    // The exponential distribution has no memory, so each burst may begin anew.
    for (let t = from + exponential(draw, gapNs); t < to; t += exponential(draw, gapNs)) yield t;
    from = to + around(draw, arrivals.offMs * 1e6, BURST_SPREAD);
  }
}

function drawService(service: Service, draw: Random): number {
  switch (service.kind) {
    case 'constant':
      return service.ns;
    case 'exponential':
      return exponential(draw, service.meanNs);
    case 'bimodal':
      return draw() < service.longShare ? service.longNs : service.shortNs;
  }
}

/** The same spec gives the same schedule, request by request. */
export function makeSchedule(spec: LoadSpec): Schedule {
  check(spec);
  const due = [...arrivalTimes(spec.arrivals, spec.seconds * 1e9, random(spec.seed, STREAM_ARRIVALS))];
  const draw = random(spec.seed, STREAM_SERVICE);
  const serviceNs = Uint32Array.from(due, () =>
    Math.max(1, Math.min(SERVICE_MAX_NS, Math.round(drawService(spec.service, draw)))),
  );
  return { spec, dueNs: Float64Array.from(due), serviceNs, fanout: spec.fanout ?? 1 };
}

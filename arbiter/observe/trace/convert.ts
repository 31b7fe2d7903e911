/**
 * A trace in the JSON that Perfetto and Chrome read: a track for each vCPU, a slice
 * for each time that a uThread ran, was off its core or had it given back, marks for
 * what happens at a moment, and arrows from whoever woke, made or lost a uThread to
 * where it runs next.
 */
import {
  TRACE_BACK,
  TRACE_BLOCK,
  TRACE_EXIT,
  TRACE_FRONT,
  TRACE_PARK,
  TRACE_PREEMPT,
  TRACE_RESUME,
  TRACE_RUN,
  TRACE_SPAWN,
  TRACE_STEAL,
  TRACE_TAKE,
  TRACE_TIMER,
  TRACE_WAKE,
  TRACE_YIELD,
} from '../../abi/layout.gen.ts';
import type { EventLog, TraceEvent } from './events.ts';

export interface TracedVm {
  name: string;
  log: EventLog;
}

/** One entry of `traceEvents`. */
export type Entry = Record<string, unknown>;

interface Slice {
  name: string;
  uthread: number;
  since: number;
  args: Record<string, unknown>;
}

/** Why a uThread's slice ended. */
const LEFT: Readonly<Record<number, string>> = {
  [TRACE_BACK]: 'gave way to others',
  [TRACE_FRONT]: 'gave way to a park request',
  [TRACE_BLOCK]: 'blocked',
  [TRACE_EXIT]: 'ended',
  [TRACE_PREEMPT]: 'its time slice was over',
};

/** At most so many arrows wait for the uThread to run: numbers may come from a guest that lies. */
const WAITING_MAX = 100_000;

class Converter {
  private readonly pid: number;
  private readonly us: (time: number) => number;
  private readonly open: (Slice | undefined)[];
  /** Of each uThread that was made, woken or taken: the arrow that ends where it runs. */
  private readonly arrows = new Map<number, number>();
  private readonly nextArrow: () => number;
  private readonly end: number;

  constructor(
    pid: number,
    log: EventLog,
    us: (time: number) => number,
    end: number,
    nextArrow: () => number,
  ) {
    this.pid = pid;
    this.us = us;
    this.end = end;
    this.open = new Array<Slice | undefined>(log.vcpus);
    this.nextArrow = nextArrow;
  }

  *take(e: TraceEvent): Generator<Entry> {
    const { vcpu, event, number, uthread, time } = e;
    switch (event) {
      case TRACE_RUN:
        yield* this.close(vcpu, time, {});
        this.open[vcpu] = { name: `uThread ${uthread}`, uthread, since: time, args: {} };
        yield* this.arrive(vcpu, uthread, time);
        return;
      case TRACE_BACK:
      case TRACE_FRONT:
      case TRACE_BLOCK:
      case TRACE_EXIT:
      case TRACE_PREEMPT:
        if (this.open[vcpu]?.uthread === uthread) yield* this.close(vcpu, time, { then: LEFT[event] });
        return;
      case TRACE_SPAWN:
      case TRACE_WAKE:
        yield this.mark(vcpu, time, event === TRACE_SPAWN ? 'spawn' : 'wake', { uthread });
        yield* this.depart(vcpu, uthread, time);
        return;
      case TRACE_TAKE:
        // The slice has gone on since the host held the vCPU, which its guest cannot see.
        if (number < this.open.length && this.open[number]?.uthread === uthread) {
          yield* this.depart(number, uthread, time);
          yield* this.close(number, time, { then: `held, and taken over by vCPU ${vcpu}` });
        }
        yield this.mark(vcpu, time, 'take over', { uthread, from: `vCPU ${number}` });
        return;
      case TRACE_STEAL:
        yield this.mark(vcpu, time, 'steal', { uthreads: number });
        return;
      case TRACE_TIMER:
        yield this.mark(vcpu, time, 'timer', { uthread });
        return;
      case TRACE_PARK:
      case TRACE_YIELD:
        yield* this.close(vcpu, time, {});
        this.open[vcpu] = {
          name: event === TRACE_PARK ? 'parked' : 'yielded',
          uthread: 0,
          since: time,
          args: {},
        };
        return;
      case TRACE_RESUME:
        if (this.open[vcpu]?.uthread === 0) yield* this.close(vcpu, time, { 'resumed on core': number });
        else yield this.mark(vcpu, time, 'entered', { core: number });
        return;
      default:
        // Of a newer guest, or nonsense.
        return;
    }
  }

  /** What is still going on when the trace ends. */
  *finish(): Generator<Entry> {
    for (let vcpu = 0; vcpu < this.open.length; vcpu++)
      yield* this.close(vcpu, this.end, { then: 'the trace ends' });
  }

  private *close(vcpu: number, time: number, args: Record<string, unknown>): Generator<Entry> {
    const slice = this.open[vcpu];
    if (slice === undefined) return;
    this.open[vcpu] = undefined;
    const { name, since } = slice;
    const ts = this.us(since);
    // Rounded again: the difference of two rounded numbers has digits of its own.
    const dur = Math.round(Math.max(0, this.us(time) - ts) * 1e3) / 1e3;
    yield {
      ph: 'X',
      name,
      cat: slice.uthread === 0 ? 'core' : 'uthread',
      ...{ pid: this.pid, tid: vcpu, ts, dur },
      args: { ...slice.args, ...args },
    };
  }

  private mark(vcpu: number, time: number, name: string, args: Record<string, unknown>): Entry {
    return { ph: 'i', s: 't', name, cat: 'event', pid: this.pid, tid: vcpu, ts: this.us(time), args };
  }

  /** An arrow begins in the slice that is open here; without one there is nothing to fix it to. */
  private *depart(vcpu: number, uthread: number, time: number): Generator<Entry> {
    if (this.open[vcpu] === undefined || this.arrows.size >= WAITING_MAX) return;
    const id = this.nextArrow();
    this.arrows.set(uthread, id);
    yield { ph: 's', name: 'ready', cat: 'flow', id, pid: this.pid, tid: vcpu, ts: this.us(time) };
  }

  private *arrive(vcpu: number, uthread: number, time: number): Generator<Entry> {
    const id = this.arrows.get(uthread);
    if (id === undefined) return;
    this.arrows.delete(uthread);
    yield { ph: 'f', bp: 'e', name: 'ready', cat: 'flow', id, pid: this.pid, tid: vcpu, ts: this.us(time) };
  }
}

/** All entries, in an order that is good for writing. `end`: when the trace ended, in the unit of events. */
export function* convert(vms: readonly TracedVm[], tscKhz: number, end: number): Generator<Entry> {
  // A thousandth of a microsecond is finer than the time stamps are.
  const us = (time: number): number => Math.round(((time * 16) / tscKhz) * 1e6) / 1e3;
  let arrows = 0;
  for (const [i, { name, log }] of vms.entries()) {
    const pid = i + 1;
    const meta = (tid: number, what: string, args: object): Entry => ({
      ph: 'M',
      name: what,
      pid,
      tid,
      args,
    });
    yield meta(0, 'process_name', { name: `VM ${name}` });
    for (let vcpu = 0; vcpu < log.vcpus; vcpu++) {
      yield meta(vcpu, 'thread_name', { name: `vCPU ${vcpu}` });
      yield meta(vcpu, 'thread_sort_index', { sort_index: vcpu });
    }
    const converter = new Converter(pid, log, us, end, () => ++arrows);
    for (const event of log.sorted()) yield* converter.take(event);
    yield* converter.finish();
  }
}

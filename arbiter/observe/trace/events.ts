/** What a trace consists of, once it has been read. */
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

/** What the summary calls each event. */
export const EVENT_NAMES: Readonly<Record<number, string>> = {
  [TRACE_RUN]: 'run',
  [TRACE_BACK]: 'back',
  [TRACE_FRONT]: 'front',
  [TRACE_BLOCK]: 'block',
  [TRACE_EXIT]: 'exit',
  [TRACE_SPAWN]: 'spawn',
  [TRACE_WAKE]: 'wake',
  [TRACE_TAKE]: 'take',
  [TRACE_STEAL]: 'steal',
  [TRACE_PARK]: 'park',
  [TRACE_YIELD]: 'yield',
  [TRACE_RESUME]: 'resume',
  [TRACE_TIMER]: 'timer',
  [TRACE_PREEMPT]: 'preempt',
};

/** Time is counted in this: 16 ticks of the time stamp counter. */
export interface TraceEvent {
  /** Since the trace began. */
  time: number;
  vcpu: number;
  event: number;
  /** What the event comes with: a vCPU, a core, a count. */
  number: number;
  uthread: number;
}

const CHUNK = 1 << 14;
const WORDS = 4;

/** The events of one VM. Kept in a few large arrays: a million objects would be slow to make and to collect. */
export class EventLog {
  readonly vcpus: number;
  /** Events that there was no room for. */
  dropped = 0;
  length = 0;
  private readonly most: number;
  private readonly chunks: Float64Array[] = [];
  /** The latest time of each vCPU: a guest that says that time runs backwards is not believed. */
  private readonly latest: Float64Array;

  constructor(vcpus: number, most: number) {
    this.vcpus = vcpus;
    this.most = most;
    this.latest = new Float64Array(vcpus);
  }

  get full(): boolean {
    return this.length >= this.most;
  }

  add(vcpu: number, time: number, what: number, uthread: number): void {
    if (this.full) {
      this.dropped++;
      return;
    }
    const at = (this.length % CHUNK) * WORDS;
    if (at === 0) this.chunks.push(new Float64Array(CHUNK * WORDS));
    const chunk = this.chunks[this.chunks.length - 1];
    this.latest[vcpu] = Math.max(this.latest[vcpu], time);
    chunk[at] = this.latest[vcpu];
    chunk[at + 1] = vcpu;
    chunk[at + 2] = what >>> 0;
    chunk[at + 3] = uthread >>> 0;
    this.length++;
  }

  get(i: number): TraceEvent {
    const chunk = this.chunks[Math.floor(i / CHUNK)];
    const at = (i % CHUNK) * WORDS;
    const what = chunk[at + 2];
    return {
      time: chunk[at],
      vcpu: chunk[at + 1],
      event: what % 256,
      number: Math.floor(what / 256),
      uthread: chunk[at + 3],
    };
  }

  /** All events in the order of their times; of one vCPU, in the order in which they happened. */
  *sorted(): Generator<TraceEvent> {
    const time = (i: number): number => this.chunks[Math.floor(i / CHUNK)][(i % CHUNK) * WORDS];
    // Stable: events of one vCPU are in order, and equal times keep it.
    const order = Uint32Array.from({ length: this.length }, (_, i) => i).sort(
      (a, b) => time(a) - time(b) || a - b,
    );
    for (const i of order) yield this.get(i);
  }

  /** How many there are of each kind, by name. */
  counts(): Record<string, number> {
    const counts: Record<string, number> = {};
    for (let i = 0; i < this.length; i++) {
      const name = EVENT_NAMES[this.get(i).event] ?? 'unknown';
      counts[name] = (counts[name] ?? 0) + 1;
    }
    return counts;
  }
}

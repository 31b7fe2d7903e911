/** Has VMs record events for a while, and reads them while they do. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Clock } from '../../../native/index.ts';
import { TRACE_AHEAD, TRACE_TIME_SHIFT } from '../../abi/layout.gen.ts';
import { EventLog } from './events.ts';
import { RingReader } from './ring.ts';

/** What can be traced: a VM, or a test's idea of one. */
export interface Target {
  readonly name: string;
  readonly vcpus: number;
  readonly stampShift: number;
  readonly rings: readonly Int32Array[];
  record(until: number): void;
}

export interface Collected {
  name: string;
  log: EventLog;
  /** Overwritten before they could be read. */
  lost: number;
}

export interface CollectOptions {
  seconds: number;
  /** Events that are kept of all VMs together. */
  most: number;
  /** Called now and then: how much time is over, and how many events there are. */
  progress?: (seconds: number, events: number) => void;
  /** Ends it early, with what there is. */
  signal?: AbortSignal;
}

/** Between two visits. A ring has room for four thousand events. */
const VISIT_MS = 1;
const PROGRESS_MS = 100;
/** So many of the units of time have a time stamp's upper half one more. */
const UPPER = 2 ** (32 - TRACE_TIME_SHIFT);

/** The time stamp counter in the unit of records. */
class RecordClock {
  private readonly clock: Clock;

  constructor(stampShift: number) {
    this.clock = new Clock(stampShift);
  }

  now(): number {
    this.clock.now();
    const [low, high] = this.clock.words;
    return (high >>> 0) * UPPER + (low >>> TRACE_TIME_SHIFT);
  }

  /** A stamp that lies as far ahead as may be, twice; never 0, which means off. */
  ahead(): number {
    return (this.clock.stamp() + TRACE_AHEAD / 2) | 0 || 1;
  }
}

/** When a record was made, given its time's 32 bits and that of a visit, both sides of which it may lie. */
export const whole = (time: number, now: number): number => now + ((time - (now % 2 ** 32)) | 0);

export async function collect(
  targets: readonly Target[],
  { seconds, most, progress, signal }: CollectOptions,
): Promise<{ vms: Collected[]; end: number; seconds: number }> {
  const clock = new RecordClock(targets[0]?.stampShift ?? 0);
  const start = clock.now();
  const share = Math.max(1, Math.floor(most / Math.max(1, targets.length)));
  const vms = targets.map((target) => ({
    target,
    log: new EventLog(target.vcpus, share),
    readers: target.rings.map((ring) => new RingReader(ring)),
  }));
  const events = (): number => vms.reduce((sum, { log }) => sum + log.length, 0);
  const visit = (): void => {
    for (const { readers, log } of vms) {
      for (const [vcpu, reader] of readers.entries()) {
        const read: number[] = [];
        reader.read((time, what, uthread) => read.push(time, what, uthread));
        // Looked at afterwards, so that what was read is of the past, and not before the trace began.
        const now = clock.now();
        for (let i = 0; i < read.length; i += 3) {
          const time = Math.min(Math.max(whole(read[i], now) - start, 0), now - start);
          log.add(vcpu, time, read[i + 1], read[i + 2]);
        }
      }
    }
  };
  const began = performance.now();
  const over = (): number => (performance.now() - began) / 1000;
  try {
    let shown = -Infinity;
    while (over() < seconds && !signal?.aborted && vms.some(({ log }) => !log.full)) {
      const until = clock.ahead();
      for (const { target } of vms) target.record(until);
      visit();
      if (performance.now() - shown >= PROGRESS_MS) {
        shown = performance.now();
        progress?.(over(), events());
      }
      await sleep(VISIT_MS);
    }
  } finally {
    for (const { target } of vms) target.record(0);
  }
  // What was recorded since the last visit.
  visit();
  return {
    vms: vms.map(({ target: { name }, log, readers }) => ({
      name,
      log,
      lost: readers.reduce((sum, { lost }) => sum + lost, 0) + log.dropped,
    })),
    end: clock.now() - start,
    seconds: over(),
  };
}

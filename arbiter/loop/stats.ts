/**
 * The loop's shared statistics: one memory file, written by the loop's thread alone
 * and read by hyperfluxd at leisure. The policy's view lies in it too, so what `ps`
 * and `explain` show is what the policy saw, at no cost to the loop.
 *
 * Layout, in 32-bit words: header, counters (float64), view, histograms, records, loads, recording.
 * Readers and writer are of one version (the magic carries it), so the layout is
 * computed here and nowhere else.
 */
import type { View } from '../policy/api.ts';
import { DEFAULT_WEIGHT, HEAD_WORDS, MAX_CORES, MAX_VMS, NO_PLAN, NO_VM } from '../policy/api.ts';
import type { Recording } from '../record/format.ts';
import { R_BYTES, R_WORDS } from '../record/format.ts';
import { HISTOGRAM_BUCKETS } from './histogram.ts';

export const STATS_MAGIC = 0x46585337;

// Header words.
export const S_MAGIC = 0;
export const S_STATE = 1;
export const S_PID = 2;
export const S_EPOCH = 3;
/** Records written so far; the next goes to this number modulo RECORDS. */
export const S_RECORDS = 4;
export const S_WARM_UP_US = 5;
export const S_TSC_KHZ = 6;
export const S_STAMP_SHIFT = 7;
/** How often an arbiter has started on this memory: 1 for the first. */
export const S_STARTS = 8;
export const S_ACTIVE = 9;
/** 1: the forced-park deadline is kept at SCHED_FIFO; 0: by an ordinary thread. */
export const S_DEADLINE_FIFO = 10;
/** Who moves the cores of the arbiter that is live. */
export const S_BRIDGE = 11;
/** TSC when the loop went live, of which the time in turns is counted. */
export const S_LIVE_TSC_LO = 12;
export const S_LIVE_TSC_HI = 13;
/** The policy's name, UTF-8, NUL-padded. */
export const S_POLICY = 16;
export const S_POLICY_BYTES = 64;
const HEADER_WORDS = 64;

// S_STATE
export const STATE_OFF = 0;
export const STATE_WARMING = 1;
export const STATE_LIVE = 2;
export const STATE_STOPPED = 3;
/** The lease was lost to another arbiter. */
export const STATE_STALE = 4;

// S_BRIDGE
export const BRIDGE_AFFINITY = 0;
export const BRIDGE_KFLUX = 1;

/** Counters, float64 each: exact to 2^53, and a plain store for the loop. */
export const COUNTERS = [
  'turns',
  'decisions',
  'commands',
  'grants',
  'moves',
  'parks',
  'heirs',
  'failed',
  'busy',
  'owner_changed',
  'in_flight',
  'dead',
  'invalid',
  'edits',
  'policy_faults',
  'core_events',
  'messages',
  'attached',
  'detached',
  'offline',
  'deciding_ns',
  'rests',
  'resting_ns',
  'preempts',
] as const;
export type Counter = (typeof COUNTERS)[number];
const COUNTER_WORDS = 2 * 64;
/** Index of a counter; to be looked up once, not in the loop. */
export const counter = (name: Counter): number => COUNTERS.indexOf(name);

/** Histograms, in nanoseconds. */
export const HISTOGRAMS = ['turn_ns', 'gap_ns', 'decision_ns', 'chunk_ns'] as const;
export type Histogram = (typeof HISTOGRAMS)[number];

// A decision record.
/** Number of the record + 1, written last and cleared first: a reader that sees it change starts again. */
export const REC_SEQ = 0;
export const REC_TSC_LO = 1;
export const REC_TSC_HI = 2;
export const REC_CORE = 3;
/** VM slot that had the core, that the policy wanted, that the guard allowed; NO_VM: nobody. */
export const REC_WAS = 4;
export const REC_ASKED = 5;
export const REC_ALLOWED = 6;
export const REC_FROM = 7;
export const REC_TO = 8;
export const REC_OP = 9;
export const REC_RESULT = 10;
/** The policy's reason, and the guard's or the loop's if it changed something. */
export const REC_WHY = 11;
export const REC_EDIT = 12;
export const REC_DELAY = 13;
export const REC_WANTS = 14;
export const REC_HAD = 15;
export const REC_WORDS = 16;
export const RECORDS = 4096;

export interface Stats {
  readonly words: Int32Array;
  readonly counters: Float64Array;
  readonly view: View;
  /** Core number of each core index. */
  readonly coreId: Int32Array;
  readonly histograms: Int32Array;
  readonly records: Int32Array;
  /** By slot, written by the arbiter's main thread: pid of the load that is armed, 0 none, -1 refused. */
  readonly loads: Int32Array;
  /** By slot, written by the same: generation of the VM that it manages there, 0 none. */
  readonly adopted: Int32Array;
  /** Turns for whoever records; see record/. */
  readonly recording: Recording;
}

// As many arrays as statsOver takes; HEADER_WORDS is even, which float64 needs.
const VM_ARRAYS = 16;
const CORE_ARRAYS = 10;
const VIEW_AT = HEADER_WORDS + COUNTER_WORDS;
const CORES_AT = VIEW_AT + HEAD_WORDS + VM_ARRAYS * MAX_VMS;
const HISTOGRAMS_AT = CORES_AT + CORE_ARRAYS * MAX_CORES;
const RECORDS_AT = HISTOGRAMS_AT + HISTOGRAMS.length * HISTOGRAM_BUCKETS;
const LOADS_AT = RECORDS_AT + RECORDS * REC_WORDS;
const RECORDING_AT = LOADS_AT + 2 * MAX_VMS;
const END = RECORDING_AT + R_WORDS + R_BYTES / 4;
/** In whole pages. */
export const STATS_BYTES = (END * 4 + 4095) & ~4095;

export function statsOver(buffer: ArrayBufferLike): Stats {
  if (buffer.byteLength < STATS_BYTES) {
    throw new RangeError(`the statistics memory has ${buffer.byteLength} bytes, ${STATS_BYTES} are needed`);
  }
  let at = VIEW_AT;
  const take = (words: number): Int32Array => {
    const array = new Int32Array(buffer, at * 4, words);
    at += words;
    return array;
  };
  const head = take(HEAD_WORDS);
  const vms = (): Int32Array => take(MAX_VMS);
  const cores = (): Int32Array => take(MAX_CORES);
  const view: View = {
    head,
    hot: vms(),
    vmClass: vms(),
    vmMin: vms(),
    vmMax: vms(),
    vmWeight: vms(),
    vmSlo: vms(),
    vmGroup: vms(),
    vmHint: vms(),
    vmHintUntil: vms(),
    vmPlan: vms(),
    vmPlanWhy: vms(),
    vmCores: vms(),
    vmWants: vms(),
    vmDelay: vms(),
    vmAway: vms(),
    vmFlags: vms(),
    coreVm: cores(),
    coreFlags: cores(),
    coreAge: cores(),
    coreLast: cores(),
    coreHeir: cores(),
    target: cores(),
    why: cores(),
    heir: cores(),
  };
  const coreId = cores();
  return {
    words: new Int32Array(buffer, 0, HEADER_WORDS),
    counters: new Float64Array(buffer, HEADER_WORDS * 4, COUNTERS.length),
    view,
    coreId,
    histograms: new Int32Array(buffer, HISTOGRAMS_AT * 4, HISTOGRAMS.length * HISTOGRAM_BUCKETS),
    records: new Int32Array(buffer, RECORDS_AT * 4, RECORDS * REC_WORDS),
    loads: new Int32Array(buffer, LOADS_AT * 4, MAX_VMS),
    adopted: new Int32Array(buffer, (LOADS_AT + MAX_VMS) * 4, MAX_VMS),
    recording: {
      words: new Int32Array(buffer, RECORDING_AT * 4, R_WORDS),
      ring: new Uint8Array(buffer, (RECORDING_AT + R_WORDS) * 4, R_BYTES),
    },
  };
}

/** One histogram's buckets. */
export function histogramOf(stats: Stats, name: Histogram): Int32Array {
  const at = HISTOGRAMS.indexOf(name) * HISTOGRAM_BUCKETS;
  return stats.histograms.subarray(at, at + HISTOGRAM_BUCKETS);
}

/** For a new arbiter on the memory of an earlier one. Records stay: what happened before is worth explaining. */
export function resetStats(stats: Stats): void {
  const { view } = stats;
  view.vmAway.fill(0);
  for (const array of [view.head, view.hot, view.vmCores, view.vmWants, view.vmDelay, view.vmFlags])
    array.fill(0);
  for (const array of [view.vmClass, view.vmMin, view.vmMax, view.vmSlo, view.vmGroup]) array.fill(0);
  for (const array of [view.vmHint, view.vmHintUntil, view.vmPlanWhy]) array.fill(0);
  view.vmWeight.fill(DEFAULT_WEIGHT);
  view.vmPlan.fill(NO_PLAN);
  for (const array of [view.coreFlags, view.coreAge, view.why]) array.fill(0);
  for (const array of [view.coreVm, view.coreLast, view.coreHeir, view.target, view.heir]) array.fill(NO_VM);
  stats.histograms.fill(0);
  stats.counters.fill(0);
  stats.loads.fill(0);
  stats.adopted.fill(0);
  stats.recording.words.fill(0);
}

/**
 * The turn: one pass of the loop, and `chunk`, which does many.
 *
 * Data flows one way: cores and summary lines, policy, guard, commands, bridge. A
 * turn in which nothing changed and nobody has work ends after the scan. The loop
 * is entered through chunk(), again and again: an endless loop would be compiled
 * while it runs, with its numbers boxed. Nothing here allocates; numbers are 32-bit
 * integers, or floats that live in typed arrays.
 */
import type { Decider } from '../policy/api.ts';
import { HEAD_HOT, HEAD_NOW, smallArray } from '../policy/api.ts';
import { WHY_NONE } from '../policy/reasons.ts';
import { R_UNTIL } from '../record/format.ts';
import { makeRecorder } from '../record/recorder.ts';
import { makeCommands } from './commands.ts';
import type { Cores } from './cores.ts';
import { makeCores } from './cores.ts';
import { bucketOf, HISTOGRAM_BUCKETS } from './histogram.ts';
import { expireHints } from './hints.ts';
import { makePlace } from './place.ts';
import { makeRecords } from './records.ts';
import { makeScan } from './scan.ts';
import { makeSlices } from './slices.ts';
import type { LoopMemory, LoopState } from './state.ts';
import { N_CORES, N_EVENTS, N_HINTS, N_IN_FLIGHT, N_LOADS, N_NUDGE, N_SLICED, N_STALE } from './state.ts';
import { counter, HISTOGRAMS } from './stats.ts';

/** A turn that starts this long after the one before has been interrupted. */
const GAP_NS = 10_000;

const C_TURNS = counter('turns');
const C_DECISIONS = counter('decisions');
const C_EDITS = counter('edits');
const C_FAULTS = counter('policy_faults');
const C_EVENTS = counter('core_events');
const C_DECIDING = counter('deciding_ns');
const H_TURN = HISTOGRAMS.indexOf('turn_ns') * HISTOGRAM_BUCKETS;
const H_GAP = HISTOGRAMS.indexOf('gap_ns') * HISTOGRAM_BUCKETS;
const H_DECISION = HISTOGRAMS.indexOf('decision_ns') * HISTOGRAM_BUCKETS;

export interface Turn {
  /** Does n turns, fewer if the lease is lost. */
  chunk(n: number): void;
  /** Takes in the results of the batch's first `count` commands: for a turn itself, and for the warm-up, which plays failures. */
  settle(count: number): void;
  /** The loop has rested: the time since the last turn is neither a turn's nor a gap. */
  rested(): void;
  /** As `settle`, for a batch of preemptions. */
  settleSlices(count: number): void;
  readonly cores: Cores;
}

/**
 * Builds a loop for one policy and one guard. Call it once in a thread: V8 then
 * folds the arrays into the code and inlines the policy, which is the only one that
 * this code ever sees.
 */
export function makeTurn(mem: LoopMemory, s: LoopState, decider: Decider, guard: () => number): Turn {
  const { n } = s;
  const { head, coreVm, target, why, heir, coreHeir } = s.view;
  const { counters, histograms } = mem.stats;
  const { bridge, clock, releaser } = mem;
  const tsc = clock.words;
  const cores = makeCores(mem, s);
  const scan = makeScan(mem, s);
  const place = makePlace(mem, s);
  const records = makeRecords(mem, s);
  const slices = makeSlices(mem, s);
  const { carryOut, settle } = makeCommands(mem, s, place, records);
  const recording = mem.stats.recording.words;
  const record = makeRecorder(mem.stats.recording, s.view, decider);
  const shift = mem.stampShift;
  const highShift = 31 - shift;
  const nsPerTick = 1e6 / mem.tscKhz;
  /** Low halves of the counter: at the last turn's start, and whether there was one. */
  const last = smallArray(2);

  /** A policy that throws changes nothing: every core and every heir stays as it is. */
  function fault(): void {
    counters[C_FAULTS]++;
    for (let k = 0; k < n[N_CORES]; k++) {
      target[k] = coreVm[k];
      why[k] = WHY_NONE;
      heir[k] = coreHeir[k];
    }
  }

  function decide(): void {
    cores.preset();
    try {
      decider.decide();
    } catch {
      fault();
    }
    if (recording[R_UNTIL] !== 0) record(n[N_NUDGE]);
    counters[C_EDITS] += guard();
    carryOut();
    counters[C_DECISIONS]++;
  }

  function measure(low: number): void {
    if (last[1] !== 0) {
      const ns = (((low - last[0]) | 0) * nsPerTick) | 0;
      histograms[H_TURN + bucketOf(ns)]++;
      if (ns >= GAP_NS) histograms[H_GAP + bucketOf(ns)]++;
    }
    last[0] = low;
    last[1] = 1;
  }

  function turn(): void {
    clock.now();
    const low = tsc[0];
    const now = (low >>> shift) | ((tsc[1] << highShift) << 1);
    measure(low);
    head[HEAD_NOW] = now;
    cores.scan(now);
    scan(now);
    if ((head[HEAD_HOT] | n[N_EVENTS] | n[N_NUDGE]) !== 0) {
      counters[C_EVENTS] += n[N_EVENTS];
      decide();
      n[N_NUDGE] = 0;
      clock.now();
      const ns = (((tsc[0] - low) | 0) * nsPerTick) | 0;
      counters[C_DECIDING] += ns;
      histograms[H_DECISION + bucketOf(ns)]++;
    }
    if (n[N_SLICED] !== 0) slices.scan(now);
    if (n[N_IN_FLIGHT] !== 0) n[N_IN_FLIGHT] = bridge.poll();
    if (n[N_LOADS] !== 0) releaser.poll();
  }

  return {
    cores,
    settle,
    rested(): void {
      last[1] = 0;
    },
    settleSlices: slices.settle,
    chunk(count): void {
      let i = 0;
      for (; i < count && n[N_STALE] === 0; i++) turn();
      counters[C_TURNS] += i;
      if (n[N_HINTS] !== 0) expireHints(s);
      bridge.beat();
    },
  };
}

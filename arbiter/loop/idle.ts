/**
 * `--idle adaptive`: the loop rests while there is nothing that a turn could change.
 *
 * Nothing is active if no core has an owner, none is asked for, no load is armed and no VM
 * wants anything. Then only three things can end that: a message to the loop, which
 * ends the rest at once; a timer of a dormant VM, whose deadline bounds the rest; and work that comes
 * into a dormant VM's ring from elsewhere, which is seen when the rest is over. So a rest
 * begins short, is doubled as long as nothing happens, and is never longer than
 * the bound that the user chose.
 */
import { HEAD_HOT, HEAD_NOW, NO_VM } from '../policy/api.ts';
import type { LoopMemory, LoopState } from './state.ts';
import { N_CORES, N_IN_FLIGHT, N_LOADS, N_NUDGE, N_STALE } from './state.ts';
import { counter } from './stats.ts';

/** The first rest. Shorter ones cost more than they save: a sleep and its wake take tens of microseconds. */
const FIRST_US = 50;
/** Something may have happened that the next turns answer, so as many chunks have to be quiet before the first rest. */
const QUIET_CHUNKS = 8;

const C_RESTS = counter('rests');
const C_RESTING = counter('resting_ns');

export interface Idle {
  /** To be called after each chunk. Returns how long the loop rested, in microseconds; 0: it did not. */
  rest(): number;
}

/**
 * `maxUs`: the longest rest; 0: never rest. `wait` sleeps so many milliseconds, less if a message comes;
 * `nowMs` is the time by which that is measured.
 */
export function makeIdle(
  mem: LoopMemory,
  s: LoopState,
  maxUs: number,
  wait: (ms: number) => void,
  nowMs: () => number,
): Idle {
  const { n, coreOwner, vmHasTimer, vmTimer } = s;
  const { head, hot, coreVm, vmWants } = s.view;
  const { counters } = mem.stats;
  const usPerStamp = (2 ** mem.stampShift * 1000) / mem.tscKhz;
  let quiet = 0;
  let next = FIRST_US;

  /** Microseconds for which nothing can happen that a turn would have to see; 0: something is active. */
  function room(): number {
    if ((n[N_LOADS] | n[N_IN_FLIGHT] | n[N_NUDGE] | n[N_STALE]) !== 0) return 0;
    for (let k = 0; k < n[N_CORES]; k++) {
      if (coreVm[k] !== NO_VM || coreOwner[k] !== NO_VM) return 0;
    }
    let us = maxUs;
    for (let i = 0; i < head[HEAD_HOT]; i++) {
      const vm = hot[i];
      if (vmWants[vm] !== 0) return 0;
      if (vmHasTimer[vm] !== 0) us = Math.min(us, ((vmTimer[vm] - head[HEAD_NOW]) | 0) * usPerStamp);
    }
    return us;
  }

  return {
    rest(): number {
      if (maxUs === 0) return 0;
      const us = Math.min(room(), next);
      if (us < FIRST_US) {
        quiet = 0;
        next = FIRST_US;
        return 0;
      }
      if (++quiet < QUIET_CHUNKS) return 0;
      const began = nowMs();
      wait(us / 1000);
      const rested = (nowMs() - began) * 1000;
      next = Math.min(next * 2, maxUs);
      counters[C_RESTS]++;
      counters[C_RESTING] += rested * 1000;
      return rested;
    },
  };
}

/**
 * How often cores change hands: at most so often per second in all, and at most so
 * often from one VM; and a core that has only just come from a VM does not go back to
 * it. All three are off unless they are asked for. Only cores that are taken from
 * somebody count: granting an idle core disturbs nobody. What serves a guarantee is
 * never held up.
 *
 * The rates are kept as in leaky buckets (the generic cell rate algorithm): one stamp
 * each, of when the bucket will be empty. What was allowed is charged, and given back
 * if it did not happen: a wish that fails in every turn uses nothing up.
 */
import type { View } from '../policy/api.ts';
import { CORE_MOVING, HEAD_NOW, MAX_CORES, MAX_VMS, NO_VM, smallArray } from '../policy/api.ts';
import { WHY_RATE, WHY_SETTLING } from '../policy/reasons.ts';

// GuardState.pace, in stamps.
/** Not 0: any of the limits is on. */
export const P_ON = 0;
/** Between two takings: from one VM, and in all. 0: no limit. */
export const P_VM = 1;
export const P_ALL = 2;
/** So much may be used up in advance. */
export const P_BURST = 3;
/** For so long a core does not go back. */
export const P_BACK = 4;

export const plainPace = (): Int32Array => smallArray(5);

/** A tenth of a second's takings may come at once. */
const BURST_US = 100_000;

export interface PaceLimits {
  /** Takings per second in all, and from one VM; 0: no limit. */
  moves_per_s: number;
  vm_moves_per_s: number;
  /** How long a core stays before it may go back to where it came from. */
  back_us: number;
}

export const NO_PACE: PaceLimits = { moves_per_s: 0, vm_moves_per_s: 0, back_us: 0 };

export function configurePace(pace: Int32Array, limits: PaceLimits, stampsPerUs: number): void {
  const between = (perSecond: number): number =>
    perSecond === 0 ? 0 : Math.max(1, Math.round((1e6 / perSecond) * stampsPerUs));
  pace[P_VM] = between(limits.vm_moves_per_s);
  pace[P_ALL] = between(limits.moves_per_s);
  pace[P_BURST] = Math.round(BURST_US * stampsPerUs);
  pace[P_BACK] = Math.round(limits.back_us * stampsPerUs);
  pace[P_ON] = (pace[P_VM] | pace[P_ALL] | pace[P_BACK]) !== 0 ? 1 : 0;
}

export interface Pace {
  /** Before the other limits: takes back what comes too soon. Returns how many wishes that were. */
  before(cores: number): number;
  /** After them: what they took back is not charged. */
  after(cores: number): void;
}

interface Judged {
  readonly allowed: Int32Array;
  readonly pace: Int32Array;
}

export function makePace(view: View, state: Judged, undo: (k: number, reason: number) => void): Pace {
  const { head, vmMin, vmCores, vmWants, coreVm, coreFlags, coreAge, coreLast } = view;
  const { allowed, pace } = state;
  /** When the VM's bucket is empty, and (at 0) that of all. */
  const empty = new Int32Array(MAX_VMS);
  const emptyOfAll = smallArray(1);
  /** From whom the core was allowed to be taken, and for whom, until it is known whether that happened. */
  const from = new Int32Array(MAX_CORES).fill(NO_VM);
  const to = new Int32Array(MAX_CORES);

  /** How full a bucket is: stamps until it is empty. More than it holds: the stamp is so old that it wrapped. */
  function full(until: number, between: number): number {
    const left = (until - head[HEAD_NOW]) | 0;
    return left < 0 || left > pace[P_BURST] + between ? 0 : left;
  }

  function needed(vm: number): boolean {
    if (vm === NO_VM) return false;
    const uses = vmMin[vm] < vmWants[vm] ? vmMin[vm] : vmWants[vm];
    return vmCores[vm] < uses;
  }

  function charge(k: number, victim: number, sign: number): void {
    empty[victim] = (head[HEAD_NOW] + full(empty[victim], pace[P_VM]) + sign * pace[P_VM]) | 0;
    emptyOfAll[0] = (head[HEAD_NOW] + full(emptyOfAll[0], pace[P_ALL]) + sign * pace[P_ALL]) | 0;
    from[k] = sign > 0 ? victim : NO_VM;
    to[k] = allowed[k];
  }

  function judge(k: number): number {
    const victim = coreVm[k];
    const next = allowed[k];
    if (next === victim || victim === NO_VM || needed(next)) return 0;
    if (next !== NO_VM && next === coreLast[k] && coreAge[k] < pace[P_BACK]) {
      undo(k, WHY_SETTLING);
      return 1;
    }
    const most = pace[P_BURST];
    if (full(empty[victim], pace[P_VM]) > most || full(emptyOfAll[0], pace[P_ALL]) > most) {
      undo(k, WHY_RATE);
      return 1;
    }
    charge(k, victim, 1);
    return 0;
  }

  return {
    before(cores): number {
      for (let k = 0; k < cores; k++) {
        if (from[k] === NO_VM) continue;
        // It is on its way, or there: so it counts.
        if (coreVm[k] === to[k] || (coreFlags[k] & CORE_MOVING) !== 0) from[k] = NO_VM;
        else charge(k, from[k], -1);
      }
      let undone = 0;
      for (let k = 0; k < cores; k++) undone += judge(k);
      return undone;
    },
    after(cores): void {
      for (let k = 0; k < cores; k++) {
        if (from[k] !== NO_VM && allowed[k] === coreVm[k]) charge(k, from[k], -1);
      }
    },
  };
}

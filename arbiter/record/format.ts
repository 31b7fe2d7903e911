/**
 * How a turn is written down: what the policy saw, and what it decided, as the
 * difference to the turn before. Most of it is nothing: ages and delays grow with the
 * time, so what is coded is how far they are from that.
 *
 * A turn, in variable-length numbers of 7 bits a byte, the lowest first; signed ones
 * have their sign in the lowest bit:
 *
 *   flags, now (difference)
 *   head words that changed: a mask, then their differences
 *   the list of hot VMs, unless it is the same: count, then differences from slot to slot
 *   cores that changed: count, then core (difference), a mask, a difference for each bit
 *   VMs that changed: likewise
 *   wishes: count, then core (difference), target (from coreVm), reason
 *   heirs: count, then core (difference), heir (from coreHeir)
 *   in a keyframe: the policy's own state after the turn, see Decider.state
 *
 * A keyframe begins with a view of zeros. Ages have grown with the time for whoever was compared in the turn: the
 * cores, and the VMs that are hot, were hot, have a core or had one; in a turn that compares all, everybody.
 */
import type { View } from '../policy/api.ts';
import { HEAD_WORDS, MAX_CORES, MAX_VMS } from '../policy/api.ts';

export const FORMAT = 1;

// Flags of a turn.
export const KEYFRAME = 1;
export const SAME_HOT = 2;
/** Turns were lost before this one, because nobody had read the ring. A keyframe. */
export const AFTER_GAP = 4;
/** Every VM and core was compared. */
export const ALL = 8;

/** An array of the view, by its name there. */
export interface Field {
  readonly name: string;
  /** It grows with the time while it is not 0. */
  readonly ages: boolean;
}

const AGES: ReadonlySet<string> = new Set(['vmDelay', 'vmAway', 'coreAge']);

/** What a view tells of VMs, or of cores; a new input of policies is recorded without a change here. */
export const fieldsOf = (view: View, of: 'vm' | 'core'): Field[] =>
  Object.keys(view)
    .filter((name) => name.startsWith(of))
    .map((name) => ({ name, ages: AGES.has(name) }));

/** Fields have a bit each in a mask. */
export const MAX_FIELDS = 31;

// Words that the loop and who records share.
/** Who records: 0, or the stamp until which turns are recorded, so that one that was killed soon costs nothing. */
export const R_UNTIL = 0;
/** Bytes written so far; the loop. Bytes read so far; who records. Both wrap. */
export const R_HEAD = 1;
export const R_TAIL = 2;
/** Who records counts his beginnings: the loop answers each with a keyframe. */
export const R_GENERATION = 3;
/** Turns that found no room. */
export const R_DROPPED = 4;
/** Process of who records; 0: nobody. */
export const R_PID = 5;
export const R_WORDS = 32;
/** The ring; a power of two. A turn takes some tens of bytes, a keyframe of everything some tens of thousands. */
export const R_BYTES = 1 << 20;

/** No turn takes more: every figure of every VM and core, and a policy's state, in five bytes each. */
export const turnBytes = (vmFields: number, coreFields: number, state: number): number =>
  64 + 5 * (HEAD_WORDS + MAX_VMS * (vmFields + 3) + MAX_CORES * (coreFields + 7) + 2 * state + 8);

export interface Recording {
  readonly words: Int32Array;
  readonly ring: Uint8Array;
}

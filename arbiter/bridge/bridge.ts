/**
 * What carries the loop's commands out. The loop fills a batch of fixed-size
 * commands and submits it with one call; each command gets a result word. Nothing
 * here waits: a move is *requested*, and the loop sees in the hand-off table when
 * the core has changed hands.
 */

import { CMD_WORDS, OP_FORCE, OP_GRANT, OP_HEIR, OP_MOVE, OP_PARK, OP_PREEMPT } from '../abi/layout.gen.ts';

export {
  CMD_CORE,
  CMD_FLAGS,
  CMD_FROM,
  CMD_OP,
  CMD_RESULT,
  CMD_TO,
  CMD_TSC_HI,
  CMD_TSC_LO,
  FLAG_ASK_ONLY,
  FLAG_KICK_NOW,
} from '../abi/layout.gen.ts';
export { CMD_WORDS, OP_FORCE, OP_GRANT, OP_HEIR, OP_MOVE, OP_PARK, OP_PREEMPT };
/** For indexing the batch: 1 << CMD_SHIFT is CMD_WORDS. */
export const CMD_SHIFT = 3;

// Results: 0, or one of these.
/** The vCPU that should get the core is not parked. */
export const R_BUSY = -16;
/** The core's owner is not the one that the command named (any more). */
export const R_AGAIN = -11;
/** The core has a request in flight already. */
export const R_ALREADY = -114;
/** The lease is somebody else's: another arbiter has taken over. */
export const R_STALE = -116;
/** Not a valid handle, or the core is not managed. */
export const R_INVALID = -22;
/** The VM is dead or dying. */
export const R_DEAD = -3;
/** The core is offline (kFlux). */
export const R_OFFLINE = -19;

export interface Bridge {
  /** Which implementation this is: affinity, kflux, sim. */
  readonly kind: string;
  /** The commands to submit, CMD_WORDS words each. It belongs to the bridge and never moves. */
  readonly batch: Int32Array;
  /** Commands that fit into the batch. */
  readonly capacity: number;
  /** Takes the lease: a new epoch (returned), every core free, these cores managed by this arbiter. */
  claim(pid: number, arbiterCore: number, managed: readonly number[]): number;
  /** Gives the lease back, if it is still ours. */
  release(): void;
  /** Carries out the first `count` commands of the batch. Returns how many failed. */
  submit(count: number): number;
  /** Sends what has become due (kicks) and forgets what is done. Returns how many requests are in flight. */
  poll(): number;
  /** Says that the loop is alive. */
  beat(): void;
  /** The VM's control page is in the arena now, or is not any more. */
  setPage(slot: number, mapped: boolean): void;
  /** The VM's process is gone: its cores go on. Returns how many there were. */
  reap(slot: number): number;
}

const names: Readonly<Record<number, string>> = {
  0: 'ok',
  [R_BUSY]: 'busy',
  [R_AGAIN]: 'owner-changed',
  [R_ALREADY]: 'in-flight',
  [R_STALE]: 'stale',
  [R_INVALID]: 'invalid',
  [R_DEAD]: 'dead',
  [R_OFFLINE]: 'core-offline',
};
export const resultName = (result: number): string => names[result] ?? `errno ${-result}`;

const ops: Readonly<Record<number, string>> = {
  [OP_GRANT]: 'grant',
  [OP_PARK]: 'park',
  [OP_MOVE]: 'move',
  [OP_HEIR]: 'heir',
  [OP_FORCE]: 'force',
  [OP_PREEMPT]: 'preempt',
};
export const opName = (op: number): string => ops[op] ?? `op ${op}`;

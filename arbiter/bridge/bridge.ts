/**
 * What carries the loop's commands out. The loop fills a batch of fixed-size
 * commands and submits it with one call; each command gets a result word. Nothing
 * here waits: a move is *requested*, and the loop sees in the hand-off table when
 * the core has changed hands.
 */

// Words of one command.
export const CMD_OP = 0;
export const CMD_CORE = 1;
/** Handle of the vCPU that has the core, for OP_PARK and OP_MOVE. */
export const CMD_FROM = 2;
/** Handle of the vCPU that gets the core; for OP_HEIR the heir, 0 to have none. */
export const CMD_TO = 3;
export const CMD_FLAGS = 4;
/** TSC of the decision, for the stages of a hand-over. */
export const CMD_TSC_LO = 5;
export const CMD_TSC_HI = 6;
export const CMD_RESULT = 7;
export const CMD_SHIFT = 3;
export const CMD_WORDS = 1 << CMD_SHIFT;

/** Gives an idle core to a parked vCPU. */
export const OP_GRANT = 1;
/** Asks the core's owner to leave it; the core falls idle. */
export const OP_PARK = 2;
/** Asks the core's owner to leave it in favour of another vCPU; both halves in one. */
export const OP_MOVE = 3;
/** Writes down who gets the core if its owner leaves by itself. */
export const OP_HEIR = 4;

/** Wait for the guest to notice; kick only when that takes too long. */
export const FLAG_ASK_ONLY = 1;
export const FLAG_KICK_NOW = 2;

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

export interface Bridge {
  /** Which implementation this is: affinity, sim. */
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
};
export const resultName = (result: number): string => names[result] ?? `errno ${-result}`;

const ops: Readonly<Record<number, string>> = {
  [OP_GRANT]: 'grant',
  [OP_PARK]: 'park',
  [OP_MOVE]: 'move',
  [OP_HEIR]: 'heir',
};
export const opName = (op: number): string => ops[op] ?? `op ${op}`;

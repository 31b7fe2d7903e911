// SPDX-License-Identifier: Apache-2.0
/** The affinity bridge: cores moved by sched_setaffinity and futex hand-off, without a kernel module. */
import { addon, failure } from './addon.ts';
import type { Arena } from './memory.ts';
import type { RawBridge } from './raw.ts';

// Words of one command in the batch. Plain constants, because V8 folds them into the loop's code; checked below.
export const CMD_OP = 0;
export const CMD_CORE = 1;
export const CMD_FROM = 2;
export const CMD_TO = 3;
export const CMD_FLAGS = 4;
/** When the decision was made, for the stamps of the hand-over. */
export const CMD_TSC_LO = 5;
export const CMD_TSC_HI = 6;
/** 0 or a negative errno value, filled in by `submit`. */
export const CMD_RESULT = 7;
export const CMD_WORDS = 8;

export const OP_GRANT = 1;
export const OP_PARK = 2;
export const OP_MOVE = 3;
export const OP_HEIR = 4;

/** Write the park generation and leave it at that. */
export const FLAG_ASK_ONLY = 1;
/** Kick without asking first. */
export const FLAG_KICK_NOW = 2;

const here: Record<string, number> = {
  ...{ CMD_OP, CMD_CORE, CMD_FROM, CMD_TO, CMD_FLAGS, CMD_TSC_LO, CMD_TSC_HI, CMD_RESULT, CMD_WORDS },
  ...{ OP_GRANT, OP_PARK, OP_MOVE, OP_HEIR, FLAG_ASK_ONLY, FLAG_KICK_NOW },
};
for (const [name, value] of Object.entries(addon.commandConstants())) {
  if (here[name] !== value) {
    throw failure(
      'EPROTO',
      `native/lib/bridge.ts and flux_handoff.h differ: ${name} is ${here[name]} here and ${value} there`,
    );
  }
}

/** Fills in the header of a new, zeroed hand-off table. */
export const initTable: (table: ArrayBuffer, tscKhz: number, stampShift: number) => void = addon.tableInit;

/** Throws `EINVAL` if it is not a hand-off table, `EPROTO` (with both versions) if it is one of another ABI major. */
export const checkTable: (table: ArrayBuffer) => void = addon.tableCheck;

/**
 * The arbiter's half of the hand-over protocol. `submit`, `poll` and `beat` belong to the loop's thread, the rest may
 * be called from any thread. They are own properties without `this`, so that a call costs as little as can be.
 */
export class AffinityBridge {
  /** For `AffinityBridge.wrap` in another thread of this process. */
  readonly id: number;
  /** Commands of CMD_WORDS words each. All threads see the same memory. */
  readonly batch: Int32Array;
  /** Commands that fit. */
  readonly capacity: number;
  /** Carries out the first `count` commands; each gets its CMD_RESULT. Returns how many failed. */
  readonly submit: (count: number) => number;
  /** Sends the kicks that are due and forgets the parks that are done. Returns how many are in flight. */
  readonly poll: () => number;
  /** Stamps the heartbeat of the lease. */
  readonly beat: () => void;
  private readonly raw: RawBridge;

  private constructor(raw: RawBridge) {
    this.raw = raw;
    this.id = raw.id;
    this.batch = new Int32Array(raw.batch);
    this.capacity = raw.capacity;
    this.submit = raw.submit;
    this.poll = raw.poll;
    this.beat = raw.beat;
  }

  /** Over a mapped and filled-in table. */
  static open(table: ArrayBuffer, { capacity = 256 }: { capacity?: number } = {}): AffinityBridge {
    return new AffinityBridge(addon.bridgeOpen(table, capacity));
  }

  /** The same bridge in another thread. It must be kept by the one that opened it until then. */
  static wrap(id: number): AffinityBridge {
    return new AffinityBridge(addon.bridgeWrap(id));
  }

  /** Takes the lease: a new epoch, all cores free. Returns the epoch. */
  claim(pid: number, arbiterCore: number, managedCores: readonly number[]): number {
    return this.raw.claim(pid, arbiterCore, managedCores);
  }

  /** Gives the lease back. Throws `ESTALE` if another arbiter holds it by now. */
  release(): void {
    this.raw.release();
  }

  /** Where the bridge writes a VM's park generations: its slot of the arena, or null when the VM goes. */
  setPage(slot: number, arena: Arena | null): void {
    this.raw.setPage(slot, arena === null ? null : arena.buffer);
  }

  /** Starts the thread that keeps the forced-park deadline. false: real-time priority was not permitted. */
  startDeadlines(): boolean {
    return this.raw.startDeadlines();
  }

  /** A VM's process is gone. Returns how many cores went on to others or came free. */
  reap(slot: number): number {
    return this.raw.reap(slot);
  }
}

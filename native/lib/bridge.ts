// SPDX-License-Identifier: Apache-2.0
/**
 * The bridges that move real cores. `affinity`: by sched_setaffinity and futex hand-off, without a kernel module;
 * `kflux`: inside the kernel, by /dev/kflux.
 */
import { addon } from './addon.ts';
import type { Arena } from './memory.ts';
import type { RawBridge } from './raw.ts';

/** The words of a command in the batch. */
export {
  CMD_CORE,
  CMD_FLAGS,
  CMD_FROM,
  CMD_OP,
  CMD_RESULT,
  CMD_TO,
  CMD_TSC_HI,
  CMD_TSC_LO,
  CMD_WORDS,
  FLAG_ASK_ONLY,
  FLAG_KICK_NOW,
  OP_FORCE,
  OP_GRANT,
  OP_HEIR,
  OP_MOVE,
  OP_PARK,
} from '../../arbiter/abi/layout.gen.ts';

/** Fills in the header of a new, zeroed hand-off table. */
export const initTable: (table: ArrayBuffer, tscKhz: number, stampShift: number) => void = addon.tableInit;

/** Throws `EINVAL` if it is not a hand-off table, `EPROTO` (with both versions) if it is one of another ABI major. */
export const checkTable: (table: ArrayBuffer) => void = addon.tableCheck;

/**
 * The arbiter's half of the hand-over protocol. `submit`, `poll` and `beat` belong to the loop's thread, the rest may
 * be called from any thread. They are own properties without `this`, so that a call costs as little as can be.
 */
export class NativeBridge {
  /** For `NativeBridge.wrap` in another thread of this process. */
  readonly id: number;
  /** Commands of CMD_WORDS words each, as in abi/handoff.h. All threads see the same memory. */
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

  /** Over a mapped and filled-in table. It begins as the affinity bridge; see `useKflux`. */
  static open(table: ArrayBuffer, { capacity = 256 }: { capacity?: number } = {}): NativeBridge {
    return new NativeBridge(addon.bridgeOpen(table, capacity));
  }

  /** The same bridge in another thread. It must be kept by the one that opened it until then. */
  static wrap(id: number): NativeBridge {
    return new NativeBridge(addon.bridgeWrap(id));
  }

  /** How cores are moved, whichever thread chose it. */
  get kind(): 'affinity' | 'kflux' {
    return this.raw.usesKflux() ? 'kflux' : 'affinity';
  }

  /**
   * From now on by kFlux: joins the domain that the table names (or makes one and names it), and maps its pages over
   * the table, where cores and vCPUs can then be read only. Nobody may be inside `submit`, `poll` or `beat`. Throws,
   * and stays what it was, if there is no kFlux to be used: `ENOENT`, `EACCES`, `EPERM`, `EPROTO`.
   */
  useKflux(): void {
    this.raw.useKflux();
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

  /** Starts the thread that keeps the forced-park deadline, which kFlux keeps itself. false: real-time priority was not permitted. */
  startDeadlines(): boolean {
    return this.raw.startDeadlines();
  }

  /** A VM's process is gone. Returns how many cores went on to others or came free. */
  reap(slot: number): number {
    return this.raw.reap(slot);
  }
}

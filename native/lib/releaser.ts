// SPDX-License-Identifier: Apache-2.0
/** Open-loop arrivals, released at their due times by native code that alone knows the schedule (abi/load.h). */
import { addon } from './addon.ts';
import type { RawReleaser } from './raw.ts';

export interface ThreadOptions {
  /** Where the thread runs; anywhere if left out. */
  core?: number;
  /** SCHED_FIFO priority, 1 to 99. Only for a core that nobody else needs: a spinning thread starves it. */
  fifo?: number;
  /** `busy` spins all the time, `hybrid` sleeps until shortly before a request is due and then spins. */
  spin: 'busy' | 'hybrid';
}

/**
 * Publishes the requests of load areas into VMs' rings. Either a loop calls `poll` once a turn, or `runThread` does it
 * on a thread of its own. Lateness is `released - due` of each entry.
 */
export class Releaser {
  /** For `Releaser.wrap` in another thread of this process. */
  readonly id: number;
  /** One turn: releases what is due, collects what is finished. Returns how many requests were published. */
  readonly poll: () => number;
  private readonly raw: RawReleaser;

  private constructor(raw: RawReleaser) {
    this.raw = raw;
    this.id = raw.id;
    this.poll = raw.poll;
  }

  /** Over a mapped hand-off table. */
  static open(table: ArrayBuffer): Releaser {
    return new Releaser(addon.releaserOpen(table));
  }

  /** The same releaser in another thread. It must be kept by the one that opened it until then. */
  static wrap(id: number): Releaser {
    return new Releaser(addon.releaserWrap(id));
  }

  /**
   * Takes on a load for the VM in a slot. It begins when the load's state is LOAD_ARMED. Both files must be sealed; the
   * descriptors may be closed afterwards. Throws `EBUSY` if the slot has a load already.
   */
  add(slot: number, controlPageFd: number, loadFd: number): void {
    this.raw.add(slot, controlPageFd, loadFd);
  }

  /** Gives a slot's load up, done or not. Returns whether there was one. */
  remove(slot: number): boolean {
    return this.raw.remove(slot);
  }

  /** Starts the thread. Returns whether it runs at the real-time priority that was asked for. */
  runThread({ core = -1, fifo = 0, spin }: ThreadOptions): boolean {
    return this.raw.runThread(core, fifo, spin);
  }

  /** Ends the thread. The loads stay, for `poll` or another thread. */
  stop(): void {
    this.raw.stop();
  }
}

// SPDX-License-Identifier: Apache-2.0
/** Where threads run, and under which policy. */
import { addon } from './addon.ts';

/** The kernel's number of the calling thread. */
export const gettid: () => number = addon.gettid;

/** Pins the calling thread to one core. */
export const pinThread = (core: number): void => addon.setAffinity(0, [core]);

/**
 * Pins every thread of this process, those that V8 and libuv keep included. Later threads inherit it, so pin the
 * process first and single threads after that.
 */
export const pinProcess: (cores: readonly number[]) => void = addon.pinProcess;

/** Pins one thread, of any process that one may do this to; 0 is the calling thread. */
export const setAffinity: (tid: number, cores: readonly number[]) => void = addon.setAffinity;

/** The cores that a thread may run on; 0 is the calling thread. */
export const getAffinity: (tid: number) => number[] = addon.getAffinity;

/** SCHED_IDLE: runs only when nobody else wants the core. */
export const setSchedIdle = (tid: number): void => addon.setScheduler(tid, 'idle', 0);

/** SCHED_FIFO, priority 1 to 99. Throws `EPERM` where real-time priorities are not allowed. */
export const setSchedFifo = (tid: number, priority: number): void =>
  addon.setScheduler(tid, 'fifo', priority);

/** SCHED_OTHER, what every thread has at first. */
export const setSchedOther = (tid: number): void => addon.setScheduler(tid, 'other', 0);

/** Sends a signal to a process. No groups, and never to process 1. Signal 0 only asks whether it is there. */
export const kill = (pid: number, signal: number): void => addon.kill(pid, 0, signal);

/** Sends a signal to one thread of a process. */
export function tgkill(pid: number, tid: number, signal: number): void {
  if (tid === 0) {
    throw Object.assign(new RangeError('tid must be a thread of the process, not 0'), {
      code: 'ERR_OUT_OF_RANGE',
    });
  }
  addon.kill(pid, tid, signal);
}

/**
 * Keeps all cores out of idle states that take longer than so many microseconds to leave, until the descriptor is
 * closed. null: this host does not offer it (or not to this user).
 */
export const holdCpuDmaLatency: (us: number) => number | null = addon.holdCpuDmaLatency;

/** What the guests are made of and what is around them. */
import { MAX_VCPUS } from '../../abi/layout.gen.ts';
import type { Random } from '../../../bench/load/random.ts';
import type { TimedBridge } from '../bridge.ts';
import type { Latencies } from '../latency.ts';
import type { Arrivals } from '../load/arrivals.ts';
import type { Machine } from '../machine.ts';
import type { Meter } from '../meter.ts';
import type { Timers } from '../timers.ts';

/** One VM as the simulator needs it. */
export interface GuestVm {
  readonly group: number;
  readonly vmClass: number;
  readonly vcpus: number;
  readonly minCores: number;
  readonly maxCores: number;
  readonly idleSpinNs: number;
  /** Undefined: no requests. */
  readonly arrivals?: Arrivals;
  /** uThreads that compute for ever, from the beginning. */
  readonly threads: number;
}

/** Figures of a group of VMs. */
export interface GroupFigures {
  /** From the scheduled arrival to the end. */
  readonly latency: Latencies;
  /** To the first instruction. */
  readonly wait: Latencies;
  arrived: number;
  finished: number;
}

/** How cores changed hands. */
export interface Handovers {
  /** An idle core was granted. */
  granted: number;
  /** The arbiter took it from one vCPU for another. */
  moved: number;
  /** Its owner gave it back, and its heir had it. */
  inherited: number;
  /** uThreads that were held and taken over by another vCPU of their VM. */
  takenOver: number;
}

export interface GuestWorld {
  readonly arena: Int32Array;
  readonly table: Int32Array;
  readonly bridge: TimedBridge;
  readonly timers: Timers;
  readonly meter: Meter;
  readonly machine: Machine;
  readonly random: Random;
  readonly groups: readonly GroupFigures[];
  /** Nanoseconds are 2^stampShift to a stamp. */
  readonly stampShift: number;
  /** Requests become visible at once, and not only when the loop's releaser comes by. */
  readonly releaseAtOnce: boolean;
  /** Something that the loop looks at has changed. */
  readonly poke: () => void;
}

/** Timers of the guests: one for each vCPU, one for each vCPU that is leaving, one for each VM's next arrival. */
export const timersOf = (vms: number): number => vms * (2 * MAX_VCPUS + 1);

// What a vCPU does.
export const OFF = 0;
/** It was granted a core and has not executed an instruction yet. */
export const COMING = 1;
export const RUNNING = 2;
export const IDLE = 3;
/** Idle, and about to notice that there is work. */
export const NOTICING = 4;

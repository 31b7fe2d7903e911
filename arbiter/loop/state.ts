/**
 * Everything the loop remembers between turns, as typed arrays that are allocated
 * once. Slots of active VMs stand in a dense list, so that a turn costs what the
 * active VMs cost and not what the table could hold.
 */
import { MAX_CORES, MAX_VCPUS, MAX_VMS } from '../abi/layout.gen.ts';
import type { Bridge } from '../bridge/bridge.ts';
import type { GuardState } from '../guard/guard.ts';
import { plainGuardState } from '../guard/guard.ts';
import type { View } from '../policy/api.ts';
import { NO_VM, smallArray } from '../policy/api.ts';
import { HANDLES } from '../bridge/words.ts';
import type { Stats } from './stats.ts';

/** Writes the time stamp counter into two words, the low one first. */
export interface Clock {
  readonly words: Int32Array;
  now(): void;
}

/** Publishes requests that are due; the loop calls it once a turn while a load is armed. */
export interface Releaser {
  poll(): number;
}

/**
 * What the loop looks at. All of it stays the same objects for ever, whose addresses
 * V8 folds into the compiled code: when the warm-up is over, the pages beneath the
 * table are exchanged, and not the table.
 */
export interface LoopMemory {
  readonly arena: Int32Array;
  readonly table: Int32Array;
  readonly bridge: Bridge;
  readonly clock: Clock;
  readonly releaser: Releaser;
  readonly stats: Stats;
  readonly stampShift: number;
  readonly tscKhz: number;
}

// LoopState.n
export const N_ACTIVE = 0;
export const N_CORES = 1;
/** Core words that changed in this turn. */
export const N_EVENTS = 2;
/** Requests that the bridge has in flight, as far as the loop knows. */
export const N_IN_FLIGHT = 3;
/** Not 0 while load areas are armed. */
export const N_LOADS = 4;
/** Not 0: the lease is lost; the loop does nothing more. */
export const N_STALE = 5;
/** Not 0: decide in the next turn even if nothing changed (attach, detach, new parameters). */
export const N_NUDGE = 6;
/** Counts decisions, to mark what belongs to the present one. */
export const N_DECISION = 7;
/** Active VMs whose uThreads have time slices. */
export const N_SLICED = 8;
/** VMs whose need is announced at present. */
export const N_HINTS = 9;
const N_WORDS = 10;

export interface LoopState {
  readonly n: Int32Array;
  readonly view: View;
  readonly guard: GuardState;

  // The dense list of active VMs.
  readonly dSlot: Int32Array;
  /** Word index of the summary line in the arena. */
  readonly dSummary: Int32Array;
  /** Word index of the VM's line block in the table. */
  readonly dVm: Int32Array;
  /** Word index of its ring_depth in the table. */
  readonly dDepth: Int32Array;
  /** The summary's sequence number when it was last read. */
  readonly dSeq: Int32Array;
  /**
   * The sequence number that means "nothing to see here". The same, or, for a VM that has to be looked at in every
   * turn, one that is never reached: so the scan needs no further look to tell.
   */
  readonly dQuiet: Int32Array;
  /** Not 0: its queues have to be read again even if the sequence number stands still. */
  readonly dStale: Int32Array;

  // By slot.
  /** Place in the dense list; -1: not active. */
  readonly dense: Int32Array;
  readonly vmVcpus: Int32Array;
  /** Runnable uThreads, clamped, and interrupted ones whose vCPU is parked. */
  readonly vmLoad: Int32Array;
  readonly vmHeld: Int32Array;
  /** Not 0: vmOldest says since when the oldest of them waits. */
  readonly vmHasOldest: Int32Array;
  readonly vmOldest: Int32Array;
  readonly vmHasTimer: Int32Array;
  readonly vmTimer: Int32Array;
  /** The stamp that vmAged belongs to; once old, a delay stays old until its stamp changes. */
  readonly vmAgedStamp: Int32Array;
  readonly vmAged: Int32Array;
  /** Of the VM's cores, those on which a uThread runs. */
  readonly vmBusyCores: Int32Array;
  /** Cores that it owns or is getting; unlike view.vmCores with those that it has been asked to leave. */
  readonly vmSpan: Int32Array;
  /** Time slice of its uThreads, in stamps; 0: none. */
  readonly vmQuantum: Int32Array;
  /** Stamp since when it has no core, and whether that is too long ago for stamps to tell. */
  readonly vmLeft: Int32Array;
  readonly vmLeftOld: Int32Array;

  // By core index.
  readonly coreId: Int32Array;
  /** Word index of the core's block in the table. */
  readonly coreAt: Int32Array;
  readonly coreLow: Int32Array;
  readonly coreGen: Int32Array;
  /** Stamp since when the owner has it, and whether that is too long ago for stamps to tell. */
  readonly coreSince: Int32Array;
  readonly coreOld: Int32Array;
  /** Word index of the owner's guest line in the arena; -1: nobody's, or a move is in flight. */
  readonly coreGuest: Int32Array;
  readonly coreBusy: Int32Array;
  /** VM slot of the owner, who may be on its way out; view.coreVm is who comes. */
  readonly coreOwner: Int32Array;
  /** The core's heir as it stood in the table when this decision began; only the arbiter writes it. */
  readonly heirHandle: Int32Array;
  /** What was last recorded for the core, so that a standing refusal is recorded once. */
  readonly coreNoted: Int32Array;

  // By handle.
  /** Marks vCPUs that this decision uses as a target, and those that are heirs already. */
  readonly taken: Int32Array;
  readonly heirMark: Int32Array;

  // By slot: vCPUs that may come to hold a core beside those that do.
  readonly reach: Int32Array;
  readonly reachMark: Int32Array;
}

export function makeState(stats: Stats): LoopState {
  const vms = (): Int32Array => new Int32Array(MAX_VMS);
  const cores = (): Int32Array => new Int32Array(MAX_CORES);
  const handles = (): Int32Array => new Int32Array(HANDLES + 1);
  return {
    n: smallArray(N_WORDS),
    view: stats.view,
    guard: plainGuardState(),
    dSlot: vms(),
    dSummary: vms(),
    dVm: vms(),
    dDepth: vms(),
    dSeq: vms(),
    dQuiet: vms(),
    dStale: vms(),
    dense: vms().fill(-1),
    vmVcpus: vms(),
    vmLoad: vms(),
    vmHeld: vms(),
    vmHasOldest: vms(),
    vmOldest: vms(),
    vmHasTimer: vms(),
    vmTimer: vms(),
    vmAgedStamp: vms(),
    vmAged: vms(),
    vmBusyCores: vms(),
    vmSpan: vms(),
    vmQuantum: vms(),
    vmLeft: vms(),
    vmLeftOld: vms(),
    coreId: stats.coreId,
    coreAt: cores(),
    coreLow: cores(),
    coreGen: cores(),
    coreSince: cores(),
    coreOld: cores(),
    coreGuest: cores().fill(-1),
    coreBusy: cores(),
    coreOwner: cores().fill(NO_VM),
    coreNoted: cores(),
    heirHandle: cores(),
    taken: handles(),
    heirMark: handles(),
    reach: vms(),
    reachMark: vms(),
  };
}

/** Added to a sequence number it gives one that no guest reaches between two turns. */
export const NEVER = 0x40000000;

/** Words between two vCPU blocks, the same in the table and in a control page. */
export const VCPU_STRIDE = 64;
/** What a guest can claim at most to have in one queue. */
export const MAX_RUNQ = 65536;
export const VCPU_LIMIT = MAX_VCPUS;

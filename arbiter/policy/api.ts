/**
 * What a policy sees and what it writes.
 *
 * A policy runs inside the loop, many times in a millisecond, so it deals in typed
 * arrays only: it reads figures per VM slot and per core, and writes for each core
 * which VM should have it. It names VMs, not vCPUs; which vCPU of the VM gets the
 * core is a matter of held contexts and affinity that the loop knows better.
 *
 * A decision is a wish about the state of a core, not an action: it is idempotent,
 * the loop compares it with what is and sends only the difference, and the guard
 * has the last word.
 */
import type { ZodType } from 'zod';
import { CLASS_BE, CLASS_LC, MAX_CORES, MAX_VMS } from '../abi/layout.gen.ts';
import type { Plan } from './plan.ts';

export { CLASS_BE, CLASS_LC, MAX_CORES, MAX_VMS };

/** The version of everything in this file. A policy says which one it was written for. */
export const POLICY_API = 1;

/** Nobody, in the arrays that hold VM slots. */
export const NO_VM = -1;

/** Delays and ages stop growing here: about a hundred seconds, far from the wrap of 32-bit stamps. */
export const AGE_MAX = 0x3fffffff;

// View.head
/** The present, as a stamp (TSC >> shift, 32 bits, wraps; compare by signed difference). */
export const HEAD_NOW = 0;
/** How many entries of `hot` are valid. */
export const HEAD_HOT = 1;
/** How many cores are managed. */
export const HEAD_CORES = 2;
/** Changes whenever a VM comes, goes or is configured anew, hints included, or the managed cores change. */
export const HEAD_CHANGES = 3;
export const HEAD_WORDS = 16;

// View.vmFlags
/** The guest has not finished booting: its figures say nothing yet, it needs a core to get on. */
export const VM_BOOTING = 1;
/** One of its vCPUs was parked by force inside FluxOS: only that vCPU can go on. */
export const VM_FORCED_HELD = 2;

// View.coreFlags
/** A request is in flight: the core is on its way to `coreVm`, a new wish has to wait. */
export const CORE_MOVING = 1;
/** The guest says that this core's vCPU has nothing to run; it will yield by itself soon. */
export const CORE_IDLE = 2;

/** Groups that `vmGroup` tells apart. */
export const MAX_GROUPS = 32;

/** What a VM's weight is if nobody gave it one. */
export const DEFAULT_WEIGHT = 100;

/** No plan for this VM, in `vmPlan`. */
export const NO_PLAN = -1;

/** An Int32Array that is somebody else's to write. */
export interface ReadonlyInt32Array extends Iterable<number> {
  readonly [index: number]: number;
  readonly length: number;
}

/** What a policy reads. `A` is the arrays' type: the loop fills them, a policy may only look. */
export interface Figures<A extends ReadonlyInt32Array = ReadonlyInt32Array> {
  /** See HEAD_*. */
  readonly head: A;
  /** Slots of the VMs that changed or have work: whoever may want something stands here. */
  readonly hot: A;

  // Per VM slot: how it is configured.
  readonly vmClass: A;
  /** Cores that it is guaranteed while it can use them. */
  readonly vmMin: A;
  /** Cores that it may have; 0: there is no VM in this slot. */
  readonly vmMax: A;
  /** Its share against others', DEFAULT_WEIGHT unless it was given one. */
  readonly vmWeight: A;
  /** The queueing delay that it wants to stay under, in stamps; 0: it did not say. */
  readonly vmSlo: A;
  /** Its group by the rules of `classes`; 0: the rest. */
  readonly vmGroup: A;
  /** Announced need: so many cores until the stamp `vmHintUntil`. 0: none, or it is over. */
  readonly vmHint: A;
  readonly vmHintUntil: A;
  /** What the slow hook plans for it: so many cores, and why (a reason of its own text); NO_PLAN: nothing. */
  readonly vmPlan: A;
  readonly vmPlanWhy: A;

  // Per VM slot: how it is at this moment.
  /** Cores that it has, those on their way to it included, those on their way from it not. */
  readonly vmCores: A;
  /** Cores that it could use at this moment, those in use included; never above vmMax. */
  readonly vmWants: A;
  /** Queueing delay in stamps: the oldest runnable uThread, request or timer that waits. */
  readonly vmDelay: A;
  /**
   * Stamps since it last had a core (or since it came), 0 while it has one. The host's own knowledge: among VMs that
   * have nothing, a guest that lies about its delay must not come before one that does not.
   */
  readonly vmAway: A;
  readonly vmFlags: A;

  // Per managed core, by index (not by the core's number).
  /** Who has the core, or is getting it if a move is in flight; NO_VM: idle. */
  readonly coreVm: A;
  readonly coreFlags: A;
  /** Stamps since its present owner got it. */
  readonly coreAge: A;
  /** Who had it before. */
  readonly coreLast: A;
  /** Whose vCPU is the core's heir at present. */
  readonly coreHeir: A;
}

/** What a policy writes, per managed core. The loop presets target to coreVm, why to 0 and heir to NO_VM. */
export interface Wishes {
  readonly target: Int32Array;
  readonly why: Int32Array;
  /** Who gets the core if its owner yields, parks or dies before the next turn. */
  readonly heir: Int32Array;
}

/** Both, as the loop has them. */
export interface View extends Figures<Int32Array>, Wishes {}

/** State that a policy hands to its successor: words, or numbers by name. */
export type PolicyState = Int32Array | Readonly<Record<string, number>>;

/** A policy bound to a view. `decide` must not allocate, wait or throw. */
export interface Decider {
  decide(): void;
  /** New parameters, already validated; called between turns. */
  configure(params: Record<string, number>, stampsPerUs: number): void;
  /** What the policy's next life, or another version of it, may go on from. Called between turns. */
  save?(): PolicyState;
  /** Goes on from what `save` gave in the version of the state that is named. Throws if it cannot use it. */
  restore?(state: PolicyState, version: number): void;
  /**
   * All that decisions depend on beside the view and the parameters, the arrays themselves: a recording that begins
   * in the middle has them, and is replayed exactly. None: there is nothing, or a replay's first turns may differ.
   */
  readonly state?: readonly Int32Array[];
}

export interface Policy {
  readonly name: string;
  readonly version: string;
  /** One line for `hyperflux policy list`. */
  readonly summary?: string;
  /** Of the state that `save` gives; 1 unless it says otherwise. */
  readonly stateVersion?: number;
  /** Parses user input into a flat record of numbers, defaults filled in. */
  readonly params: ZodType<Record<string, number>>;
  bind(view: View): Decider;
  /** The slow hook: see plan.ts. */
  readonly plan?: Plan;
}

/**
 * A small array for the loop's own use. V8 keeps typed arrays of up to 64 bytes in
 * its heap, where their address can change: each access loads it anew. Larger ones
 * lie outside, and their address and length become constants of the compiled code.
 */
export const smallArray = (words: number): Int32Array => new Int32Array(Math.max(words, 32));

/** A view over arrays of its own, for tests and tools; the loop lays its view over shared memory. */
export function plainView(): View {
  const vms = (): Int32Array => new Int32Array(MAX_VMS);
  const cores = (): Int32Array => new Int32Array(MAX_CORES);
  return {
    head: new Int32Array(HEAD_WORDS),
    hot: vms(),
    vmClass: vms(),
    vmMin: vms(),
    vmMax: vms(),
    vmWeight: vms().fill(DEFAULT_WEIGHT),
    vmSlo: vms(),
    vmGroup: vms(),
    vmHint: vms(),
    vmHintUntil: vms(),
    vmPlan: vms().fill(NO_PLAN),
    vmPlanWhy: vms(),
    vmCores: vms(),
    vmWants: vms(),
    vmDelay: vms(),
    vmAway: vms(),
    vmFlags: vms(),
    coreVm: cores().fill(NO_VM),
    coreFlags: cores(),
    coreAge: cores(),
    coreLast: cores().fill(NO_VM),
    coreHeir: cores().fill(NO_VM),
    target: cores().fill(NO_VM),
    why: cores(),
    heir: cores().fill(NO_VM),
  };
}

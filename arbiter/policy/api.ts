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

export { CLASS_BE, CLASS_LC, MAX_CORES, MAX_VMS };

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

export interface View {
  /** See HEAD_*. */
  readonly head: Int32Array;
  /** Slots of the VMs that changed or have work: whoever may want something stands here. */
  readonly hot: Int32Array;

  // Per VM slot.
  readonly vmClass: Int32Array;
  readonly vmMin: Int32Array;
  readonly vmMax: Int32Array;
  /** Cores that it has, those on their way to it included, those on their way from it not. */
  readonly vmCores: Int32Array;
  /** Cores that it could use at this moment, those in use included; never above vmMax. */
  readonly vmWants: Int32Array;
  /** Queueing delay in stamps: the oldest runnable uThread, request or timer that waits. */
  readonly vmDelay: Int32Array;
  /**
   * Stamps since it last had a core (or since it came), 0 while it has one. The host's own knowledge: among VMs that
   * have nothing, a guest that lies about its delay must not come before one that does not.
   */
  readonly vmAway: Int32Array;
  readonly vmFlags: Int32Array;

  // Per managed core, by index (not by the core's number).
  /** Who has the core, or is getting it if a move is in flight; NO_VM: idle. */
  readonly coreVm: Int32Array;
  readonly coreFlags: Int32Array;
  /** Stamps since its present owner got it. */
  readonly coreAge: Int32Array;
  /** Who had it before. */
  readonly coreLast: Int32Array;
  /** Whose vCPU is the core's heir at present. */
  readonly coreHeir: Int32Array;

  // Written by the policy. The loop presets target to coreVm, why to 0 and heir to NO_VM.
  readonly target: Int32Array;
  readonly why: Int32Array;
  /** Who gets the core if its owner yields, parks or dies before the next turn. */
  readonly heir: Int32Array;
}

/** A policy bound to a view. `decide` must not allocate, wait or throw. */
export interface Decider {
  decide(): void;
  /** New parameters, already validated; called between turns. */
  configure(params: Record<string, number>, stampsPerUs: number): void;
}

export interface Policy {
  readonly name: string;
  readonly version: string;
  /** Parses user input into a flat record of numbers, defaults filled in. */
  readonly params: ZodType<Record<string, number>>;
  bind(view: View): Decider;
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

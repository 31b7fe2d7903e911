/**
 * Packing and unpacking of the shared words, the same as in abi/rust/src/lib.rs.
 *
 * The loop reads shared memory as 32-bit integers, since BigInts would allocate. So
 * a 64-bit word comes as its two halves, and every half may be signed or unsigned:
 * Int32Array and Atomics give either. Results are unsigned unless they are differences.
 */
import { HANDLE_NONE, LINE, MAX_VCPUS, MAX_VMS, SUMMARY_LINES } from './layout.gen.ts';

/** The handle of a vCPU; nobody's if out of range, lest it name a vCPU of another VM. */
export function handle(slot: number, vcpu: number): number {
  const valid = slot >= 0 && slot < MAX_VMS && vcpu >= 0 && vcpu < MAX_VCPUS;
  return valid ? slot * MAX_VCPUS + vcpu + 1 : HANDLE_NONE;
}

export interface HandleParts {
  slot: number;
  vcpu: number;
}

/** Slot and vCPU of a handle; undefined if it names nobody, idle included. */
export function handleParts(handle: number): HandleParts | undefined {
  if (handle <= HANDLE_NONE || handle > MAX_VMS * MAX_VCPUS) {
    return undefined;
  }
  const index = handle - 1;
  return { slot: Math.trunc(index / MAX_VCPUS), vcpu: index % MAX_VCPUS };
}

/** The 32-bit stamp of a TSC value given in halves; takes the shift modulo 64, as the Rust side does. */
export function stamp(low: number, high: number, shift: number): number {
  const bits = shift & 63;
  if (bits >= 32) {
    // A shift by 32 or more is one of the high half alone; `>>>` takes its count modulo 32.
    return high >>> bits;
  }
  return bits === 0 ? low >>> 0 : ((high << (32 - bits)) | (low >>> bits)) >>> 0;
}

/** How much later stamp `a` is than `b`, negative if earlier; right up to half the range, across the wrap. */
export function stampDifference(a: number, b: number): number {
  return (a - b) | 0;
}

export function stampAfter(a: number, b: number): boolean {
  return stampDifference(a, b) > 0;
}

/** Where in the control page the summary line of the VM in this slot lies, in bytes. */
export function summaryOffset(slot: number): number {
  return LINE * (slot % SUMMARY_LINES);
}

/** flux_vcpu.word: state : 8 | core : 16 << 8. */
export function vcpuWord(state: number, core: number): number {
  return (state & 0xff) | ((core & 0xffff) << 8);
}

export function vcpuState(word: number): number {
  return word & 0xff;
}

export function vcpuCore(word: number): number {
  return (word >>> 8) & 0xffff;
}

/** The low half of flux_core.word: owner : 16 | successor : 16 << 16. The high half is the generation. */
export function coreLow(owner: number, successor: number): number {
  return ((owner & 0xffff) | (successor << 16)) >>> 0;
}

export function coreOwner(low: number): number {
  return low & 0xffff;
}

/** Not 0 means that the owner is asked to park. */
export function coreSuccessor(low: number): number {
  return low >>> 16;
}

export function coreGeneration(high: number): number {
  return high >>> 0;
}

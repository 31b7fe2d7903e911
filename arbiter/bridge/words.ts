/**
 * Where the words of the hand-off table and of the control pages are, as indices
 * into Int32Arrays, and how handles and words are put together. Everything that
 * reads the table from TypeScript goes through here.
 */
import {
  CORE_BYTES,
  CORES_OFFSET,
  HANDLE_IDLE,
  HOT_BYTES,
  LINE,
  MAX_VCPUS,
  MAX_VMS,
  SUMMARY_LINES,
  TVCPU_BYTES,
  TVCPUS_BYTES,
  TVCPUS_OFFSET,
  VCPU_BYTES,
  VCPU_HOST_OFFSET,
  VCPUS_OFFSET,
  VM_BYTES,
  VMS_OFFSET,
} from '../abi/layout.gen.ts';
import { coreOwner as ownerOf, coreSuccessor as successorOf } from '../abi/words.ts';

export { coreLow, handle as makeHandle, vcpuCore, vcpuState, vcpuWord } from '../abi/words.ts';
export { ownerOf, successorOf };

/** Word index of a core's block in the table. */
export const coreBase = (core: number): number => (CORES_OFFSET + core * CORE_BYTES) >> 2;
/** Word index of a VM's line in the table. */
export const vmBase = (slot: number): number => (VMS_OFFSET + slot * VM_BYTES) >> 2;
/** Word index of a vCPU's block in the table. */
export const tableVcpuBase = (slot: number, vcpu: number): number =>
  (TVCPUS_OFFSET + slot * TVCPUS_BYTES + vcpu * TVCPU_BYTES) >> 2;

/** Word index of a VM's summary line in the arena. */
export const summaryBase = (slot: number): number => (slot * HOT_BYTES + (slot % SUMMARY_LINES) * LINE) >> 2;
/** Word index of the guest-written half of a vCPU's block in the arena. */
export const guestVcpuBase = (slot: number, vcpu: number): number =>
  (slot * HOT_BYTES + VCPUS_OFFSET + vcpu * VCPU_BYTES) >> 2;
/** Word index of the host-written half. */
export const hostVcpuBase = (slot: number, vcpu: number): number =>
  (slot * HOT_BYTES + VCPUS_OFFSET + vcpu * VCPU_BYTES + VCPU_HOST_OFFSET) >> 2;

export const ARENA_WORDS = (MAX_VMS * HOT_BYTES) >> 2;

export const HANDLES = MAX_VMS * MAX_VCPUS;
export const isHandle = (handle: number): boolean => handle >= 1 && handle <= HANDLES;
/** Of a valid handle. */
export const slotOf = (handle: number): number => ((handle - 1) / MAX_VCPUS) | 0;
export const vcpuOf = (handle: number): number => (handle - 1) % MAX_VCPUS;

/** Whose the core is, or will be once the request in flight is done; 0: nobody's. */
export function heirOfWord(low: number): number {
  const successor = successorOf(low);
  if (successor === 0) return ownerOf(low);
  return successor === HANDLE_IDLE ? 0 : successor;
}

/** What a person reads: "slot 3 vCPU 1". */
export function handleName(handle: number): string {
  if (handle === 0) return 'nobody';
  if (handle === HANDLE_IDLE) return 'idle';
  return isHandle(handle) ? `${slotOf(handle)}/${vcpuOf(handle)}` : `invalid ${handle}`;
}

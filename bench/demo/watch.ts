/**
 * Reading a VM's figures where they lie: in its control page and its section of the
 * hand-off table. What a guest wrote is taken for a count and for nothing else.
 */
import {
  CONTROL_BYTES,
  VCPU_BYTES,
  VCPU_HOST_OFFSET,
  VCPUS_OFFSET,
  VM_DEAD,
  VM_LIVE,
  VM_POISONED,
  VM_STARTING,
  W_GUEST_VCPU_DONE_HI,
  W_GUEST_VCPU_DONE_LO,
  W_SUMMARY_FLAGS,
  W_SUMMARY_INTEGRITY_ERRORS,
  W_VCPU_GRANTS,
  W_VM_FORCED,
  W_VM_FORCED_DESCHEDULED,
  W_VM_STATE,
  SUMMARY_BOOTED,
} from '../../arbiter/abi/layout.gen.ts';
import { summaryOffset } from '../../arbiter/abi/words.ts';
import { makeHandle, tableVcpuBase, vmBase } from '../../arbiter/bridge/words.ts';
import { mapShared, mapTable } from '../../native/index.ts';
import type { Watched } from './sampler.ts';

export { mapTable };
export const mapPage = (fd: number): ArrayBuffer => mapShared(fd, CONTROL_BYTES);

/** Where the words of a vCPU are. */
export function watchedVcpu(slot: number, vcpu: number, page: Int32Array): Watched {
  const guest = VCPUS_OFFSET + vcpu * VCPU_BYTES;
  return {
    handle: makeHandle(slot, vcpu),
    host: tableVcpuBase(slot, vcpu),
    page,
    guestHalf: guest >> 2,
    hostHalf: (guest + VCPU_HOST_OFFSET) >> 2,
  };
}

/** What is known of one VM from shared memory. */
export interface VmFigures {
  booted(): boolean;
  /** Units of work that it completed: requests or blocks. */
  done(): number;
  integrityErrors(): number;
  /** Times that one of its vCPUs got a core. */
  grants(): number;
  forced(): number;
  forcedDescheduled(): number;
  /** Why it cannot go on; undefined: it can. */
  trouble(): string | undefined;
  vcpus: readonly Watched[];
}

const states: Readonly<Record<number, string>> = {
  [VM_STARTING]: 'is still being set up',
  [VM_POISONED]: 'was stopped because of an unexpected exit of its guest',
  [VM_DEAD]: 'has ended',
};

export function vmFigures(table: Int32Array, page: Int32Array, slot: number, vcpus: number): VmFigures {
  const vm = vmBase(slot);
  const summary = summaryOffset(slot) >> 2;
  const watched = Array.from({ length: vcpus }, (_, vcpu) => watchedVcpu(slot, vcpu, page));
  /** The halves are written low first: a high half that stands still around the low one makes a whole. */
  const doneOf = ({ guestHalf }: Watched): number => {
    for (;;) {
      const high = Atomics.load(page, guestHalf + W_GUEST_VCPU_DONE_HI);
      const low = Atomics.load(page, guestHalf + W_GUEST_VCPU_DONE_LO) >>> 0;
      if (Atomics.load(page, guestHalf + W_GUEST_VCPU_DONE_HI) === high)
        return (high >>> 0) * 4294967296 + low;
    }
  };
  return {
    booted: () => (Atomics.load(page, summary + W_SUMMARY_FLAGS) & SUMMARY_BOOTED) !== 0,
    done: () => watched.reduce((sum, w) => sum + doneOf(w), 0),
    integrityErrors: () => Atomics.load(page, summary + W_SUMMARY_INTEGRITY_ERRORS) >>> 0,
    grants: () => watched.reduce((sum, w) => sum + (Atomics.load(table, w.host + W_VCPU_GRANTS) >>> 0), 0),
    forced: () => Atomics.load(table, vm + W_VM_FORCED) >>> 0,
    forcedDescheduled: () => Atomics.load(table, vm + W_VM_FORCED_DESCHEDULED) >>> 0,
    trouble(): string | undefined {
      const state = Atomics.load(table, vm + W_VM_STATE);
      return state === VM_LIVE ? undefined : (states[state] ?? 'is gone');
    },
    vcpus: watched,
  };
}

/**
 * What the bridge contract needs beside a bridge: VMs whose vCPUs hold cores and
 * leave them when told to. The suite is written against this, so that every bridge
 * passes the same tests whatever its vCPUs are.
 */
import { VM_LIVE, W_VM_STATE, W_VM_VCPUS } from '../../arbiter/abi/layout.gen.ts';
import { SimBridge } from '../../arbiter/bridge/sim.ts';
import type { Bridge } from '../../arbiter/bridge/bridge.ts';
import {
  coreBase,
  makeHandle,
  ownerOf,
  slotOf,
  successorOf,
  tableVcpuBase,
  vcpuOf,
  vcpuState,
  vcpuWord,
  vmBase,
} from '../../arbiter/bridge/words.ts';
import {
  CORE_NONE,
  MAX_CORES,
  TABLE_BYTES,
  VCPU_CEDING,
  VCPU_PARKED,
  VCPU_RUNNING,
  W_CORE_WORD_HI,
  W_VCPU_WORD,
} from '../../arbiter/abi/layout.gen.ts';

/** What a vCPU does when its core is asked for. */
export type Manner = 'obeys' | 'stubborn';

export interface ContractWorld {
  readonly bridge: Bridge;
  readonly table: Int32Array;
  /** Two managed cores. */
  readonly cores: readonly number[];
  readonly unmanagedCore: number;
  /** A live VM with parked vCPUs that obey. Returns its slot. */
  vm(vcpus: number): Promise<number>;
  manner(handle: number, manner: Manner): Promise<void>;
  /** The vCPU, which has a core, gives it back. */
  yield(handle: number): Promise<void>;
  /** Ends when something holds that follows from what was done; throws if that does not happen. */
  settled(what: string, holds: () => boolean): Promise<void>;
  /** The VM's process dies, as a crash would end it. The bridge is not told. */
  kill(slot: number): Promise<void>;
  /** Another bridge over the same table, as a second arbiter has it. */
  second(): Promise<Bridge>;
  /** Brings the generation of an idle core close to the wrap, if it can. */
  nearWrap(core: number): void;
  close(): Promise<void>;
}

export const stateOf = (world: ContractWorld, handle: number): number =>
  vcpuState(Atomics.load(world.table, tableVcpuBase(slotOf(handle), vcpuOf(handle)) + W_VCPU_WORD));

/** Ends when the vCPU's word has this state. PARKED is published when its thread has really gone to sleep. */
export const until = (world: ContractWorld, handle: number, state: number): Promise<void> =>
  world.settled(`vCPU ${handle} is in state ${state}`, () => stateOf(world, handle) === state);

/** The sim bridge with vCPUs that are words only. */
export async function simWorld(): Promise<ContractWorld> {
  const table = new Int32Array(TABLE_BYTES / 4);
  const bridge = new SimBridge(table);
  const stubborn = new Set<number>();
  const dead = new Set<number>();
  const cores = [1, 2];
  let slots = 0;
  bridge.claim(1, 0, cores);
  /** Everybody who has been asked and obeys leaves. */
  const settle = (): void => {
    for (let slot = 0; slot < slots; slot++) {
      for (let v = 0; v < table[vmBase(slot) + W_VM_VCPUS]; v++) {
        const handle = makeHandle(slot, v);
        if (dead.has(slot) || stubborn.has(handle)) continue;
        const state = vcpuState(table[tableVcpuBase(slot, v)]);
        if ((state === VCPU_CEDING || state === VCPU_RUNNING) && asked(handle)) bridge.leave(handle);
      }
    }
  };
  const asked = (handle: number): boolean => {
    for (let core = 0; core < MAX_CORES; core++) {
      const low = table[coreBase(core)];
      if (ownerOf(low) === handle && successorOf(low) !== 0) return true;
    }
    return false;
  };
  const world: ContractWorld = {
    bridge,
    table,
    cores,
    unmanagedCore: 9,
    async vm(vcpus) {
      const slot = slots++;
      table[vmBase(slot) + W_VM_VCPUS] = vcpus;
      table[vmBase(slot) + W_VM_STATE] = VM_LIVE;
      for (let v = 0; v < vcpus; v++)
        table[tableVcpuBase(slot, v) + W_VCPU_WORD] = vcpuWord(VCPU_PARKED, CORE_NONE);
      return slot;
    },
    async manner(handle, manner) {
      if (manner === 'stubborn') stubborn.add(handle);
      else stubborn.delete(handle);
    },
    async yield(handle) {
      if (!bridge.leave(handle)) throw new Error(`vCPU ${handle} has no core to yield`);
    },
    async settled(what, holds) {
      settle();
      if (!holds()) throw new Error(`it did not happen: ${what}`);
    },
    async kill(slot) {
      dead.add(slot);
    },
    second: async () => new SimBridge(table),
    nearWrap(core) {
      table[coreBase(core) + W_CORE_WORD_HI] = -3;
    },
    async close() {},
  };
  return world;
}

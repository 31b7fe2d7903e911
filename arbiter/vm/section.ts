/**
 * A VM's section of the hand-off table as objects, for everybody but the loop: the
 * daemon that fills it in, the arbiter's main thread that adopts VMs, `ps`.
 */
import {
  CLASS_LC,
  HOST_BLOCKED,
  MAX_VCPUS,
  MAX_VMS,
  NAME_BYTES,
  VCPU_DEAD,
  VCPU_UNMANAGED,
  VM_DEAD,
  VM_EMPTY,
  VM_LIVE,
  VM_POISONED,
  VM_STARTING,
  W_TABLE_VMS_CHANGED,
  W_VCPU_GRANTED_TSC_LO,
  W_VCPU_HOST,
  W_VCPU_PREEMPTS,
  W_VCPU_TAKEN_TSC_LO,
  W_VCPU_USED_TSC_LO,
  W_VCPU_WORD,
  W_VM_FORCED,
  W_VM_CONFIGURED,
  W_VM_FORCED_DESCHEDULED,
  W_VM_GENERATION,
  W_VM_GRANTED_TSC_LO,
  W_VM_GROUP,
  W_VM_HINT_CORES,
  W_VM_HINT_UNTIL_TSC_HI,
  W_VM_HINT_UNTIL_TSC_LO,
  W_VM_LOAD_FD,
  W_VM_LOAD_PID,
  W_VM_MAX_CORES,
  W_VM_MIN_CORES,
  W_VM_NAME,
  W_VM_PID,
  W_VM_QUANTUM_US,
  W_VM_SLO_US,
  W_VM_STATE,
  W_VM_TAKEN_TSC_LO,
  W_VM_USED_TSC_LO,
  W_VM_VCPUS,
  W_VM_VM_CLASS,
  W_VM_WEIGHT,
} from '../abi/layout.gen.ts';
import { futexWake } from '../../native/index.ts';
import { tableVcpuBase, vcpuState, vmBase } from '../bridge/words.ts';

export interface Section {
  slot: number;
  state: number;
  pid: number;
  name: string;
  vcpus: number;
  latencyCritical: boolean;
  minCores: number;
  maxCores: number;
  /** Time slice of its uThreads; 0: none. */
  quantumUs: number;
  generation: number;
  forced: number;
  forcedDescheduled: number;
  grantedTsc: number;
  usedTsc: number;
  takenTsc: number;
  /** uThreads that were made to give way in application code. */
  preempts: number;
  /** vCPUs that sleep in the host, outside of a park: only kFlux sees them. */
  blocked: number;
  loadPid: number;
  loadFd: number;
  weight: number;
  sloUs: number;
  group: number;
  /** Changes when the VM was configured anew. */
  configured: number;
}

const stateNames: Readonly<Record<number, string>> = {
  [VM_EMPTY]: 'empty',
  [VM_STARTING]: 'starting',
  [VM_LIVE]: 'live',
  [VM_POISONED]: 'poisoned',
  [VM_DEAD]: 'dead',
};
export const stateName = (state: number): string => stateNames[state] ?? `state ${state}`;

/** A 64-bit counter as a number: exact for any that a machine reaches. */
function wide(table: Int32Array, low: number): number {
  return (table[low] >>> 0) + (table[low + 1] >>> 0) * 2 ** 32;
}

function readName(table: Int32Array, at: number): string {
  const bytes = new Uint8Array(table.buffer, table.byteOffset + (at + W_VM_NAME) * 4, NAME_BYTES);
  const end = bytes.indexOf(0);
  // A copy first: TextDecoder does not read memory that others write to.
  return Buffer.from(bytes.subarray(0, end < 0 ? NAME_BYTES : end)).toString('latin1');
}

/** What all vCPUs of a slot add up to. */
function sum(slot: number, vcpus: number, of: (at: number) => number): number {
  let total = 0;
  for (let v = 0; v < Math.min(vcpus, MAX_VCPUS); v++) total += of(tableVcpuBase(slot, v));
  return total;
}

function isBlocked(table: Int32Array, at: number): boolean {
  const state = vcpuState(table[at + W_VCPU_WORD]);
  return table[at + W_VCPU_HOST] === HOST_BLOCKED && state !== VCPU_UNMANAGED && state !== VCPU_DEAD;
}

/** Whether all its vCPUs are under the ordinary scheduler: no arbiter's lease is on the VM. */
export function isNobodys(table: Int32Array, { slot, vcpus }: Section): boolean {
  const free = (at: number): number => (vcpuState(table[at + W_VCPU_WORD]) === VCPU_UNMANAGED ? 1 : 0);
  return vcpus > 0 && sum(slot, vcpus, free) === Math.min(vcpus, MAX_VCPUS);
}

export function readSection(table: Int32Array, slot: number): Section {
  const at = vmBase(slot);
  const vcpus = table[at + W_VM_VCPUS];
  // kFlux meters each vCPU in its own block, where the affinity bridge leaves zeros.
  const metered = (ofVm: number, ofVcpu: number): number =>
    wide(table, at + ofVm) + sum(slot, vcpus, (block) => wide(table, block + ofVcpu));
  return {
    slot,
    state: Atomics.load(table, at + W_VM_STATE),
    pid: table[at + W_VM_PID],
    name: readName(table, at),
    vcpus,
    latencyCritical: table[at + W_VM_VM_CLASS] === CLASS_LC,
    minCores: table[at + W_VM_MIN_CORES],
    maxCores: table[at + W_VM_MAX_CORES],
    quantumUs: table[at + W_VM_QUANTUM_US] >>> 0,
    generation: table[at + W_VM_GENERATION],
    forced: table[at + W_VM_FORCED] >>> 0,
    forcedDescheduled: table[at + W_VM_FORCED_DESCHEDULED] >>> 0,
    grantedTsc: metered(W_VM_GRANTED_TSC_LO, W_VCPU_GRANTED_TSC_LO),
    usedTsc: metered(W_VM_USED_TSC_LO, W_VCPU_USED_TSC_LO),
    takenTsc: metered(W_VM_TAKEN_TSC_LO, W_VCPU_TAKEN_TSC_LO),
    preempts: sum(slot, vcpus, (block) => table[block + W_VCPU_PREEMPTS] >>> 0),
    blocked: sum(slot, vcpus, (block) => (isBlocked(table, block) ? 1 : 0)),
    loadPid: table[at + W_VM_LOAD_PID],
    loadFd: table[at + W_VM_LOAD_FD],
    weight: table[at + W_VM_WEIGHT],
    sloUs: table[at + W_VM_SLO_US],
    group: table[at + W_VM_GROUP],
    configured: Atomics.load(table, at + W_VM_CONFIGURED),
  };
}

/** All slots that are in use. */
export function sections(table: Int32Array): Section[] {
  const found: Section[] = [];
  for (let slot = 0; slot < MAX_VMS; slot++) {
    if (Atomics.load(table, vmBase(slot) + W_VM_STATE) !== VM_EMPTY) found.push(readSection(table, slot));
  }
  return found;
}

/** Changes a section's state if it is still `from`. */
export function changeState(table: Int32Array, slot: number, from: number, to: number): boolean {
  return Atomics.compareExchange(table, vmBase(slot) + W_VM_STATE, from, to) === from;
}

/** Tells everyone who watches that a section has changed. */
export function announce(table: Int32Array): void {
  Atomics.add(table, W_TABLE_VMS_CHANGED, 1);
  futexWake(table.buffer as ArrayBuffer, W_TABLE_VMS_CHANGED * 4);
}

export interface NewSection {
  name: string;
  vcpus: number;
  latencyCritical: boolean;
  minCores: number;
  maxCores: number;
  /** 0: no time slices. */
  quantumUs?: number;
  /** What policies go by; 0: the default. */
  weight?: number;
  sloUs?: number;
  group?: number;
}

/** Takes a free slot and fills it in, state STARTING. Returns the slot; -1: all are in use. */
export function takeSlot(table: Int32Array, vm: NewSection): number {
  for (let slot = 0; slot < MAX_VMS; slot++) {
    if (!changeState(table, slot, VM_EMPTY, VM_STARTING)) continue;
    const at = vmBase(slot);
    const bytes = new Uint8Array(table.buffer, table.byteOffset + (at + W_VM_NAME) * 4, NAME_BYTES);
    bytes.fill(0);
    bytes.set(Buffer.from(vm.name, 'latin1').subarray(0, NAME_BYTES - 1));
    table[at + W_VM_PID] = 0;
    table[at + W_VM_VCPUS] = vm.vcpus;
    table[at + W_VM_VM_CLASS] = vm.latencyCritical ? CLASS_LC : 0;
    table[at + W_VM_MIN_CORES] = vm.minCores;
    table[at + W_VM_MAX_CORES] = vm.maxCores;
    table[at + W_VM_QUANTUM_US] = vm.quantumUs ?? 0;
    table[at + W_VM_WEIGHT] = vm.weight ?? 0;
    table[at + W_VM_SLO_US] = vm.sloUs ?? 0;
    table[at + W_VM_GROUP] = vm.group ?? 0;
    table[at + W_VM_HINT_CORES] = 0;
    table[at + W_VM_LOAD_PID] = 0;
    table[at + W_VM_LOAD_FD] = 0;
    Atomics.add(table, at + W_VM_GENERATION, 1);
    return slot;
  }
  return -1;
}

export interface Reconfigured {
  group?: number;
  /** Announced need: so many cores until this time of the counter. */
  hint?: { cores: number; untilTsc: number };
}

/** Changes what policies go by, while the VM is there. */
export function reconfigure(table: Int32Array, slot: number, { group, hint }: Reconfigured): void {
  const at = vmBase(slot);
  if (group !== undefined) table[at + W_VM_GROUP] = group;
  if (hint !== undefined) {
    table[at + W_VM_HINT_UNTIL_TSC_LO] = (hint.untilTsc % 2 ** 32) | 0;
    table[at + W_VM_HINT_UNTIL_TSC_HI] = Math.floor(hint.untilTsc / 2 ** 32);
    table[at + W_VM_HINT_CORES] = hint.cores;
  }
  // Last: pairs with readSection's load, so whoever sees it change sees what has changed.
  Atomics.add(table, at + W_VM_CONFIGURED, 1);
  announce(table);
}

/** Says where a VM's load area is; pid 0: nowhere. */
export function setLoad(table: Int32Array, slot: number, pid: number, fd: number): void {
  const at = vmBase(slot);
  // The pid last: whoever sees it sees the descriptor that belongs to it.
  table[at + W_VM_LOAD_FD] = fd;
  Atomics.store(table, at + W_VM_LOAD_PID, pid);
  announce(table);
}

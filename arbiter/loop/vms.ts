/**
 * VMs coming to the loop and leaving it, between chunks. The configuration stands in
 * the host-only table, which no guest can write; it is clamped all the same and
 * copied, so that a VM's limits cannot change behind the guard's back.
 */
import {
  CLASS_BE,
  CLASS_LC,
  MAX_VCPUS,
  MAX_VMS,
  W_VM_GROUP,
  W_VM_MAX_CORES,
  W_VM_MIN_CORES,
  W_VM_QUANTUM_US,
  W_VM_RING_DEPTH,
  W_VM_SLO_US,
  W_VM_VCPUS,
  W_VM_VM_CLASS,
  W_VM_WEIGHT,
} from '../abi/layout.gen.ts';
import { summaryBase, vmBase } from '../bridge/words.ts';
import {
  AGE_MAX,
  DEFAULT_WEIGHT,
  HEAD_CHANGES,
  HEAD_NOW,
  MAX_GROUPS,
  NO_PLAN,
  VM_BOOTING,
} from '../policy/api.ts';
import { dropHint, takeHint } from './hints.ts';
import type { LoopMemory, LoopState } from './state.ts';
import { N_ACTIVE, N_CORES, N_NUDGE, N_SLICED, NEVER } from './state.ts';
import { counter, S_ACTIVE } from './stats.ts';

const C_ATTACHED = counter('attached');
const C_DETACHED = counter('detached');

const clamp = (value: number, low: number, high: number): number =>
  Math.min(Math.max(value >>> 0, low), high);

/** The longest time slice: its repeats stay far from where stamps wrap. */
const QUANTUM_MAX_US = 1_000_000;

function setQuantum(mem: LoopMemory, s: LoopState, slot: number, us: number): void {
  const stamps = Math.round((us * mem.tscKhz) / 1000 / 2 ** mem.stampShift);
  const quantum = us === 0 ? 0 : Math.max(1, stamps);
  s.n[N_SLICED] += Math.sign(quantum) - Math.sign(s.vmQuantum[slot]);
  s.vmQuantum[slot] = quantum;
}

/** A weight is a share of a whole: what is beyond this is a mistake. */
const MAX_WEIGHT = 10_000;

/** Reads the VM's limits again, after attaching, when they or the pool have changed, or when need is announced. */
export function configureVm(mem: LoopMemory, s: LoopState, slot: number): void {
  const at = vmBase(slot);
  const vcpus = clamp(mem.table[at + W_VM_VCPUS], 1, MAX_VCPUS);
  const most = Math.max(1, Math.min(vcpus, s.n[N_CORES]));
  const max = clamp(mem.table[at + W_VM_MAX_CORES], 1, most);
  s.vmVcpus[slot] = vcpus;
  s.view.vmClass[slot] = mem.table[at + W_VM_VM_CLASS] === CLASS_LC ? CLASS_LC : CLASS_BE;
  s.view.vmMax[slot] = max;
  s.view.vmMin[slot] = clamp(mem.table[at + W_VM_MIN_CORES], 0, max);
  s.guard.limit[slot] = max;
  s.guard.known[slot] = 1;
  setQuantum(mem, s, slot, clamp(mem.table[at + W_VM_QUANTUM_US], 0, QUANTUM_MAX_US));
  const weight = mem.table[at + W_VM_WEIGHT];
  s.view.vmWeight[slot] = weight === 0 ? DEFAULT_WEIGHT : clamp(weight, 1, MAX_WEIGHT);
  const stampsPerUs = mem.tscKhz / 1000 / 2 ** mem.stampShift;
  s.view.vmSlo[slot] = Math.min((mem.table[at + W_VM_SLO_US] >>> 0) * stampsPerUs, AGE_MAX);
  s.view.vmGroup[slot] = clamp(mem.table[at + W_VM_GROUP], 0, MAX_GROUPS - 1);
  takeHint(mem, s, slot);
  s.view.head[HEAD_CHANGES]++;
}

/** The VM's control page is in the arena: the loop looks at it from the next turn on. */
export function attachVm(mem: LoopMemory, s: LoopState, slot: number): void {
  if (slot < 0 || slot >= MAX_VMS || s.dense[slot] >= 0) return;
  const i = s.n[N_ACTIVE]++;
  s.dense[slot] = i;
  s.dSlot[i] = slot;
  s.dSummary[i] = summaryBase(slot);
  s.dVm[i] = vmBase(slot);
  s.dDepth[i] = s.dVm[i] + W_VM_RING_DEPTH;
  s.dSeq[i] = mem.arena[s.dSummary[i]];
  s.dStale[i] = 1;
  s.dQuiet[i] = (s.dSeq[i] + NEVER) | 0;
  s.vmLoad[slot] = 0;
  s.vmHeld[slot] = 0;
  s.vmHasOldest[slot] = 0;
  s.vmHasTimer[slot] = 0;
  s.vmAged[slot] = 0;
  s.vmAgedStamp[slot] = 0;
  s.vmLeft[slot] = s.view.head[HEAD_NOW];
  s.vmLeftOld[slot] = 0;
  s.view.vmFlags[slot] = VM_BOOTING;
  s.view.vmAway[slot] = 0;
  s.view.vmDelay[slot] = 0;
  s.view.vmWants[slot] = 0;
  s.view.vmPlan[slot] = NO_PLAN;
  configureVm(mem, s, slot);
  mem.bridge.setPage(slot, true);
  s.n[N_NUDGE] = 1;
  mem.stats.words[S_ACTIVE] = s.n[N_ACTIVE];
  mem.stats.counters[C_ATTACHED]++;
}

/** The VM is gone or is no longer managed; the last of the dense list takes its place. */
export function detachVm(mem: LoopMemory, s: LoopState, slot: number): void {
  const i = slot >= 0 && slot < MAX_VMS ? s.dense[slot] : -1;
  if (i < 0) return;
  const last = --s.n[N_ACTIVE];
  const moved = s.dSlot[last];
  for (const list of [s.dSlot, s.dSummary, s.dVm, s.dDepth, s.dSeq, s.dQuiet, s.dStale]) list[i] = list[last];
  s.dense[moved] = i;
  s.dense[slot] = -1;
  s.guard.known[slot] = 0;
  s.guard.limit[slot] = 0;
  setQuantum(mem, s, slot, 0);
  s.view.vmMax[slot] = 0;
  s.view.vmMin[slot] = 0;
  s.view.vmPlan[slot] = NO_PLAN;
  dropHint(s, slot);
  s.view.head[HEAD_CHANGES]++;
  s.view.vmFlags[slot] = 0;
  s.view.vmDelay[slot] = 0;
  s.view.vmWants[slot] = 0;
  mem.bridge.setPage(slot, false);
  s.n[N_NUDGE] = 1;
  mem.stats.words[S_ACTIVE] = s.n[N_ACTIVE];
  mem.stats.counters[C_DETACHED]++;
}

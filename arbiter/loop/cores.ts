/**
 * Reading the managed cores: finished moves, yields, cores that fell idle. The low
 * half of a core word holds owner and successor and is read with one load, so it is
 * never torn; the generation only tells that something happened.
 */
import {
  CORE_OFFLINE,
  GUEST_IDLE,
  GUEST_RUNNING,
  W_CORE_FLAGS,
  W_CORE_HEIR,
  W_GUEST_VCPU_STATE,
} from '../abi/layout.gen.ts';
import {
  coreBase,
  guestVcpuBase,
  heirOfWord,
  isHandle,
  ownerOf,
  slotOf,
  successorOf,
  vcpuOf,
} from '../bridge/words.ts';
import { AGE_MAX, CORE_IDLE, CORE_MOVING, HEAD_CHANGES, HEAD_CORES, NO_VM } from '../policy/api.ts';
import { WHY_NONE } from '../policy/reasons.ts';
import type { LoopMemory, LoopState } from './state.ts';
import { N_CORES, N_EVENTS, NEVER } from './state.ts';

export interface Cores {
  /** Takes these cores as the managed ones and forgets all that was known of others. */
  manage(cores: readonly number[]): void;
  /** Looks at every core; counts what changed in n[N_EVENTS]. `now`: a stamp. */
  scan(now: number): void;
  /** Before a decision: reads the heirs, and presets every wish to "as it is". */
  preset(): void;
}

export function makeCores(mem: LoopMemory, s: LoopState): Cores {
  const {
    n,
    coreId,
    coreAt,
    coreLow,
    coreGen,
    coreSince,
    coreOld,
    coreGuest,
    coreBusy,
    coreOwner,
    coreNoted,
    heirHandle,
  } = s;
  const { dense, dSeq, dQuiet, dStale, vmBusyCores, vmSpan, vmLeft, vmLeftOld } = s;
  const { head, coreVm, coreFlags, coreAge, coreLast, coreHeir, vmCores, target, why, heir } = s.view;
  const { arena, table } = mem;

  /** Makes the scan of VMs read this one's queues again. */
  function touch(slot: number): void {
    const i = dense[slot];
    if (i < 0) return;
    dStale[i] = 1;
    dQuiet[i] = (dSeq[i] + NEVER) | 0;
  }

  function setBusy(k: number, slot: number, busy: number): void {
    if (coreBusy[k] === busy) return;
    coreBusy[k] = busy;
    vmBusyCores[slot] += busy === 0 ? -1 : 1;
  }

  /** Counts core k for (or, with -1, no longer for) its owner and for who is getting it. */
  function span(k: number, by: number): void {
    if (coreOwner[k] !== NO_VM) vmSpan[coreOwner[k]] += by;
    if (coreVm[k] !== NO_VM && coreVm[k] !== coreOwner[k]) vmSpan[coreVm[k]] += by;
  }

  function slotOfHandle(handle: number): number {
    return isHandle(handle) ? slotOf(handle) : NO_VM;
  }

  function changed(k: number, low: number, now: number): void {
    const was = coreLow[k];
    const owner = ownerOf(low);
    if (coreVm[k] !== NO_VM) setBusy(k, coreVm[k], 0);
    span(k, -1);
    if (ownerOf(was) !== owner) {
      coreSince[k] = now;
      coreOld[k] = 0;
      if (isHandle(ownerOf(was))) touch(slotOf(ownerOf(was)));
    }
    if (isHandle(owner)) touch(slotOf(owner));
    const moving = successorOf(low) !== 0;
    const vm = slotOfHandle(heirOfWord(low));
    if (vm !== coreVm[k]) {
      if (coreVm[k] !== NO_VM) {
        if (--vmCores[coreVm[k]] === 0) {
          vmLeft[coreVm[k]] = now;
          vmLeftOld[coreVm[k]] = 0;
        }
        touch(coreVm[k]);
        coreLast[k] = coreVm[k];
      }
      if (vm !== NO_VM) {
        vmCores[vm]++;
        touch(vm);
      }
      coreVm[k] = vm;
    }
    coreOwner[k] = slotOfHandle(owner);
    span(k, 1);
    coreFlags[k] = moving ? CORE_MOVING : 0;
    const watch = !moving && isHandle(owner) && dense[slotOf(owner)] >= 0;
    coreGuest[k] = watch ? guestVcpuBase(slotOf(owner), vcpuOf(owner)) + W_GUEST_VCPU_STATE : -1;
    coreLow[k] = low;
    n[N_EVENTS]++;
  }

  function age(k: number, now: number): void {
    if (coreOld[k] !== 0) return;
    const d = (now - coreSince[k]) | 0;
    if (d < AGE_MAX && d >= 0) {
      coreAge[k] = d;
    } else {
      coreAge[k] = AGE_MAX;
      coreOld[k] = 1;
    }
  }

  return {
    manage(cores): void {
      for (let k = 0; k < n[N_CORES]; k++) {
        span(k, -1);
        if (coreVm[k] === NO_VM) continue;
        setBusy(k, coreVm[k], 0);
        vmCores[coreVm[k]]--;
      }
      n[N_CORES] = cores.length;
      head[HEAD_CORES] = cores.length;
      head[HEAD_CHANGES]++;
      for (let k = 0; k < cores.length; k++) {
        coreId[k] = cores[k];
        coreAt[k] = coreBase(cores[k]);
        coreVm[k] = NO_VM;
        coreOwner[k] = NO_VM;
        coreLast[k] = NO_VM;
        coreHeir[k] = NO_VM;
        coreFlags[k] = 0;
        coreAge[k] = 0;
        coreOld[k] = 0;
        coreBusy[k] = 0;
        coreGuest[k] = -1;
        coreNoted[k] = 0;
        coreLow[k] = 0;
        // Not the table's: the first scan takes every core for changed and reads it.
        coreGen[k] = ~table[coreAt[k] + 1];
      }
    },
    scan(now): void {
      const cores = n[N_CORES];
      n[N_EVENTS] = 0;
      for (let k = 0; k < cores; k++) {
        const at = coreAt[k];
        // Generation first: if the word changes between the loads, the next turn sees the generation differ.
        const generation = table[(at + 1) | 0];
        const low = table[at];
        if (low !== coreLow[k] || generation !== coreGen[k]) {
          coreGen[k] = generation;
          changed(k, low, now);
        }
        age(k, now);
        const guest = coreGuest[k];
        if (guest >= 0) {
          const state = arena[guest];
          coreFlags[k] = state === GUEST_IDLE ? CORE_IDLE : 0;
          setBusy(k, coreVm[k], state === GUEST_RUNNING ? 1 : 0);
        }
      }
    },
    preset(): void {
      const cores = n[N_CORES];
      for (let k = 0; k < cores; k++) {
        const at = coreAt[k];
        const handle = table[(at + W_CORE_HEIR) | 0];
        if (coreGuest[k] < 0) {
          // A core that is offline has no owner and can get none: as one on the move, it is nobody's to give.
          const offline = table[(at + W_CORE_FLAGS) | 0] & CORE_OFFLINE;
          coreFlags[k] = (offline | successorOf(coreLow[k])) !== 0 ? CORE_MOVING : 0;
        }
        heirHandle[k] = handle;
        coreHeir[k] = handle === 0 ? NO_VM : slotOfHandle(handle);
        target[k] = coreVm[k];
        why[k] = WHY_NONE;
        heir[k] = NO_VM;
      }
    },
  };
}

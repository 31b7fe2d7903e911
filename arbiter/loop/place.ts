/**
 * Which vCPU of a VM gets a core. The policy names VMs; here it is known whose
 * interrupted uThread waits for its vCPU, who has work queued and who ran where.
 *
 * Here also a VM's maximum is kept against what the loop cannot see: an heir may
 * inherit at any moment. So the vCPUs that hold a core, are heirs or are targets
 * ("reach") are never more than the maximum; beyond it, a core is only given to a
 * vCPU that is within reach already.
 */
import {
  HELD_FORCED,
  HELD_HELD,
  VCPU_PARKED,
  W_GUEST_VCPU_RUNQ_LEN,
  W_VCPU_HELD,
  W_VCPU_PINNED,
} from '../abi/layout.gen.ts';
import { guestVcpuBase, isHandle, makeHandle, slotOf, tableVcpuBase, vcpuOf } from '../bridge/words.ts';
import type { LoopMemory, LoopState } from './state.ts';
import { MAX_RUNQ, N_CORES, N_DECISION, VCPU_STRIDE } from './state.ts';

export interface Place {
  /** Starts a decision: reads who is an heir. */
  begin(): void;
  /** The vCPU of `slot` that should run on `core` now; 0: none is parked and allowed. */
  target(slot: number, core: number): number;
  /** The vCPU of `slot` that should inherit `core`; 0: none. */
  heir(slot: number, core: number): number;
  /** Whether the vCPU that is an heir can still be one. */
  stands(handle: number): boolean;
}

// What counts more than what. A queue's length fills the bits between.
const FORCED = 1 << 27;
const HELD = 1 << 26;
const QUEUE_SHIFT = 2;
const SAME_CORE = 2;
/** An heir of another core already: better one that is not, so that both cores have somebody. */
const SHARED = 1 << 25;

export function makePlace(mem: LoopMemory, s: LoopState): Place {
  const { n, heirHandle, taken, heirMark, reach, reachMark, vmVcpus, vmSpan } = s;
  const { limit } = s.guard;
  const { arena, table } = mem;

  function parked(handle: number): boolean {
    return (table[tableVcpuBase(slotOf(handle), vcpuOf(handle))] & 0xff) === VCPU_PARKED;
  }

  function reached(slot: number): number {
    return vmSpan[slot] + (reachMark[slot] === n[N_DECISION] ? reach[slot] : 0);
  }

  function mark(handle: number): void {
    if (heirMark[handle] === n[N_DECISION]) return;
    heirMark[handle] = n[N_DECISION];
    const slot = slotOf(handle);
    if (reachMark[slot] !== n[N_DECISION]) {
      reachMark[slot] = n[N_DECISION];
      reach[slot] = 0;
    }
    reach[slot]++;
  }

  function best(slot: number, core: number, forHeir: boolean): number {
    const decision = n[N_DECISION];
    const anyone = reached(slot) < limit[slot];
    const vcpus = vmVcpus[slot];
    let guest = guestVcpuBase(slot, 0) + W_GUEST_VCPU_RUNQ_LEN;
    let host = tableVcpuBase(slot, 0);
    let found = 0;
    let most = -1;
    for (let v = 0; v < vcpus; v++) {
      const handle = makeHandle(slot, v);
      const within = heirMark[handle] === decision;
      if ((table[host] & 0xff) === VCPU_PARKED && taken[handle] !== decision && (anyone || within)) {
        const queued = arena[guest] >>> 0;
        const held = table[(host + W_VCPU_HELD) | 0];
        let score = SHARED + ((queued < MAX_RUNQ ? queued : MAX_RUNQ) << QUEUE_SHIFT);
        if (held === HELD_FORCED) score += FORCED;
        else if (held === HELD_HELD) score += HELD;
        if (table[(host + W_VCPU_PINNED) | 0] === core) score += SAME_CORE;
        if (forHeir && within) score -= SHARED;
        if (score > most) {
          most = score;
          found = handle;
        }
      }
      guest = (guest + VCPU_STRIDE) | 0;
      host = (host + VCPU_STRIDE) | 0;
    }
    if (found !== 0) mark(found);
    return found;
  }

  return {
    begin(): void {
      const cores = n[N_CORES];
      n[N_DECISION] = (n[N_DECISION] + 1) | 0;
      for (let k = 0; k < cores; k++) {
        const handle = heirHandle[k];
        // One that has a core by now is counted by it.
        if (handle !== 0 && isHandle(handle) && parked(handle)) mark(handle);
      }
    },
    target(slot, core): number {
      const handle = best(slot, core, false);
      if (handle !== 0) taken[handle] = n[N_DECISION];
      return handle;
    },
    heir: (slot, core) => best(slot, core, true),
    stands: (handle) => isHandle(handle) && parked(handle) && taken[handle] !== n[N_DECISION],
  };
}

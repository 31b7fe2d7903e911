/**
 * Reading the VMs: one or two loads tell that a VM has not changed; only then is
 * more read. Everything a guest wrote is clamped here, so that nothing behind this
 * file ever sees a guest's number raw.
 *
 * Loads are plain: V8 keeps them in order and does not hoist element loads, x86 has
 * no reordering of loads, and a figure that is a turn late is harmless. The sequence
 * number is read first, so a change during the reading is seen in the next turn.
 *
 * Sums of indices end in `| 0`: without it V8 checks each of them for overflow.
 */
import {
  HELD_FORCED,
  HELD_HELD,
  RING_ENTRIES,
  SUMMARY_BOOTED,
  SUMMARY_TIMER,
  VCPU_GRANTING,
  VCPU_PARKED,
  VCPU_UNMANAGED,
  VM_LIVE,
  W_GUEST_VCPU_OLDEST,
  W_GUEST_VCPU_RUNQ_LEN,
  W_SUMMARY_FLAGS,
  W_SUMMARY_NEXT_TIMER,
  W_VCPU_HELD,
  W_VCPU_T_PARKED_HI,
  W_VCPU_T_PARKED_LO,
  W_VM_RING_DEPTH,
  W_VM_RING_OLDEST,
  W_VM_STATE,
} from '../abi/layout.gen.ts';
import { guestVcpuBase, tableVcpuBase } from '../bridge/words.ts';
import { AGE_MAX, HEAD_HOT, VM_BOOTING, VM_FORCED_HELD } from '../policy/api.ts';
import type { LoopMemory, LoopState } from './state.ts';
import { MAX_RUNQ, N_ACTIVE, NEVER, VCPU_STRIDE } from './state.ts';

/** Returns the function that looks at all active VMs and fills view.hot. `now`: a stamp. */
export function makeScan(mem: LoopMemory, s: LoopState): (now: number) => void {
  const {
    n,
    dSlot,
    dSummary,
    dVm,
    dDepth,
    dSeq,
    dQuiet,
    dStale,
    vmVcpus,
    vmLoad,
    vmHeld,
    vmHasOldest,
    vmOldest,
  } = s;
  const { vmHasTimer, vmTimer, vmAgedStamp, vmAged, vmBusyCores, vmSpan, vmLeft, vmLeftOld } = s;
  const { head, hot, vmCores, vmWants, vmDelay, vmAway, vmFlags } = s.view;
  const { limit } = s.guard;
  const { arena, table } = mem;
  const shift = mem.stampShift;
  // A shift of a 32-bit number by 32 is a shift by 0; two steps are right for a shift of 0 too.
  const highShift = 31 - shift;

  /**
   * The queues and held contexts of one VM. Returns 1 if it has to be read again: a vCPU that has left its core, but
   * is not PARKED yet, may turn out to hold an interrupted uThread, and nothing else would tell. With kFlux that lasts
   * until its thread sleeps, and for one that is blocked in the host until it has come back from there.
   */
  function readQueues(slot: number): number {
    const vcpus = vmVcpus[slot];
    let guest = guestVcpuBase(slot, 0);
    let host = tableVcpuBase(slot, 0);
    let load = 0;
    let held = 0;
    let forced = 0;
    let has = 0;
    let oldest = 0;
    let astir = 0;
    for (let v = 0; v < vcpus; v++) {
      const queued = arena[(guest + W_GUEST_VCPU_RUNQ_LEN) | 0] >>> 0;
      if (queued !== 0) {
        load += queued < MAX_RUNQ ? queued : MAX_RUNQ;
        const stamp = arena[(guest + W_GUEST_VCPU_OLDEST) | 0];
        if (has === 0 || ((stamp - oldest) | 0) < 0) oldest = stamp;
        has = 1;
      }
      const state = table[host] & 0xff;
      if (state >= VCPU_GRANTING && state <= VCPU_UNMANAGED) {
        astir++;
      } else if (state === VCPU_PARKED) {
        const context = table[(host + W_VCPU_HELD) | 0];
        if (context === HELD_HELD || context === HELD_FORCED) {
          // An interrupted uThread waits since its vCPU was parked.
          held++;
          if (context === HELD_FORCED) forced = VM_FORCED_HELD;
          const low = table[(host + W_VCPU_T_PARKED_LO) | 0] >>> shift;
          const stamp = low | ((table[(host + W_VCPU_T_PARKED_HI) | 0] << highShift) << 1);
          if (has === 0 || ((stamp - oldest) | 0) < 0) oldest = stamp;
          has = 1;
        }
      }
      guest = (guest + VCPU_STRIDE) | 0;
      host = (host + VCPU_STRIDE) | 0;
    }
    vmLoad[slot] = load;
    vmHeld[slot] = held;
    vmHasOldest[slot] = has;
    vmOldest[slot] = oldest;
    vmFlags[slot] = (vmFlags[slot] & VM_BOOTING) | forced;
    return astir > vmSpan[slot] ? 1 : 0;
  }

  function readSummary(slot: number, at: number): void {
    const flags = arena[(at + W_SUMMARY_FLAGS) | 0];
    vmHasTimer[slot] = flags & SUMMARY_TIMER;
    vmTimer[slot] = arena[(at + W_SUMMARY_NEXT_TIMER) | 0];
    // Booting ends once: a guest cannot go back to it.
    if ((flags & SUMMARY_BOOTED) !== 0) vmFlags[slot] &= ~VM_BOOTING;
  }

  /** Age of a stamp, clamped to 0..AGE_MAX; what was too old once stays so until the stamp changes. */
  function ageOf(slot: number, stamp: number, now: number): number {
    if (vmAgedStamp[slot] !== stamp) {
      vmAgedStamp[slot] = stamp;
      vmAged[slot] = 0;
    }
    if (vmAged[slot] !== 0) return AGE_MAX;
    const age = (now - stamp) | 0;
    if (age < 0) return 0;
    if (age < AGE_MAX) return age;
    vmAged[slot] = 1;
    return AGE_MAX;
  }

  /** How long the VM has had no core. */
  function awayOf(slot: number, now: number): number {
    if (vmCores[slot] !== 0) return 0;
    const age = (now - vmLeft[slot]) | 0;
    if (vmLeftOld[slot] === 0 && age >= 0 && age < AGE_MAX) return age;
    vmLeftOld[slot] = 1;
    return AGE_MAX;
  }

  function see(i: number, now: number): void {
    const slot = dSlot[i];
    const vm = dVm[i];
    if (table[(vm + W_VM_STATE) | 0] !== VM_LIVE) {
      vmWants[slot] = 0;
      vmDelay[slot] = 0;
      dQuiet[i] = dSeq[i];
      return;
    }
    const at = dSummary[i];
    const seq = arena[at];
    if (seq !== dSeq[i] || (dStale[i] | vmHeld[slot]) !== 0) {
      dSeq[i] = seq;
      readSummary(slot, at);
      dStale[i] = readQueues(slot);
    }
    let depth = table[(vm + W_VM_RING_DEPTH) | 0] >>> 0;
    if (depth > RING_ENTRIES) depth = RING_ENTRIES;
    let load = vmLoad[slot] + vmHeld[slot] + depth;
    let has = vmHasOldest[slot];
    let oldest = vmOldest[slot];
    if (depth !== 0) {
      const stamp = table[(vm + W_VM_RING_OLDEST) | 0];
      if (has === 0 || ((stamp - oldest) | 0) < 0) oldest = stamp;
      has = 1;
    }
    if (vmHasTimer[slot] !== 0 && ((now - vmTimer[slot]) | 0) >= 0) {
      load++;
      if (has === 0 || ((vmTimer[slot] - oldest) | 0) < 0) oldest = vmTimer[slot];
      has = 1;
    }
    vmDelay[slot] = has === 0 ? 0 : ageOf(slot, oldest, now);
    vmAway[slot] = awayOf(slot, now);
    // A core whose vCPU runs nothing yet (it is arriving, or looks for work) will serve waiting work itself.
    let wants = vmBusyCores[slot] + load;
    const booting = vmFlags[slot] & VM_BOOTING;
    if (booting !== 0 && wants === 0) wants = 1;
    const most = limit[slot];
    vmWants[slot] = wants < most ? wants : most;
    dQuiet[i] = (load | vmHasTimer[slot] | booting | dStale[i]) === 0 ? seq : (seq + NEVER) | 0;
    hot[head[HEAD_HOT]++] = slot;
  }

  /** Whether something is to be seen at place i of the dense list. */
  function news(i: number): number {
    return (arena[dSummary[i]] ^ dQuiet[i]) | table[dDepth[i]];
  }

  function seeEach(from: number, to: number, now: number): void {
    for (let i = from; i < to; i++) {
      if (news(i) !== 0) see(i, now);
    }
  }

  return function scan(now: number): void {
    const active = n[N_ACTIVE];
    const quads = active >> 2;
    head[HEAD_HOT] = 0;
    // Four at a time: the usual answer is "nothing", and one branch says it for all four. What each of them says is
    // forgotten at once and asked again if need be: kept, it would fill the registers.
    for (let q = 0; q < quads; q++) {
      const i = q << 2;
      if ((news(i) | news(i | 1) | news(i | 2) | news(i | 3)) !== 0) {
        seeEach(i, i + 4, now);
      }
    }
    seeEach(quads << 2, active, now);
  };
}

/**
 * Warm-up: before the loop touches anything real it runs through every branch on
 * shadow pages, so that V8 has compiled the code, and compiled it for what really
 * happens. A cold first decision would cost a third of a millisecond, and a branch
 * never seen costs the same again when it is first taken.
 *
 * The guests, the Fluxions and the failures are played here. The loop's functions,
 * arrays and bridge are those that it goes live with, and only the pages beneath the
 * table are exchanged then: code that has only ever seen one table and one bridge has
 * their addresses in it, which makes a turn up to a quarter faster.
 */
import {
  CLASS_BE,
  CLASS_LC,
  CORE_NONE,
  CORE_OFFLINE,
  GUEST_IDLE,
  GUEST_RUNNING,
  HELD_FORCED,
  HELD_HELD,
  HELD_NONE,
  SUMMARY_BOOTED,
  SUMMARY_TIMER,
  VCPU_CEDING,
  VCPU_PARKED,
  VM_LIVE,
  VM_POISONED,
  W_CORE_FLAGS,
  W_CORE_WORD_LO,
  W_GUEST_VCPU_OLDEST,
  W_GUEST_VCPU_RUNQ_LEN,
  W_GUEST_VCPU_STATE,
  W_GUEST_VCPU_SWITCHES,
  W_SUMMARY_FLAGS,
  W_SUMMARY_NEXT_TIMER,
  W_SUMMARY_SEQ,
  W_VCPU_HELD,
  W_VCPU_TID,
  W_VCPU_WORD,
  W_VM_GROUP,
  W_VM_HINT_CORES,
  W_VM_HINT_UNTIL_TSC_HI,
  W_VM_HINT_UNTIL_TSC_LO,
  W_VM_MAX_CORES,
  W_VM_MIN_CORES,
  W_VM_QUANTUM_US,
  W_VM_RING_DEPTH,
  W_VM_RING_OLDEST,
  W_VM_SLO_US,
  W_VM_STATE,
  W_VM_VCPUS,
  W_VM_VM_CLASS,
  W_VM_WEIGHT,
} from '../abi/layout.gen.ts';
import {
  CMD_OP,
  CMD_RESULT,
  CMD_TO,
  CMD_WORDS,
  OP_GRANT,
  OP_HEIR,
  OP_PREEMPT,
  R_AGAIN,
  R_ALREADY,
  R_BUSY,
  R_DEAD,
  R_INVALID,
  R_OFFLINE,
} from '../bridge/bridge.ts';
import { SimBridge } from '../bridge/sim.ts';
import {
  coreBase,
  guestVcpuBase,
  makeHandle,
  ownerOf,
  summaryBase,
  tableVcpuBase,
  vcpuWord,
  vmBase,
} from '../bridge/words.ts';
import { AGE_MAX, HEAD_NOW } from '../policy/api.ts';
import { R_BYTES, R_GENERATION, R_HEAD, R_TAIL, R_UNTIL } from '../record/format.ts';
import type { LoopMemory, LoopState } from './state.ts';
import { N_IN_FLIGHT, N_LOADS, N_STALE } from './state.ts';
import { resetStats, S_RECORDS } from './stats.ts';
import type { Turn } from './turn.ts';
import { attachVm, configureVm, detachVm } from './vms.ts';

const VCPUS = 4;
/** Not a thread of any process: what a bridge does to it fails harmlessly. 0 would be this thread. */
const NO_THREAD = 0x7fffffff;
const FAILURES = [R_BUSY, R_AGAIN, R_ALREADY, R_DEAD, R_INVALID, R_OFFLINE];

export interface WarmUp {
  /** Rounds of a few turns each; tens of thousands are needed before code is compiled for good. */
  rounds: number;
  /** VMs of the played world; more than four, so that the unrolled scan is used. */
  vms: number;
  /** Cores of the played world. */
  cores: number;
}

export const DEFAULT_WARM_UP: WarmUp = { rounds: 30_000, vms: 11, cores: 5 };

/**
 * For a table that nobody else looks at. Afterwards the caller puts the real pages beneath it, claims the lease anew
 * and calls turn.cores.manage. The arena's slots that were used are zero again.
 */
export function warmUp(
  mem: LoopMemory,
  s: LoopState,
  turn: Turn,
  { rounds, vms, cores }: WarmUp = DEFAULT_WARM_UP,
): void {
  let seed = 12345;
  const pick = (below: number): number => {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
    return ((seed >>> 8) * below) >>> 24;
  };
  // What an earlier arbiter decided is still worth explaining; what is played here is not.
  const { words, records } = mem.stats;
  const earlier = { count: words[S_RECORDS], records: records.slice() };
  let sliced = false;
  const coreList = Array.from({ length: cores }, (_, i) => i);
  const stamp = (ago: number): number => (s.view.head[HEAD_NOW] - ago) | 0;

  const { table, bridge } = mem;
  const hand = new SimBridge(table);

  function layOut(): void {
    for (let slot = 0; slot < vms; slot++) {
      const at = vmBase(slot);
      table[at + W_VM_STATE] = VM_LIVE;
      table[at + W_VM_VCPUS] = VCPUS;
      table[at + W_VM_VM_CLASS] = slot % 2 === 0 ? CLASS_LC : CLASS_BE;
      table[at + W_VM_MIN_CORES] = slot % 3 === 0 ? 1 : 0;
      table[at + W_VM_MAX_CORES] = 1 + (slot % VCPUS);
      for (let v = 0; v < VCPUS; v++) {
        table[tableVcpuBase(slot, v) + W_VCPU_WORD] = vcpuWord(VCPU_PARKED, CORE_NONE);
        table[tableVcpuBase(slot, v) + W_VCPU_TID] = NO_THREAD;
      }
    }
  }

  /** What guests, releaser and Fluxions do between two turns. */
  function disturb(): void {
    const slot = pick(vms);
    const vcpu = pick(VCPUS);
    const line = guestVcpuBase(slot, vcpu);
    const summary = summaryBase(slot);
    const what = pick(16);
    if (what < 4) {
      mem.arena[line + W_GUEST_VCPU_RUNQ_LEN] = pick(3) * pick(3);
      mem.arena[line + W_GUEST_VCPU_OLDEST] = stamp(pick(4000));
    } else if (what < 7) {
      mem.arena[line + W_GUEST_VCPU_STATE] = pick(2) === 0 ? GUEST_RUNNING : GUEST_IDLE;
    } else if (what < 9) {
      table[vmBase(slot) + W_VM_RING_DEPTH] = pick(3);
      table[vmBase(slot) + W_VM_RING_OLDEST] = stamp(pick(4000));
    } else if (what === 9) {
      table[tableVcpuBase(slot, vcpu) + W_VCPU_HELD] = [HELD_NONE, HELD_HELD, HELD_FORCED][pick(3)];
    } else if (what === 10) {
      mem.arena[summary + W_SUMMARY_FLAGS] = SUMMARY_BOOTED | (pick(2) * SUMMARY_TIMER);
      mem.arena[summary + W_SUMMARY_NEXT_TIMER] = stamp(pick(4000) - 2000);
    } else if (what === 11) {
      table[vmBase(slot) + W_VM_STATE] = pick(8) === 0 ? VM_POISONED : VM_LIVE;
    } else if (what === 13 && pick(4) === 0) {
      // Waiting, and holding a core, for longer than stamps can tell.
      mem.arena[line + W_GUEST_VCPU_RUNQ_LEN] = 1;
      mem.arena[line + W_GUEST_VCPU_OLDEST] = stamp(AGE_MAX + pick(1000));
      const k = pick(cores);
      s.coreSince[k] = stamp(AGE_MAX + pick(1000));
    } else if (what === 12) {
      // Nobody wants anything: the empty turns, which are most of the real ones.
      calm();
    } else if (what === 14) {
      table[coreBase(pick(cores)) + W_CORE_FLAGS] = pick(4) === 0 ? CORE_OFFLINE : 0;
    } else if (what === 15) {
      linger(slot);
    }
    if (pick(4) === 0) mem.arena[line + W_GUEST_VCPU_SWITCHES]++;
    mem.arena[summary + W_SUMMARY_SEQ]++;
    const owner = ownerOf(table[coreBase(pick(cores)) + W_CORE_WORD_LO]);
    if (owner !== 0 && pick(3) === 0) hand.leave(owner);
  }

  /** Those that were between their core and their sleep have arrived there, and somebody else may be. */
  function linger(slot: number): void {
    for (let v = 0; v < VCPUS; v++) {
      const at = tableVcpuBase(slot, v) + W_VCPU_WORD;
      if (table[at] === vcpuWord(VCPU_CEDING, CORE_NONE)) table[at] = vcpuWord(VCPU_PARKED, CORE_NONE);
      else if (table[at] === vcpuWord(VCPU_PARKED, CORE_NONE) && pick(8) === 0)
        table[at] = vcpuWord(VCPU_CEDING, CORE_NONE);
    }
  }

  function calm(): void {
    for (let slot = 0; slot < vms; slot++) {
      table[vmBase(slot) + W_VM_RING_DEPTH] = 0;
      mem.arena[summaryBase(slot) + W_SUMMARY_FLAGS] = SUMMARY_BOOTED;
      mem.arena[summaryBase(slot) + W_SUMMARY_SEQ]++;
      for (let v = 0; v < VCPUS; v++) {
        mem.arena[guestVcpuBase(slot, v) + W_GUEST_VCPU_RUNQ_LEN] = 0;
        table[tableVcpuBase(slot, v) + W_VCPU_HELD] = HELD_NONE;
      }
    }
    turn.chunk(8);
  }

  /** What policies go by, each of which looks at something else: weights, targets, classes, hints, plans. */
  function reweigh(slot: number): void {
    const at = vmBase(slot);
    table[at + W_VM_WEIGHT] = pick(4) * 50;
    table[at + W_VM_SLO_US] = pick(3) * 20;
    table[at + W_VM_GROUP] = pick(3);
    table[at + W_VM_HINT_CORES] = pick(3) === 0 ? 1 + pick(VCPUS) : 0;
    // The sum's carry does not matter: then the hint is over, which is to be seen as well.
    table[at + W_VM_HINT_UNTIL_TSC_LO] = mem.clock.words[0] + pick(1 << 22);
    table[at + W_VM_HINT_UNTIL_TSC_HI] = mem.clock.words[1];
    s.view.vmPlan[slot] = pick(VCPUS + 1) - 1;
  }

  /**
   * VMs come and go, those that a failed command made the loop forget are remembered, and whoever holds several
   * cores may have its limit lowered, so that it has to shed some.
   */
  function reconfigure(): void {
    const slot = pick(vms);
    if (s.dense[slot] >= 0 && pick(8) === 0) detachVm(mem, s, slot);
    else attachVm(mem, s, slot);
    if (s.dense[slot] < 0) return;
    table[vmBase(slot) + W_VM_MAX_CORES] = 1 + pick(VCPUS);
    // A slice of 1 us is over by the next turn. Most of the time no VM has one, as it may be for good.
    table[vmBase(slot) + W_VM_QUANTUM_US] = sliced ? pick(2) : 0;
    reweigh(slot);
    configureVm(mem, s, slot);
    const rich = s.view.coreVm[pick(cores)];
    if (rich >= 0 && s.view.vmCores[rich] > 1) s.guard.limit[rich] = 1;
  }

  /** Somebody records for a while, and falls silent or stops. Now and then there is no room for a turn. */
  function listen(): void {
    const seen = mem.stats.recording.words;
    // The ring is live memory: no more of it is touched than need be.
    seen[R_HEAD] = 0;
    seen[R_TAIL] = 0;
    if (seen[R_UNTIL] !== 0) {
      if (pick(8) === 0) {
        seen[R_TAIL] = R_BYTES;
        turn.chunk(1);
        seen[R_TAIL] = 0;
      }
      if (pick(2) === 0) seen[R_UNTIL] = 0;
    } else if (pick(4) === 0) {
      seen[R_GENERATION]++;
      seen[R_UNTIL] = stamp(pick(4) === 0 ? 1 : -AGE_MAX);
    }
  }

  /** Now and then the bridge refuses, for any of its reasons. */
  function refuse(): void {
    const count = 1 + pick(3);
    for (let i = 0; i < count; i++) {
      const at = i * CMD_WORDS;
      bridge.batch[at + CMD_OP] = pick(2) === 0 ? OP_GRANT : OP_HEIR;
      bridge.batch[at + CMD_TO] = makeHandle(pick(vms), pick(VCPUS));
      bridge.batch[at + CMD_RESULT] = FAILURES[pick(FAILURES.length)];
    }
    turn.settle(count);
    for (let i = 0; i < count; i++) {
      bridge.batch[i * CMD_WORDS + CMD_OP] = OP_PREEMPT;
      bridge.batch[i * CMD_WORDS + CMD_RESULT] = FAILURES[pick(FAILURES.length)];
    }
    turn.settleSlices(count);
  }

  layOut();
  bridge.claim(process.pid, 0, coreList);
  turn.cores.manage(coreList);
  for (let slot = 0; slot < vms; slot++) attachVm(mem, s, slot);
  s.n[N_LOADS] = 1;
  for (let round = 0; round < rounds; round++) {
    sliced = round % 512 >= 256;
    disturb();
    if (round % 8 === 0) reconfigure();
    if (round % 16 === 0) refuse();
    if (round % 64 === 0) listen();
    turn.chunk(1 + pick(3));
  }
  for (let slot = 0; slot < vms; slot++) detachVm(mem, s, slot);
  turn.cores.manage([]);
  s.n[N_LOADS] = 0;
  turn.chunk(2000);
  for (let slot = 0; slot < vms; slot++) {
    const base = guestVcpuBase(slot, 0) & ~0xfff;
    mem.arena.fill(0, base, base + 0x1000);
  }
  s.n[N_IN_FLIGHT] = 0;
  s.n[N_STALE] = 0;
  resetStats(mem.stats);
  records.set(earlier.records);
  words[S_RECORDS] = earlier.count;
}

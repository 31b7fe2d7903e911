/**
 * A world in memory for the loop: pages, table, clock and the sim bridge. Tests play
 * the guests and Fluxions by writing the words that those would write.
 */
import {
  CLASS_BE,
  GUEST_IDLE,
  GUEST_RUNNING,
  HELD_NONE,
  SUMMARY_BOOTED,
  TABLE_BYTES,
  VCPU_PARKED,
  VM_LIVE,
  W_CORE_HEIR,
  W_CORE_WORD_LO,
  W_GUEST_VCPU_OLDEST,
  W_GUEST_VCPU_RUNQ_LEN,
  W_GUEST_VCPU_STATE,
  W_GUEST_VCPU_SWITCHES,
  W_SUMMARY_FLAGS,
  W_SUMMARY_SEQ,
  W_VCPU_HELD,
  W_VCPU_PINNED,
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
} from '../../arbiter/abi/layout.gen.ts';
import { SimBridge } from '../../arbiter/bridge/sim.ts';
import {
  ARENA_WORDS,
  coreBase,
  guestVcpuBase,
  heirOfWord,
  makeHandle,
  ownerOf,
  slotOf,
  successorOf,
  summaryBase,
  tableVcpuBase,
  vcpuOf,
  vcpuState,
  vcpuWord,
  vmBase,
} from '../../arbiter/bridge/words.ts';
import { makeGuard } from '../../arbiter/guard/guard.ts';
import type { LoopMemory, LoopState } from '../../arbiter/loop/state.ts';
import { makeState } from '../../arbiter/loop/state.ts';
import type { Counter } from '../../arbiter/loop/stats.ts';
import { counter, resetStats, STATS_BYTES, statsOver } from '../../arbiter/loop/stats.ts';
import type { Turn } from '../../arbiter/loop/turn.ts';
import { makeTurn } from '../../arbiter/loop/turn.ts';
import { N_NUDGE } from '../../arbiter/loop/state.ts';
import { attachVm, configureVm } from '../../arbiter/loop/vms.ts';
import type { Decider, Policy } from '../../arbiter/policy/api.ts';
import { delay } from '../../arbiter/policy/builtin/delay.ts';

/** Stamps of this many ticks, ticks of a nanosecond: a stamp is 64 ns. */
export const SHIFT = 6;
export const STAMPS_PER_US = 1000 / 64;

export interface VmOptions {
  vcpus?: number;
  vmClass?: number;
  min?: number;
  max?: number;
  booted?: boolean;
  quantumUs?: number;
  weight?: number;
  sloUs?: number;
  group?: number;
}

export class World {
  readonly arena = new Int32Array(ARENA_WORDS);
  readonly table = new Int32Array(TABLE_BYTES / 4);
  readonly bridge = new SimBridge(this.table, this.arena);
  readonly stats = statsOver(new ArrayBuffer(STATS_BYTES));
  readonly state: LoopState;
  readonly mem: LoopMemory;
  readonly turn: Turn;
  readonly decider: Decider;
  readonly cores: readonly number[];
  /** Nanoseconds, which are ticks here. */
  time = 1e9;

  constructor(cores: readonly number[] = [1], policy: Policy = delay, params: Record<string, number> = {}) {
    this.cores = cores;
    resetStats(this.stats);
    const words = new Int32Array(2);
    const clock = {
      words,
      now: (): void => {
        words[0] = (this.time % 2 ** 32) | 0;
        words[1] = Math.floor(this.time / 2 ** 32);
      },
    };
    this.mem = {
      arena: this.arena,
      table: this.table,
      bridge: this.bridge,
      clock,
      releaser: { poll: () => 0 },
      stats: this.stats,
      stampShift: SHIFT,
      tscKhz: 1e6,
    };
    this.state = makeState(this.stats);
    this.decider = policy.bind(this.stats.view);
    this.decider.configure(policy.params.parse(params), STAMPS_PER_US);
    this.turn = makeTurn(this.mem, this.state, this.decider, makeGuard(this.stats.view, this.state.guard));
    this.bridge.claim(1, 0, cores);
    this.turn.cores.manage(cores);
  }

  /** Lets time pass in steps of one turn each. */
  run(us: number, stepUs = 1): void {
    for (let t = 0; t < us; t += stepUs) {
      this.time += stepUs * 1000;
      this.turn.chunk(1);
    }
  }

  stamp(agoUs = 0): number {
    const ticks = this.time - agoUs * 1000;
    return Math.floor(ticks / 2 ** SHIFT) | 0;
  }

  vm(slot: number, options: VmOptions = {}): number {
    const at = vmBase(slot);
    const vcpus = options.vcpus ?? 2;
    this.table[at + W_VM_STATE] = VM_LIVE;
    this.table[at + W_VM_VCPUS] = vcpus;
    this.table[at + W_VM_VM_CLASS] = options.vmClass ?? CLASS_BE;
    this.table[at + W_VM_MIN_CORES] = options.min ?? 0;
    this.table[at + W_VM_MAX_CORES] = options.max ?? vcpus;
    this.table[at + W_VM_QUANTUM_US] = options.quantumUs ?? 0;
    this.table[at + W_VM_WEIGHT] = options.weight ?? 0;
    this.table[at + W_VM_SLO_US] = options.sloUs ?? 0;
    this.table[at + W_VM_GROUP] = options.group ?? 0;
    for (let v = 0; v < vcpus; v++) {
      const base = tableVcpuBase(slot, v);
      this.table[base + W_VCPU_WORD] = vcpuWord(VCPU_PARKED, 0xffff);
      this.table[base + W_VCPU_HELD] = HELD_NONE;
      this.table[base + W_VCPU_PINNED] = 0xffff;
    }
    this.arena[summaryBase(slot) + W_SUMMARY_FLAGS] = options.booted === false ? 0 : SUMMARY_BOOTED;
    attachVm(this.mem, this.state, slot);
    return slot;
  }

  /** hyperfluxd announces need, and the loop is told to read it. */
  hint(slot: number, cores: number, us: number): void {
    const until = this.time + us * 1000;
    const at = vmBase(slot);
    this.table[at + W_VM_HINT_CORES] = cores;
    this.table[at + W_VM_HINT_UNTIL_TSC_LO] = (until % 2 ** 32) | 0;
    this.table[at + W_VM_HINT_UNTIL_TSC_HI] = Math.floor(until / 2 ** 32);
    configureVm(this.mem, this.state, slot);
    this.state.n[N_NUDGE] = 1;
  }

  /** Cores that the VM has, those on their way to it included. */
  held(slot: number): number {
    return this.cores.filter((core) => {
      const handle = heirOfWord(this.low(core));
      return handle !== 0 && slotOf(handle) === slot;
    }).length;
  }

  /** The guest writes its queue: `length` runnable uThreads, the oldest for `agoUs`. */
  queue(slot: number, vcpu: number, length: number, agoUs = 0): void {
    const at = guestVcpuBase(slot, vcpu);
    this.arena[at + W_GUEST_VCPU_RUNQ_LEN] = length;
    this.arena[at + W_GUEST_VCPU_OLDEST] = this.stamp(agoUs);
    this.arena[summaryBase(slot) + W_SUMMARY_SEQ]++;
  }

  guestState(slot: number, vcpu: number, state: number): void {
    this.arena[guestVcpuBase(slot, vcpu) + W_GUEST_VCPU_STATE] = state;
    this.arena[summaryBase(slot) + W_SUMMARY_SEQ]++;
  }

  /** The guest puts the next uThread on the vCPU. Returns its number. */
  switches(slot: number, vcpu: number, by = 1): number {
    const at = guestVcpuBase(slot, vcpu) + W_GUEST_VCPU_SWITCHES;
    this.arena[at] += by;
    return this.arena[at];
  }

  running(slot: number, vcpu: number): void {
    this.guestState(slot, vcpu, GUEST_RUNNING);
  }

  idle(slot: number, vcpu: number): void {
    this.guestState(slot, vcpu, GUEST_IDLE);
  }

  /** The releaser writes the ring's figures. */
  ring(slot: number, depth: number, agoUs = 0): void {
    this.table[vmBase(slot) + W_VM_RING_DEPTH] = depth;
    this.table[vmBase(slot) + W_VM_RING_OLDEST] = this.stamp(agoUs);
  }

  context(slot: number, vcpu: number, held: number): void {
    this.table[tableVcpuBase(slot, vcpu) + W_VCPU_HELD] = held;
    this.arena[summaryBase(slot) + W_SUMMARY_SEQ]++;
  }

  low(core: number): number {
    return this.table[coreBase(core) + W_CORE_WORD_LO];
  }

  /** VM slot that owns a core; -1: nobody. */
  owner(core: number): number {
    const owner = ownerOf(this.low(core));
    return owner === 0 ? -1 : slotOf(owner);
  }

  ownerVcpu(core: number): number {
    return vcpuOf(ownerOf(this.low(core)));
  }

  successor(core: number): number {
    return successorOf(this.low(core));
  }

  heir(core: number): number {
    const handle = this.table[coreBase(core) + W_CORE_HEIR];
    return handle === 0 ? -1 : slotOf(handle);
  }

  /** Whoever has the core leaves it, asked or not. */
  leave(core: number): boolean {
    const owner = ownerOf(this.low(core));
    return owner !== 0 && this.bridge.leave(owner);
  }

  vcpuState(slot: number, vcpu: number): number {
    return vcpuState(this.table[tableVcpuBase(slot, vcpu) + W_VCPU_WORD]);
  }

  handle(slot: number, vcpu: number): number {
    return makeHandle(slot, vcpu);
  }

  counter(name: Counter): number {
    return this.stats.counters[counter(name)];
  }

  /** Throws if a core or a vCPU is in two places. */
  check(): void {
    const seen = new Set<number>();
    for (const core of this.cores) {
      const low = this.low(core);
      for (const handle of [ownerOf(low), successorOf(low)]) {
        if (handle === 0 || handle === 0xffff) continue;
        if (seen.has(handle)) throw new Error(`vCPU ${slotOf(handle)}/${vcpuOf(handle)} is on two cores`);
        seen.add(handle);
      }
    }
  }
}

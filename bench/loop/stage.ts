/**
 * The two loops side by side on the same memory: the arbiter's own (arbiter/loop, with
 * the policy `delay` and the guard, the very functions that run in production) and
 * its C twin (native/src/twin*). Pages and table are real shared mappings; guests,
 * clock and bridge are the addon's stage, which both loops call.
 */
import {
  CLASS_BE,
  CLASS_LC,
  CORE_NONE,
  GUEST_IDLE,
  GUEST_RUNNING,
  HELD_NONE,
  HOT_BYTES,
  MAX_VMS,
  SUMMARY_BOOTED,
  TABLE_BYTES,
  VCPU_PARKED,
  VCPU_RUNNING,
  VM_LIVE,
  W_CORE_HEIR,
  W_CORE_WORD_HI,
  W_CORE_WORD_LO,
  W_GUEST_VCPU_OLDEST,
  W_GUEST_VCPU_RUNQ_LEN,
  W_GUEST_VCPU_STATE,
  W_SUMMARY_FLAGS,
  W_SUMMARY_SEQ,
  W_VCPU_HELD,
  W_VCPU_PINNED,
  W_VCPU_WORD,
  W_VM_MAX_CORES,
  W_VM_MIN_CORES,
  W_VM_RING_DEPTH,
  W_VM_STATE,
  W_VM_VCPUS,
  W_VM_VM_CLASS,
} from '../../arbiter/abi/layout.gen.ts';
import type { Bridge } from '../../arbiter/bridge/bridge.ts';
import {
  coreBase,
  guestVcpuBase,
  makeHandle,
  summaryBase,
  tableVcpuBase,
  vcpuWord,
  vmBase,
} from '../../arbiter/bridge/words.ts';
import { makeGuard } from '../../arbiter/guard/guard.ts';
import { configurePace, NO_PACE, type PaceLimits } from '../../arbiter/guard/pace.ts';
import { makeState, N_ACTIVE, type LoopMemory, type LoopState } from '../../arbiter/loop/state.ts';
import { resetStats, STATS_BYTES, statsOver } from '../../arbiter/loop/stats.ts';
import { makeTurn, type Turn } from '../../arbiter/loop/turn.ts';
import { attachVm, detachVm } from '../../arbiter/loop/vms.ts';
import type { Decider, Policy } from '../../arbiter/policy/api.ts';
import { delay, delayParams } from '../../arbiter/policy/builtin/delay.ts';
import {
  calibrateTsc,
  chooseStampShift,
  closeFd,
  createControlPage,
  createTable,
  initTable,
  mapShared,
  openTwin,
  remapShared,
  reserveArena,
  type Arena,
  type Twin,
} from '../../native/index.ts';

export interface VmShape {
  vcpus?: number;
  vmClass?: number;
  min?: number;
  max?: number;
}

export class Stage {
  readonly khz: number;
  readonly shift: number;
  readonly stampsPerUs: number;
  readonly twin: Twin;
  /** What steers the addon's stage; indices in twin.words. */
  readonly control: Int32Array;
  readonly samples: Uint32Array;
  readonly arena: Int32Array;
  readonly table: Int32Array;
  readonly mem: LoopMemory;
  readonly state: LoopState;
  readonly decider: Decider;
  readonly turn: Turn;
  private readonly pages: Arena;
  private readonly tablePages: ArrayBuffer;
  private readonly mapped = new Set<number>();

  private readonly policy: Policy;

  /** `policy`: the TypeScript loop's. The twin's is `delay` always. */
  constructor(maxSamples: number, policy: Policy = delay) {
    this.policy = policy;
    this.khz = calibrateTsc().khz;
    this.shift = chooseStampShift(this.khz);
    this.stampsPerUs = this.khz / 1000 / 2 ** this.shift;
    this.pages = reserveArena(MAX_VMS, HOT_BYTES);
    const fd = createTable('hyperflux-bench-shadow');
    const table = mapShared(fd, TABLE_BYTES);
    closeFd(fd);
    initTable(table, this.khz, this.shift);
    this.tablePages = table;
    this.twin = openTwin(this.pages.buffer, table, this.khz, this.shift, maxSamples);
    this.control = new Int32Array(this.twin.control);
    this.samples = new Uint32Array(this.twin.samples);
    this.arena = new Int32Array(this.pages.buffer);
    this.table = new Int32Array(table);

    const stats = statsOver(new ArrayBuffer(STATS_BYTES));
    resetStats(stats);
    this.mem = {
      arena: this.arena,
      table: this.table,
      bridge: this.bridge(),
      clock: { words: new Int32Array(this.twin.control, 0, 2), now: this.twin.now },
      releaser: { poll: () => 0 },
      stats,
      stampShift: this.shift,
      tscKhz: this.khz,
    };
    this.state = makeState(stats);
    this.decider = policy.bind(stats.view);
    this.turn = makeTurn(this.mem, this.state, this.decider, makeGuard(stats.view, this.state.guard));
    this.configure({});
  }

  /** After the warm-up, as in the arbiter: fresh pages beneath the same table. */
  live(): void {
    const fd = createTable('hyperflux-bench');
    remapShared(this.tablePages, fd);
    closeFd(fd);
    initTable(this.tablePages, this.khz, this.shift);
    this.clear([]);
  }

  private bridge(): Bridge {
    const { submit, poll, beat, batch, capacity } = this.twin;
    return {
      kind: 'stage',
      batch: new Int32Array(batch, 0, capacity * 8),
      capacity,
      submit,
      poll,
      beat,
      claim: () => 1,
      release() {},
      setPage() {},
      reap: () => 0,
    };
  }

  /** The policy's parameters and the guard's pace, to both. */
  configure(params: Record<string, number>, pace: PaceLimits = NO_PACE): void {
    const all = delayParams.parse(params);
    this.decider.configure(this.policy === delay ? all : this.policy.params.parse({}), this.stampsPerUs);
    configurePace(this.state.guard.pace, pace, this.stampsPerUs);
    const times = [all.threshold_us, all.tenure_us, all.quantum_us, all.step_us];
    const stamps = times.map((us) => us * this.stampsPerUs);
    this.twin.configure(Int32Array.from([...stamps, ...this.state.guard.pace.subarray(0, 5)]));
  }

  set(word: string, value: number): void {
    const at = this.twin.words[word];
    if (at === undefined) throw new Error(`the stage has no word ${word}`);
    this.control[at] = value;
  }

  get(word: string): number {
    return this.control[this.twin.words[word]] >>> 0;
  }

  /** The clock's next answers, until `freeClock`. */
  fixClock(low: number, high: number): void {
    this.set('fixed_lo', low);
    this.set('fixed_hi', high);
    this.set('fixed', 1);
  }

  freeClock(): void {
    this.set('fixed', 0);
  }

  /** A control page of its own for the slot, in a sealed file as Fluxion would make it. */
  page(slot: number): void {
    if (this.mapped.has(slot)) return;
    const fd = createControlPage('hyperflux-bench');
    this.pages.attach(slot, fd);
    closeFd(fd);
    this.mapped.add(slot);
  }

  /** A live, booted VM whose vCPUs are all parked and have nothing to run. */
  vm(slot: number, { vcpus = 2, vmClass = CLASS_BE, min = 0, max = vcpus }: VmShape = {}): void {
    this.page(slot);
    const { arena, table } = this;
    const vm = vmBase(slot);
    table[vm + W_VM_STATE] = VM_LIVE;
    table[vm + W_VM_VCPUS] = vcpus;
    table[vm + W_VM_VM_CLASS] = vmClass;
    table[vm + W_VM_MIN_CORES] = min;
    table[vm + W_VM_MAX_CORES] = max;
    table[vm + W_VM_RING_DEPTH] = 0;
    for (let v = 0; v < vcpus; v++) {
      const host = tableVcpuBase(slot, v);
      table[host + W_VCPU_WORD] = vcpuWord(VCPU_PARKED, CORE_NONE);
      table[host + W_VCPU_HELD] = HELD_NONE;
      table[host + W_VCPU_PINNED] = CORE_NONE;
      const guest = guestVcpuBase(slot, v);
      arena[guest + W_GUEST_VCPU_STATE] = GUEST_IDLE;
      arena[guest + W_GUEST_VCPU_RUNQ_LEN] = 0;
      arena[guest + W_GUEST_VCPU_OLDEST] = 0;
    }
    arena[summaryBase(slot) + W_SUMMARY_FLAGS] = SUMMARY_BOOTED;
    arena[summaryBase(slot) + W_SUMMARY_SEQ]++;
  }

  /** The core is the vCPU's, which runs a uThread on it. */
  own(core: number, slot: number, vcpu: number): void {
    this.table[coreBase(core) + W_CORE_WORD_LO] = makeHandle(slot, vcpu);
    const host = tableVcpuBase(slot, vcpu);
    this.table[host + W_VCPU_WORD] = vcpuWord(VCPU_RUNNING, core);
    this.table[host + W_VCPU_PINNED] = core;
    this.arena[guestVcpuBase(slot, vcpu) + W_GUEST_VCPU_STATE] = GUEST_RUNNING;
  }

  /** Nobody's cores, without heirs, and no VM: for both. */
  clear(cores: readonly number[]): void {
    while (this.state.n[N_ACTIVE] > 0) this.detach(this.state.dSlot[this.state.n[N_ACTIVE] - 1]);
    for (const core of cores) {
      const at = coreBase(core);
      this.table[at + W_CORE_WORD_LO] = 0;
      this.table[at + W_CORE_WORD_HI]++;
      this.table[at + W_CORE_HEIR] = 0;
    }
    this.turn.cores.manage(cores);
    this.twin.manage(Int32Array.from(cores));
  }

  attach(slot: number): void {
    attachVm(this.mem, this.state, slot);
    this.twin.attach(slot);
  }

  detach(slot: number): void {
    detachVm(this.mem, this.state, slot);
    this.twin.detach(slot);
  }

  /** The twin's part of the view or of the guard, by the name that it has in the TypeScript loop. */
  twinField(name: string): Int32Array {
    const [offset, length] = this.twin.fields[name] ?? [];
    if (offset === undefined) throw new Error(`the twin has no field ${name}`);
    return new Int32Array(this.twin.state, offset, length);
  }

  twinBatch(): Int32Array {
    return new Int32Array(this.twin.state, this.twin.stateBatch, this.twin.capacity * 8);
  }
}

/** Odd slots are latency-critical, even ones best-effort. */
export const classOf = (slot: number): number => (slot % 2 === 1 ? CLASS_LC : CLASS_BE);

/**
 * One arbiter with its cores and VMs in virtual time. The loop, the guard and the
 * policy are the very functions that run in the arbiter; around them are a clock that
 * is set, a bridge whose hand-overs take time, and guests that are modelled.
 *
 * The contract has places for 256 cores and 1,024 VMs. A larger host is divided into
 * partitions, each with an arbiter of its own, as it would be run.
 */
import { HOT_BYTES, MAX_CORES, MAX_VMS, TABLE_BYTES } from '../abi/layout.gen.ts';
import type { Random } from '../../bench/load/random.ts';
import { makeGuard } from '../guard/guard.ts';
import type { LoopMemory, LoopState } from '../loop/state.ts';
import { makeState, N_ACTIVE, N_EVENTS, N_LOADS, N_NUDGE } from '../loop/state.ts';
import type { Counter, Stats } from '../loop/stats.ts';
import { counter, resetStats, STATS_BYTES, statsOver } from '../loop/stats.ts';
import type { Turn } from '../loop/turn.ts';
import { makeTurn } from '../loop/turn.ts';
import { attachVm } from '../loop/vms.ts';
import type { Policy } from '../policy/api.ts';
import { HEAD_CORES, HEAD_HOT } from '../policy/api.ts';
import { TimedBridge } from './bridge.ts';
import { Guests } from './guest/guests.ts';
import type { GroupFigures, GuestVm, Handovers } from './guest/world.ts';
import { timersOf } from './guest/world.ts';
import type { Machine } from './machine.ts';
import type { Meter } from './meter.ts';
import { Timers } from './timers.ts';

/** A tick is a nanosecond, a stamp 64 of them, as on a machine of 1 GHz. */
const TSC_KHZ = 1e6;
const STAMP_SHIFT = 6;
const STAMPS_PER_US = 1000 / 2 ** STAMP_SHIFT;

const C_DECISIONS = counter('decisions');
const C_GRANTS = counter('grants');
const C_MOVES = counter('moves');
const C_PARKS = counter('parks');
const C_HEIRS = counter('heirs');

export const PARTITION_CORES = MAX_CORES;
export const PARTITION_VMS = MAX_VMS;

export interface PartitionOptions {
  readonly cores: number;
  readonly vms: readonly GuestVm[];
  readonly policy: Policy;
  /** Parsed by the policy already. */
  readonly params: Record<string, number>;
  readonly machine: Machine;
  readonly random: Random;
  readonly groups: readonly GroupFigures[];
  readonly meter: Meter;
  /** Requests are released from a core of their own, or else by the loop at the end of each turn. */
  readonly releaseAtOnce: boolean;
}

class VirtualClock {
  readonly words = new Int32Array(32);
  ns = 0;

  readonly now = (): void => {
    this.words[0] = (this.ns % 2 ** 32) | 0;
    this.words[1] = Math.floor(this.ns / 2 ** 32);
  };
}

export class Partition {
  readonly stats: Stats;
  readonly guests: Guests;
  readonly #timers: Timers;
  readonly #turnTimer: number;
  readonly #clock = new VirtualClock();
  readonly #bridge: TimedBridge;
  readonly #state: LoopState;
  readonly #turn: Turn;
  readonly #machine: Machine;
  readonly #random: Random;
  /** When the latest turn began, and how long one that finds nothing takes. */
  #turned = 0;
  #idleNs = 1000;
  #asleep = false;

  constructor(options: PartitionOptions) {
    const { cores, vms, policy, machine, random } = options;
    if (cores > PARTITION_CORES || vms.length > PARTITION_VMS || cores < 1)
      throw new RangeError(`a partition has 1 to ${PARTITION_CORES} cores and up to ${PARTITION_VMS} VMs`);
    this.#machine = machine;
    this.#random = random;
    const timers = timersOf(vms.length);
    this.#turnTimer = timers;
    this.#timers = new Timers(timers + 1);
    const arena = new Int32Array((Math.max(1, vms.length) * HOT_BYTES) >> 2);
    const table = new Int32Array(TABLE_BYTES >> 2);
    this.#bridge = new TimedBridge(table, arena);
    this.stats = statsOver(new ArrayBuffer(STATS_BYTES));
    resetStats(this.stats);
    const mem: LoopMemory = {
      arena,
      table,
      bridge: this.#bridge,
      clock: this.#clock,
      releaser: { poll: () => (this.guests.release(), 0) },
      stats: this.stats,
      stampShift: STAMP_SHIFT,
      tscKhz: TSC_KHZ,
    };
    this.#state = makeState(this.stats);
    const decider = policy.bind(this.stats.view);
    decider.configure(options.params, STAMPS_PER_US);
    this.#turn = makeTurn(mem, this.#state, decider, makeGuard(this.stats.view, this.#state.guard));
    const managed = Array.from({ length: cores }, (_, core) => core);
    this.#bridge.claim(1, 0, managed);
    this.guests = new Guests(
      {
        ...{ arena, table, bridge: this.#bridge, timers: this.#timers, meter: options.meter },
        ...{ machine, random, groups: options.groups, stampShift: STAMP_SHIFT },
        releaseAtOnce: options.releaseAtOnce,
        poke: () => this.#poke(),
      },
      vms,
      cores,
    );
    this.#turn.cores.manage(managed);
    vms.forEach((_, slot) => attachVm(mem, this.#state, slot));
    this.#state.n[N_LOADS] = options.releaseAtOnce ? 0 : 1;
    this.#timers.set(this.#turnTimer, 0);
  }

  counter(name: Counter): number {
    return this.stats.counters[counter(name)];
  }

  get handovers(): Handovers {
    return this.guests.handovers;
  }

  /** Lets everything happen that is due before `endNs`. */
  run(endNs: number): void {
    const timers = this.#timers;
    const { guests } = this;
    for (;;) {
      const timer = timers.first;
      if (timer < 0) break;
      const when = timers.when[timer];
      if (when >= endNs) break;
      timers.cancel(timer);
      guests.now = when;
      if (timer === this.#turnTimer) this.#takeTurn(when);
      else guests.fire(timer);
    }
    guests.now = endNs;
  }

  #takeTurn(now: number): void {
    const { n } = this.#state;
    const { head } = this.stats.view;
    const { turn } = this.#machine;
    this.#turned = now;
    this.#clock.ns = now;
    const { counters } = this.stats;
    const decisions = counters[C_DECISIONS];
    const grants = counters[C_GRANTS];
    const moves = counters[C_MOVES] + counters[C_PARKS];
    const heirs = counters[C_HEIRS];
    this.#turn.chunk(1);
    const decided = counters[C_DECISIONS] !== decisions;
    this.#idleNs = this.#lookNs();
    // A turn that has found nothing, and left nothing behind, finds nothing until something changes. Measured turns
    // are drawn one by one all the same, because the long ones among them are met as often as they are long.
    const quiet = head[HEAD_HOT] === 0 && n[N_EVENTS] === 0 && n[N_NUDGE] === 0 && !this.guests.unshown;
    this.#asleep = !decided && quiet && turn.measured === undefined;
    if (this.#asleep) return;
    let took = this.#idleNs;
    if (decided && turn.measured === undefined) {
      took += turn.decideNs + turn.decideCoreNs * head[HEAD_CORES] + turn.perHotNs * head[HEAD_HOT];
      took += turn.perGrantNs * (counters[C_GRANTS] - grants) + turn.perHeirNs * (counters[C_HEIRS] - heirs);
      took += turn.perMoveNs * (counters[C_MOVES] + counters[C_PARKS] - moves);
    }
    this.#timers.set(this.#turnTimer, now + took);
  }

  #lookNs(): number {
    const { turn } = this.#machine;
    if (turn.measured !== undefined) return turn.measured(this.#random());
    return (
      turn.baseNs + turn.perCoreNs * this.stats.view.head[HEAD_CORES] + turn.perVmNs * this.#state.n[N_ACTIVE]
    );
  }

  /** Something has changed: the loop, which has been turning all the time, sees it in the turn that begins next. */
  #poke(): void {
    if (!this.#asleep) return;
    this.#asleep = false;
    const { now } = this.guests;
    const turns = Math.ceil((now - this.#turned) / this.#idleNs);
    this.#timers.set(this.#turnTimer, Math.max(now, this.#turned + turns * this.#idleNs));
  }
}

/**
 * From the kick to the moment at which the vCPU's context is whole and its core may be handed on, by what
 * the guest was doing. Each sample is a grant, a while in which the guest is at it, and a PARK that kicks at once.
 */
import {
  GUEST_IDLE,
  HOW_ASKED,
  HOW_FORCED,
  HOW_KICKED,
  W_GUEST_VCPU_STATE,
  W_VCPU_HOW,
  W_VCPU_T_ENTER_LO,
  W_VCPU_T_PARKED_LO,
} from '../../arbiter/abi/layout.gen.ts';
import { FLAG_KICK_NOW, OP_GRANT, OP_PARK } from '../../native/index.ts';
import type { Rig, RigVm } from '../lib/rig.ts';
import { goal, notMeasured, row, type Goal, type Row } from '../lib/schema.ts';
import { Samples } from '../lib/stats.ts';
import { begin, rest, STAMPS, waitParked } from '../realloc/managed.ts';
import { restUs, RowError } from '../realloc/row.ts';

/** What a guest can be doing when it is kicked. */
interface Doing {
  readonly what: string;
  readonly cmdline: string;
  /** What it says of itself when it is at it; unless given, it counts what it does. */
  readonly state?: number;
}

export const COMPUTING = 'computing';

export const DOINGS: readonly Doing[] = [
  { what: COMPUTING, cmdline: 'probe mode=spin' },
  { what: "in a critical section: FluxOS's code, 2 us at a time", cmdline: 'probe mode=call' },
  { what: 'switching: a storm of yields', cmdline: 'probe mode=switch uthreads=4' },
  { what: 'idle, looking for work', cmdline: 'serve', state: GUEST_IDLE },
  { what: 'in a hypercall: a storm of doors', cmdline: 'probe mode=knock' },
];

/** Far longer than a sample takes: it is to be kicked while it looks for work, not to give its core back. */
const IDLE_SPIN_NS = 1_000_000_000;
/** Looks, 20 us apart. */
const PATIENCE = 100_000;
const HOWS = new Map([
  [HOW_ASKED, 'left when asked'],
  [HOW_KICKED, 'kicked out'],
  [HOW_FORCED, 'forced'],
]);

export class SafePark {
  readonly name: string;
  readonly what: string;
  readonly samples: Samples;
  /** Why there are no samples. */
  readonly missing: string | undefined;
  readonly #rig: Rig;
  readonly #core: number;
  readonly #vm: RigVm | undefined;
  readonly #doing: Doing;
  readonly #hows = new Map<number, number>();

  private constructor(
    where: string,
    doing: Doing,
    rig: Rig,
    core: number,
    capacity: number,
    vm: RigVm | string,
  ) {
    this.name = `${where}: ${doing.what}`;
    this.what = doing.what;
    this.samples = new Samples(capacity);
    this.#rig = rig;
    this.#core = core;
    this.#doing = doing;
    if (typeof vm === 'string') this.missing = vm;
    else this.#vm = vm;
  }

  /** `trouble`: why such guests cannot run here, if they cannot. */
  static async start(
    rig: Rig,
    core: number,
    where: { name: string; hosted: boolean; trouble: string },
    doing: Doing,
    capacity: number,
  ): Promise<SafePark> {
    const vm =
      where.trouble !== ''
        ? where.trouble
        : await rig.start({
            name: `${where.hosted ? 'hosted' : 'kvm'}-${DOINGS.indexOf(doing)}`,
            ...{ cmdline: doing.cmdline, hosted: where.hosted, idleSpinNs: IDLE_SPIN_NS },
          });
    return new SafePark(where.name, doing, rig, core, capacity, vm);
  }

  block(parks: number): void {
    const vm = this.#vm;
    if (vm === undefined) return;
    for (let i = 0; i < parks; i++) this.#sample(vm, i);
  }

  #sample(vm: RigVm, i: number): void {
    const rig = this.#rig;
    if (this.#doing.state === undefined) begin(rig, this.#core, vm, STAMPS);
    else this.#beginUntil(vm, this.#doing.state);
    rest(rig, restUs(i));
    const result = rig.command(OP_PARK, this.#core, rig.handle(vm), 0, FLAG_KICK_NOW);
    const decided = rig.clock.words[0];
    if (result !== 0) throw new RowError(`${this.name}: PARK was refused: ${result}`);
    waitParked(rig, vm);
    this.samples.push(rig.us(decided, rig.vcpu(vm, W_VCPU_T_PARKED_LO)));
    const how = rig.vcpu(vm, W_VCPU_HOW);
    this.#hows.set(how, (this.#hows.get(how) ?? 0) + 1);
    rig.bridge.poll();
  }

  /**
   * As `begin`, for a guest that counts nothing: its state was left from last time, so what is waited for first is
   * its entry.
   */
  #beginUntil(vm: RigVm, state: number): void {
    const rig = this.#rig;
    const entered = (): number => rig.vcpu(vm, W_VCPU_T_ENTER_LO);
    waitParked(rig, vm);
    const before = entered();
    const result = rig.command(OP_GRANT, this.#core, 0, rig.handle(vm));
    if (result !== 0) throw new RowError(`${this.name}: GRANT was refused: ${result}`);
    let there = false;
    for (let waits = 0; !there; waits++) {
      if (waits > PATIENCE) throw new RowError(`${this.name}: it is never so; ${rig.describe(vm)}`);
      rest(rig, 20);
      there = entered() !== before && rig.guest(vm, W_GUEST_VCPU_STATE) === state;
    }
  }

  row(floor: number | undefined): Row {
    const name = `kick to parked, ${this.name}`;
    if (this.missing !== undefined) return notMeasured(name, 'us', this.missing);
    const hows = [...this.#hows].map(([how, n]) => `${n} ${HOWS.get(how) ?? `in way ${how}`}`);
    return { ...row(name, 'us', this.samples.summary(), floor), note: hows.join(', ') };
  }
}

/** How many times the median of a guest that computes the slowest one in a thousand may take. */
const TIMES = 3;

/** Whatever the guest is doing, against the case in which it does nothing of FluxOS's. */
export function safeGoals(where: string, rows: readonly SafePark[]): Goal[] {
  const p50 = rows.find((of) => of.what === COMPUTING)?.samples.summary()?.p50;
  return rows.map((of) => {
    const name = `${where}: kick to parked, ${of.what}, p99.9, us: ${TIMES} x p50 of ${COMPUTING}`;
    const p999 = p50 === undefined ? undefined : of.samples.summary()?.p999;
    return goal(name, TIMES * (p50 ?? 0), p999, of.missing);
  });
}

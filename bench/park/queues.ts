/**
 * What becomes of the queue of a vCPU that is parked: it stays, open to thieves, or the guest hands it to another
 * vCPU before it leaves (`on_park`). A VM of two vCPUs on two cores; the second loses its core and gets it back, for
 * times that are drawn alike for both. This process shares the first core with the first vCPU, so it sleeps
 * while they work.
 */
import { W_VCPU_T_PARKED_LO } from '../../arbiter/abi/layout.gen.ts';
import { FLAG_ASK_ONLY, OP_GRANT, OP_PARK } from '../../native/index.ts';
import { Records } from '../lib/records.ts';
import type { Rig, RigVm } from '../lib/rig.ts';
import { row, type Row } from '../lib/schema.ts';
import { Samples } from '../lib/stats.ts';
import { waitParked } from '../realloc/managed.ts';
import { RowError } from '../realloc/row.ts';

export const ON_PARK = ['stay', 'hand'] as const;
type OnPark = (typeof ON_PARK)[number];

/** As the arbiter asks, which kicks application code at once; and only asking, so that FluxOS itself parks. */
export const ASKS = [
  { how: 'as the arbiter asks', flags: 0 },
  { how: 'asked only', flags: FLAG_ASK_ONLY },
] as const;

const PROGRAMS = [
  { what: 'turns', cmdline: 'probe mode=turns uthreads=16 work_ns=20000' },
  { what: 'fan', cmdline: 'probe mode=fan uthreads=64 work_ns=20000' },
] as const;

/** A word that nobody writes, to sleep on. */
const never = new Int32Array(new SharedArrayBuffer(4));
const sleepMs = (ms: number): void => void Atomics.wait(never, 0, 0, ms);
/** The same for everybody: a fixed sequence from 0 to 1. */
const share = (i: number): number => (i * 0.6180339887) % 1;
const PARKS_A_BLOCK = 10;
/** More records than that a block has not. */
const RECORDS_A_BLOCK = 20_000;

/** One VM, asked in one way. */
export class QueueLane {
  readonly name: string;
  readonly #rig: Rig;
  readonly #cores: readonly [number, number];
  readonly #vm: RigVm;
  readonly #records: Records;
  readonly #flags: number;
  readonly #what: (typeof PROGRAMS)[number]['what'];
  readonly #parks: Samples;
  readonly #again: Samples;
  readonly #durations: Samples;
  readonly #throughput: Samples;
  #count = 0;

  private constructor(
    rig: Rig,
    cores: readonly [number, number],
    vm: RigVm,
    what: (typeof PROGRAMS)[number]['what'],
    ask: (typeof ASKS)[number],
    onPark: OnPark,
    blocks: number,
  ) {
    this.name = `on_park=${onPark}, ${ask.how}`;
    this.#rig = rig;
    this.#cores = cores;
    this.#vm = vm;
    this.#records = new Records(vm.controlPage);
    this.#flags = ask.flags;
    this.#what = what;
    this.#parks = new Samples(blocks * PARKS_A_BLOCK);
    this.#again = new Samples(blocks * PARKS_A_BLOCK * 64);
    this.#durations = new Samples(blocks * RECORDS_A_BLOCK);
    this.#throughput = new Samples(blocks);
  }

  /** All lanes; those of one program are neighbours. */
  static async all(
    rig: Rig,
    cores: readonly [number, number],
    hosted: boolean,
    blocks: number,
  ): Promise<QueueLane[]> {
    const lanes: QueueLane[] = [];
    for (const { what, cmdline } of PROGRAMS) {
      for (const ask of ASKS) {
        for (const onPark of ON_PARK) {
          const name = `${what}-${onPark}-${ask.flags}`;
          const full = `${cmdline} on_park=${onPark}`;
          const vm = await rig.start({ name, cmdline: full, vcpus: 2, hosted, idleSpinNs: 50_000_000 });
          lanes.push(new QueueLane(rig, cores, vm, what, ask, onPark, blocks));
        }
      }
    }
    return lanes;
  }

  #must(result: number, what: string): void {
    if (result !== 0)
      throw new RowError(`${this.name}: ${what} was refused: ${result}; ${this.#rig.describe(this.#vm)}`);
  }

  #grant(vcpu: number): void {
    const { bridge } = this.#rig;
    bridge.poll();
    this.#must(
      this.#rig.command(OP_GRANT, this.#cores[vcpu], 0, this.#rig.handle(this.#vm, vcpu)),
      `vCPU ${vcpu}'s grant`,
    );
  }

  /** Parks a vCPU; the decision, and the moment at which it was parked. */
  #park(vcpu: number, flags: number): [number, number] {
    const rig = this.#rig;
    const result = rig.command(OP_PARK, this.#cores[vcpu], rig.handle(this.#vm, vcpu), 0, flags);
    const decided = rig.clock.words[0];
    this.#must(result, `vCPU ${vcpu}'s park`);
    sleepMs(0.3);
    waitParked(rig, this.#vm, vcpu);
    return [decided, rig.vcpu(this.#vm, W_VCPU_T_PARKED_LO, vcpu)];
  }

  block(): void {
    const rig = this.#rig;
    this.#grant(0);
    this.#grant(1);
    sleepMs(5);
    this.#records.read(() => undefined);
    const began = performance.now();
    let done = 0;
    for (let i = 0; i < PARKS_A_BLOCK; i++) {
      const draw = share(this.#count++);
      sleepMs(1 + 3 * draw);
      const [decided, parked] = this.#park(1, this.#flags);
      this.#parks.push(rig.us(decided, parked));
      sleepMs(0.5 + 4 * share(this.#count * 7));
      this.#grant(1);
      sleepMs(1);
      this.#records.read((ticks, end, vcpus) => {
        done++;
        this.#durations.push((ticks * 1000) / rig.khz);
        // It was in the queue of the vCPU that was parked at this moment.
        const waited = rig.us(parked, end) >= 0 && rig.us((end - ticks) | 0, parked) >= 0;
        if (this.#what === 'turns' && waited && (vcpus & 0xff) === 1) this.#again.push(rig.us(parked, end));
      });
    }
    this.#throughput.push(done / (performance.now() - began));
    this.#park(1, 0);
    this.#park(0, 0);
    rig.bridge.poll();
  }

  rows(): Row[] {
    const of = (what: string, unit: string, samples: Samples): Row =>
      row(`${what}, ${this.name}`, unit, samples.summary());
    if (this.#what === 'fan')
      return [
        of('fan-out of 64 x 20 us beside parks', 'us', this.#durations),
        of('request to parked, fan-out', 'us', this.#parks),
      ];
    return [
      of('parked to its queued uThreads running again', 'us', this.#again),
      of('wait of 16 uThreads for their next turn', 'us', this.#durations),
      of('turns of 20 us a ms', '1/ms', this.#throughput),
      of('request to parked, turns', 'us', this.#parks),
    ];
  }
}

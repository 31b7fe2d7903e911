/**
 * The rows that HyperFlux is measured by: a core that goes to and fro between two busy
 * VMs, asked for or kicked for, and a core that goes to its heir when its owner yields.
 */
import {
  OFF_GUEST_VCPU_DONE_LO,
  OFF_GUEST_VCPU_RESUME_LO,
  VCPU_PARKED,
  W_GUEST_VCPU_DONE_LO,
  W_GUEST_VCPU_RESUME_LO,
  W_VCPU_T_ENTER_LO,
  W_VCPU_T_HANDED_LO,
  W_VCPU_T_PARKED_LO,
  W_VCPU_T_SEEN_LO,
  W_VCPU_T_WOKEN_LO,
  W_VCPU_WORD,
} from '../../arbiter/abi/layout.gen.ts';
import { coreOwner, vcpuState } from '../../arbiter/abi/words.ts';
import { gettid, OP_GRANT, OP_MOVE, OP_PARK, waitWordChange } from '../../native/index.ts';
import { Counters, KINDS } from '../lib/counters.ts';
import { Samples } from '../lib/stats.ts';
import type { Rig, RigVm } from '../lib/rig.ts';
import { restUs, RowError, type Measured } from './row.ts';

const TIMEOUT_US = 2_000_000;

/** How a guest shows its first instruction on the core. */
interface Sign {
  /** Word of the guest line that changes, and its byte offset there. */
  readonly word: number;
  readonly offset: number;
}

/** A guest that spins in application code writes the TSC all the time. */
export const STAMPS: Sign = { word: W_GUEST_VCPU_DONE_LO, offset: OFF_GUEST_VCPU_DONE_LO };
/** A guest that left through a door stamps the first instruction behind it. */
export const RESUMES: Sign = { word: W_GUEST_VCPU_RESUME_LO, offset: OFF_GUEST_VCPU_RESUME_LO };

export const STAGES = ['seen', 'parked', 'handed over', 'woken', 'entered', 'first instruction'] as const;

const scratch = new Int32Array(2);

/** Spins for so long without giving up the core. */
export function rest(rig: Rig, us: number): void {
  // A word of the table that nobody writes: its last.
  waitWordChange(rig.table, rig.table.byteLength - 4, 0, us, scratch);
}

/** Waits until the guest's sign changes from `before`; the time in the guest's own stamp, low word. */
export function firstInstruction(rig: Rig, vm: RigVm, sign: Sign, before: number, what: string): number {
  const at = rig.guestLine(vm) + sign.offset;
  if (waitWordChange(rig.arena.buffer, at, before, TIMEOUT_US, scratch) === 0) {
    throw new RowError(`${what}: it did not run within ${TIMEOUT_US / 1e6} s; ${rig.describe(vm)}`);
  }
  return rig.guest(vm, sign.word);
}

export function waitParked(rig: Rig, vm: RigVm, vcpu = 0): void {
  for (let i = 0; vcpuState(rig.vcpu(vm, W_VCPU_WORD, vcpu)) !== VCPU_PARKED; i++) {
    if (i > 100_000) throw new RowError(`vCPU ${vcpu} did not park; ${rig.describe(vm)}`);
    rest(rig, 20);
    rig.bridge.poll();
  }
}

/** Gives the idle core to a VM and waits until its guest is under way. */
export function begin(rig: Rig, core: number, vm: RigVm, sign: Sign): void {
  waitParked(rig, vm);
  const before = rig.guest(vm, sign.word);
  const result = rig.command(OP_GRANT, core, 0, rig.handle(vm));
  if (result !== 0) throw new RowError(`${vm.name} could not be granted core ${core}: ${result}`);
  firstInstruction(rig, vm, sign, before, 'grant');
}

function end(rig: Rig, core: number, pair: readonly RigVm[]): void {
  rig.setHeir(core, 0);
  const owner = coreOwner(rig.owner(core));
  if (owner !== 0) rig.command(OP_PARK, core, owner, 0);
  for (const vm of pair) waitParked(rig, vm);
}

/** MOVE after MOVE between two VMs that would keep the core. */
export function moveRow(
  rig: Rig,
  core: number,
  name: string,
  pair: readonly [RigVm, RigVm],
  sign: Sign,
  flags: number,
  capacity: number,
): Measured {
  const samples = new Samples(capacity);
  const stages = new Map(STAGES.map((stage) => [stage as string, new Samples(capacity)]));
  const counters = new Counters(
    gettid(),
    pair.map((vm) => rig.tid(vm)),
    core,
  );
  const counts = new Map(KINDS.map((kind) => [kind as string, new Samples(capacity)]));
  let count = 0;

  function stage(from: RigVm, to: RigVm, decided: number, first: number): void {
    const since = (vm: RigVm, word: number): number => rig.us(decided, rig.vcpu(vm, word));
    stages.get('seen')!.push(since(from, W_VCPU_T_SEEN_LO));
    stages.get('parked')!.push(since(from, W_VCPU_T_PARKED_LO));
    stages.get('handed over')!.push(since(from, W_VCPU_T_HANDED_LO));
    stages.get('woken')!.push(since(to, W_VCPU_T_WOKEN_LO));
    stages.get('entered')!.push(since(to, W_VCPU_T_ENTER_LO));
    stages.get('first instruction')!.push(rig.us(decided, first));
  }

  return {
    name,
    samples,
    stages,
    counts: counters.missing === undefined ? counts : undefined,
    close: () => counters.close(),
    block(moves) {
      begin(rig, core, pair[0], sign);
      counters.begin();
      for (let i = 0; i < moves; i++) {
        const from = pair[i % 2];
        const to = pair[(i + 1) % 2];
        rest(rig, restUs(count++));
        const before = rig.guest(to, sign.word);
        const result = rig.command(OP_MOVE, core, rig.handle(from), rig.handle(to), flags);
        const decided = rig.clock.words[0];
        if (result !== 0) throw new RowError(`${name}: MOVE was refused: ${result}`);
        const first = firstInstruction(rig, to, sign, before, name);
        samples.push(rig.us(decided, first));
        // The leaver's last stamp comes after its successor's wake.
        waitParked(rig, from);
        rest(rig, 20);
        rig.bridge.poll();
        stage(from, to, decided, first);
      }
      const tally = counters.end();
      for (const kind of KINDS) counts.get(kind)!.push(tally[kind] / moves);
      end(rig, core, pair);
    },
  };
}

/** A core that goes to its heir: from the instruction before the yield to the heir's first. */
export function yieldRow(
  rig: Rig,
  core: number,
  name: string,
  pair: readonly [RigVm, RigVm],
  capacity: number,
): Measured {
  const samples = new Samples(capacity);
  return {
    name,
    samples,
    block(moves) {
      for (const vm of pair) waitParked(rig, vm);
      for (let i = 0, on = 0; i < moves; i++, on = 1 - on) {
        // The guest holds a granted core for a while and then yields; the heir is written meanwhile.
        const [owner, heir] = [pair[on], pair[1 - on]];
        const before = rig.guest(heir, RESUMES.word);
        waitParked(rig, heir);
        rig.setHeir(core, rig.handle(heir));
        // Its heir of the last round came too late, if this process was kept from its core: begin anew.
        if (coreOwner(rig.owner(core)) === 0) begin(rig, core, owner, RESUMES);
        const first = firstInstruction(rig, heir, RESUMES, before, name);
        samples.push(rig.us(rig.guest(owner, STAMPS.word), first));
      }
      rig.setHeir(core, 0);
      for (const vm of pair) waitParked(rig, vm);
    },
  };
}

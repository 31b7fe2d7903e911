/**
 * VMs that behave, and VMs that lie, on a world in memory: what policies are tested
 * against. A VM has some work, runs it on the cores that it has, queues the rest,
 * spins for a while on a core that it does not need and yields it, and leaves when it
 * is asked. One that lies writes whatever it likes and leaves when it is forced to.
 */
import {
  CLASS_BE,
  CLASS_LC,
  GUEST_IDLE,
  GUEST_RUNNING,
  VCPU_CEDING,
  VCPU_RUNNING,
  W_CORE_WORD_HI,
  W_GUEST_VCPU_OLDEST,
  W_GUEST_VCPU_RUNQ_LEN,
  W_GUEST_VCPU_STATE,
  W_SUMMARY_FLAGS,
  W_SUMMARY_NEXT_TIMER,
  W_SUMMARY_SEQ,
} from '../../arbiter/abi/layout.gen.ts';
import {
  coreBase,
  guestVcpuBase,
  ownerOf,
  slotOf,
  successorOf,
  summaryBase,
} from '../../arbiter/bridge/words.ts';
import type { Policy } from '../../arbiter/policy/api.ts';
import { CORE_MOVING, NO_VM } from '../../arbiter/policy/api.ts';
import { WHY_GUARANTEE } from '../../arbiter/policy/reasons.ts';
import { World } from './world.ts';

export interface Member {
  vcpus: number;
  lc?: boolean;
  min?: number;
  max?: number;
  weight?: number;
  sloUs?: number;
  group?: number;
  liar?: boolean;
  /** uThreads that want to run, for as long as nobody says otherwise. */
  work?: number;
}

export interface CrowdOptions {
  cores: number;
  members: readonly Member[];
  policy: Policy;
  params?: Record<string, number>;
  seed?: number;
  /** A taking that undoes another within this time, in us, is ping-pong. 0: not looked at. */
  pingPongUs?: number;
}

const SPIN_US = 20;
/** A liar leaves no sooner. */
const DEADLINE_US = 40;

interface Taking {
  from: number;
  to: number;
  at: number;
}

export class Crowd {
  readonly w: World;
  readonly members: readonly Member[];
  readonly work: number[];
  us = 0;
  /** Core-microseconds that each VM has had. */
  readonly had: number[];
  /** Times that a core was taken from a VM against its will. */
  takings = 0;
  private readonly o: CrowdOptions;
  private readonly queuedAt: number[];
  private readonly idleSince: number[];
  private readonly askedSince: number[];
  private readonly generation: number[];
  private readonly last: Taking[];
  private state: number;

  constructor(options: CrowdOptions) {
    this.o = options;
    this.members = options.members;
    this.state = (options.seed ?? 1) | 1;
    const cores = Array.from({ length: options.cores }, (_, k) => k + 1);
    this.w = new World(cores, options.policy, options.params ?? {});
    this.members.forEach((member, slot) => {
      this.w.vm(slot, { ...member, vmClass: member.lc === true ? CLASS_LC : CLASS_BE });
    });
    const zero = (): number[] => this.members.map(() => 0);
    this.work = this.members.map(({ work }) => work ?? 0);
    this.queuedAt = zero();
    this.had = zero();
    this.idleSince = cores.map(() => -1);
    this.askedSince = cores.map(() => -1);
    this.generation = cores.map((core) => this.w.table[coreBase(core) + W_CORE_WORD_HI]);
    this.last = cores.map(() => ({ from: NO_VM, to: NO_VM, at: -1e9 }));
  }

  random(below: number): number {
    this.state = (Math.imul(this.state, 1664525) + 1013904223) | 0;
    return Math.floor(((this.state >>> 0) / 2 ** 32) * below);
  }

  /** Microseconds pass, a turn in each. Throws what was broken. */
  run(us: number, each: () => void = () => {}): void {
    for (let i = 0; i < us; i++) {
      this.us++;
      this.w.time += 1000;
      this.members.forEach((member, slot) => (member.liar === true ? this.lie(slot) : this.behave(slot)));
      this.leave();
      const before = this.w.cores.map((core) => this.w.low(core));
      this.w.turn.chunk(1);
      this.check(before);
      this.members.forEach((_, slot) => (this.had[slot] += this.w.held(slot)));
      each();
    }
  }

  private owner(k: number): { slot: number; vcpu: number } | undefined {
    const core = this.w.cores[k];
    const slot = this.w.owner(core);
    return slot < 0 ? undefined : { slot, vcpu: this.w.ownerVcpu(core) };
  }

  private word(slot: number, vcpu: number, word: number, value: number): void {
    const at = guestVcpuBase(slot, vcpu) + word;
    if (this.w.arena[at] === value) return;
    this.w.arena[at] = value;
    this.w.arena[summaryBase(slot) + W_SUMMARY_SEQ]++;
  }

  /** Work runs on the vCPUs that have a core; the rest waits in the first one's queue. */
  private behave(slot: number): void {
    let left = this.work[slot];
    this.w.cores.forEach((_, k) => {
      const owner = this.owner(k);
      if (owner?.slot !== slot || this.w.vcpuState(slot, owner.vcpu) !== VCPU_RUNNING) return;
      const busy = left > 0;
      if (busy) left--;
      this.word(slot, owner.vcpu, W_GUEST_VCPU_STATE, busy ? GUEST_RUNNING : GUEST_IDLE);
      if (busy) this.idleSince[k] = -1;
      else if (this.idleSince[k] < 0) this.idleSince[k] = this.us;
    });
    if (left === 0) this.queuedAt[slot] = 0;
    else if (this.queuedAt[slot] === 0) this.queuedAt[slot] = this.us;
    this.word(slot, 0, W_GUEST_VCPU_RUNQ_LEN, left);
    if (left > 0) this.word(slot, 0, W_GUEST_VCPU_OLDEST, this.w.stamp(this.us - this.queuedAt[slot]));
  }

  private lie(slot: number): void {
    if (this.random(4) !== 0) return;
    const vcpu = this.random(this.members[slot].vcpus);
    const nonsense = [0, 1, -1, 70_000, this.random(2 ** 31), -this.random(2 ** 31)];
    const word = [W_GUEST_VCPU_RUNQ_LEN, W_GUEST_VCPU_OLDEST, W_GUEST_VCPU_STATE][this.random(3)];
    this.w.arena[guestVcpuBase(slot, vcpu) + word] = nonsense[this.random(nonsense.length)];
    const summary = summaryBase(slot);
    if (this.random(8) === 0) this.w.arena[summary + W_SUMMARY_FLAGS] = this.random(8);
    if (this.random(8) === 0) this.w.arena[summary + W_SUMMARY_NEXT_TIMER] = this.random(2 ** 31);
    this.w.arena[summary + W_SUMMARY_SEQ] += this.random(3);
  }

  /** Whoever is asked leaves after a while, and whoever has nothing to do yields. */
  private leave(): void {
    this.w.cores.forEach((core, k) => {
      const owner = this.owner(k);
      if (owner === undefined) return;
      const liar = this.members[owner.slot].liar === true;
      const asked =
        successorOf(this.w.low(core)) !== 0 || this.w.vcpuState(owner.slot, owner.vcpu) === VCPU_CEDING;
      if (!asked) this.askedSince[k] = -1;
      else if (this.askedSince[k] < 0) this.askedSince[k] = this.us;
      const late = asked && this.us - this.askedSince[k] >= (liar ? DEADLINE_US : this.random(4));
      const bored = !liar && this.idleSince[k] >= 0 && this.us - this.idleSince[k] >= SPIN_US;
      if (!late && !bored) return;
      this.word(owner.slot, owner.vcpu, W_GUEST_VCPU_STATE, GUEST_IDLE);
      this.idleSince[k] = -1;
      this.askedSince[k] = -1;
      this.w.leave(core);
    });
  }

  private fail(text: string): never {
    throw new Error(`after ${this.us} us: ${text}`);
  }

  private check(before: readonly number[]): void {
    const { w } = this;
    w.check();
    this.members.forEach((member, slot) => {
      const owned = w.cores.filter((core) => w.owner(core) === slot).length;
      const most = Math.min(member.max ?? member.vcpus, member.vcpus);
      if (owned > most) this.fail(`VM ${slot} has ${owned} cores of ${most}`);
    });
    w.cores.forEach((core, k) => {
      const generation = w.table[coreBase(core) + W_CORE_WORD_HI];
      if (((generation - this.generation[k]) | 0) < 0) this.fail(`core ${core} went back a generation`);
      this.generation[k] = generation;
      const low = w.low(core);
      if (low !== before[k] && ownerOf(low) === ownerOf(before[k]) && successorOf(low) !== 0) this.taken(k);
    });
  }

  /** The turn has asked the owner of core k to leave. */
  private taken(k: number): void {
    const { view } = this.w.state;
    const from = this.w.owner(this.w.cores[k]);
    const successor = successorOf(this.w.low(this.w.cores[k]));
    const to = view.target[k];
    this.takings++;
    const uses = Math.min(view.vmMin[from], view.vmWants[from]);
    if (this.w.held(from) < uses) this.fail(`VM ${from} lost a core that it is guaranteed and uses`);
    if (successor !== 0 && slotOf(successor) === to) this.lookForPingPong(k, from, to);
    this.last[k] = { from, to, at: this.us };
  }

  private lookForPingPong(k: number, from: number, to: number): void {
    const { view } = this.w.state;
    const last = this.last[k];
    const back = last.from === to && last.to === from && this.us - last.at < (this.o.pingPongUs ?? 0);
    const owner = this.owner(k)!;
    const idle = this.w.arena[guestVcpuBase(from, owner.vcpu) + W_GUEST_VCPU_STATE] === GUEST_IDLE;
    if (back && view.why[k] !== WHY_GUARANTEE && !idle && (view.coreFlags[k] & CORE_MOVING) === 0)
      this.fail(`core ${this.w.cores[k]} went from VM ${to} to ${from} and back in ${this.us - last.at} us`);
  }
}

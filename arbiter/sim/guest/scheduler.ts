/**
 * What a vCPU does with its core, as FluxOS's scheduler does it: its own queue, the
 * ring, half of another queue, what the host holds; then it looks on for a while.
 */
import {
  GUEST_IDLE,
  GUEST_RUNNING,
  HELD_TAKEN,
  MAX_VCPUS,
  W_VCPU_HELD,
  W_VM_RING_DEPTH,
} from '../../abi/layout.gen.ts';
import { tableVcpuBase, vmBase } from '../../bridge/words.ts';
import { SPINNING, USEFUL } from '../meter.ts';
import { NONE } from '../work.ts';
import { GuestQueues } from './queues.ts';
import type { GuestVm, GuestWorld, Handovers } from './world.ts';
import { IDLE, OFF, RUNNING } from './world.ts';

/** As FluxOS: in one of so many passes it looks at what nobody comes by first. */
const LOOK_AROUND = 61;

export abstract class GuestScheduler extends GuestQueues {
  readonly handovers: Handovers = { granted: 0, moved: 0, inherited: 0, takenOver: 0 };

  // By VM.
  /** Bits of its vCPUs that are held with an interrupted uThread. */
  protected readonly held: Int32Array;
  readonly #spinNs: Float64Array;

  // By vCPU.
  /** Not 0: it has been asked to leave its core. */
  protected readonly leaving: Uint8Array;
  /** What runs on it, or is held; and when that will be done. */
  protected readonly uthread: Int32Array;
  protected readonly ends: Float64Array;
  /** Since when it has looked for work; negative: it does not. */
  protected readonly idleSince: Float64Array;
  readonly #passes: Int32Array;

  constructor(world: GuestWorld, vms: readonly GuestVm[]) {
    super(world, vms);
    const vcpus = vms.length * MAX_VCPUS;
    this.held = new Int32Array(vms.length);
    this.#spinNs = Float64Array.from(vms, ({ idleSpinNs }) => idleSpinNs);
    this.leaving = new Uint8Array(vcpus);
    this.uthread = new Int32Array(vcpus);
    this.ends = new Float64Array(vcpus);
    this.idleSince = new Float64Array(vcpus).fill(-1);
    this.#passes = new Int32Array(vcpus);
  }

  /** A vCPU that was asked to leave has nothing to run at this moment: it leaves by itself. */
  protected abstract leaveUnheld(v: number): void;

  /** Looks for something to run, in FluxOS's order. The core counts as spinning if it was idle, else as useful. */
  protected schedule(v: number, costNs: number): void {
    const { guest } = this.world.machine;
    const vm = (v / MAX_VCPUS) | 0;
    const pass = ++this.#passes[v];
    if (pass % LOOK_AROUND === 0) {
      if (this.takeOver(v, costNs)) return;
      this.steal(v, true);
    }
    let uthread = this.pop(v);
    if (uthread !== NONE) {
      this.begin(v, uthread, costNs + guest.switchNs);
      return;
    }
    const visible = this.world.releaseAtOnce || this.world.table[vmBase(vm) + W_VM_RING_DEPTH] !== 0;
    const request = visible ? this.rings.pop(vm) : NONE;
    if (request !== NONE) {
      this.ringChanged(vm, false);
      this.begin(v, this.uthreads.make(request, -1, this.now), costNs + guest.requestNs);
      return;
    }
    if (this.steal(v, false)) {
      uthread = this.pop(v);
      this.begin(v, uthread, costNs + guest.stealNs);
      return;
    }
    if (this.takeOver(v, costNs)) return;
    this.lookOn(v);
  }

  /** Moves the older half of another queue of the VM here; `absent`: only of a vCPU that has no core. */
  protected steal(v: number, absent: boolean): boolean {
    const vm = (v / MAX_VCPUS) | 0;
    const own = v % MAX_VCPUS;
    let others = this.queued[vm] & ~(1 << own);
    if (others === 0) return false;
    const n = this.vcpus[vm];
    for (let i = 1; i < n && others !== 0; i++) {
      const other = (own + i) % n;
      const bit = 1 << other;
      if ((others & bit) === 0) continue;
      others &= ~bit;
      const victim = vm * MAX_VCPUS + other;
      if (absent && this.state[victim] !== OFF) continue;
      let moved = (this.queues.length[victim] + 1) >> 1;
      while (moved-- > 0) this.push(v, this.pop(victim));
      this.publish(v);
      this.publish(victim);
      return true;
    }
    return false;
  }

  /** Takes over a uThread that the host holds. */
  protected takeOver(v: number, costNs: number): boolean {
    const vm = (v / MAX_VCPUS) | 0;
    const held = this.held[vm] & ~(1 << (v % MAX_VCPUS));
    if (held === 0) return false;
    const victim = vm * MAX_VCPUS + (31 - Math.clz32(held & -held));
    const uthread = this.uthread[victim];
    this.uthread[victim] = NONE;
    this.held[vm] &= ~(1 << (victim % MAX_VCPUS));
    this.world.table[tableVcpuBase(vm, victim % MAX_VCPUS) + W_VCPU_HELD] = HELD_TAKEN;
    this.handovers.takenOver++;
    this.begin(v, uthread, costNs + this.world.machine.guest.takeOverNs);
    return true;
  }

  /** Runs what is in no queue any more. */
  protected begin(v: number, uthread: number, costNs: number): void {
    const uthreads = this.uthreads;
    const vm = (v / MAX_VCPUS) | 0;
    this.notIdle(v);
    let cost = costNs;
    if (uthreads.left[uthread] < 0) {
      // A request that begins: it is split, and the other parts are for whoever finds them.
      const requests = this.requests;
      const request = uthreads.request[uthread];
      const group = this.world.groups[this.group[vm]];
      group.wait.add(this.now + costNs - requests.due[request]);
      const parts = requests.fanout[request];
      const each = requests.serviceNs[request] / parts;
      uthreads.left[uthread] = each;
      for (let i = 1; i < parts; i++) this.push(v, uthreads.make(request, each, this.now));
      if (parts > 1) {
        cost += (parts - 1) * this.world.machine.guest.spawnNs;
        for (let i = 1; i < parts && this.idle[vm] !== 0; i++) this.notice(vm);
      }
    }
    this.publish(v);
    this.run(v, uthread, cost);
  }

  protected run(v: number, uthread: number, costNs: number): void {
    this.uthread[v] = uthread;
    this.state[v] = RUNNING;
    this.say(v, GUEST_RUNNING);
    const left = this.uthreads.left[uthread];
    this.ends[v] = this.now + costNs + left;
    if (left !== Infinity) this.world.timers.set(v, this.ends[v]);
    else this.world.timers.cancel(v);
  }

  /** The uThread is done. */
  protected finish(v: number): void {
    const vm = (v / MAX_VCPUS) | 0;
    const uthread = this.uthread[v];
    if (uthread !== NONE) {
      const request = this.uthreads.request[uthread];
      this.uthread[v] = NONE;
      this.uthreads.drop(uthread);
      if (--this.requests.parts[request] === 0) {
        const group = this.world.groups[this.group[vm]];
        group.latency.add(this.now - this.requests.due[request]);
        group.finished++;
        this.requests.drop(request);
      }
    }
    if (this.leaving[v] !== 0) {
      // That goes before everything.
      this.leaveUnheld(v);
      return;
    }
    this.schedule(v, 0);
  }

  /** Nothing to run: it looks on for a while. */
  protected lookOn(v: number): void {
    const { meter, timers } = this.world;
    const vm = (v / MAX_VCPUS) | 0;
    if (this.idleSince[v] < 0) {
      this.idleSince[v] = this.now;
      meter.change(this.group[vm], USEFUL, SPINNING, this.now);
      this.say(v, GUEST_IDLE);
      this.publish(v);
    }
    this.state[v] = IDLE;
    this.idle[vm] |= 1 << (v % MAX_VCPUS);
    timers.set(v, Math.max(this.now, this.idleSince[v] + this.#spinNs[vm]));
  }

  protected notIdle(v: number): void {
    if (this.idleSince[v] < 0) return;
    this.idleSince[v] = -1;
    const vm = (v / MAX_VCPUS) | 0;
    this.idle[vm] &= ~(1 << (v % MAX_VCPUS));
    this.world.meter.change(this.group[vm], SPINNING, USEFUL, this.now);
  }
}

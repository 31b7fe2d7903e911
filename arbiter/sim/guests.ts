/**
 * The guests: every vCPU of every VM, behaving as FluxOS does (guest-libos/libos,
 * scheduler.rs). A queue for each vCPU, requests from the VM's ring, half of another
 * queue if its own is empty, contexts that the host holds last of all; then it looks
 * for work for a while, and gives its core back.
 *
 * A vCPU that runs a uThread when it is asked to leave is kicked: the uThread is held
 * where it stands, until its vCPU gets a core or another one takes it over. One that
 * runs nothing leaves by itself.
 */
import {
  CORE_NONE,
  GUEST_IDLE,
  GUEST_PARKED,
  GUEST_RUNNING,
  GUEST_SCHEDULING,
  HELD_HELD,
  HELD_NONE,
  HELD_TAKEN,
  MAX_VCPUS,
  RING_ENTRIES,
  SUMMARY_BOOTED,
  VCPU_PARKED,
  VM_LIVE,
  W_GUEST_VCPU_OLDEST,
  W_GUEST_VCPU_RUNQ_LEN,
  W_GUEST_VCPU_STATE,
  W_SUMMARY_FLAGS,
  W_SUMMARY_SEQ,
  W_VCPU_HELD,
  W_VCPU_PINNED,
  W_VCPU_T_PARKED_HI,
  W_VCPU_T_PARKED_LO,
  W_VCPU_WORD,
  W_VM_MAX_CORES,
  W_VM_MIN_CORES,
  W_VM_RING_DEPTH,
  W_VM_RING_OLDEST,
  W_VM_STATE,
  W_VM_VCPUS,
  W_VM_VM_CLASS,
} from '../abi/layout.gen.ts';
import { guestVcpuBase, summaryBase, tableVcpuBase, vcpuWord, vmBase } from '../bridge/words.ts';
import type { Random } from '../../bench/load/random.ts';
import type { TimedBridge, Listener } from './bridge.ts';
import type { Latencies } from './latency.ts';
import type { Arrivals } from './load/arrivals.ts';
import type { Machine, MoveTimes } from './machine.ts';
import type { Meter } from './meter.ts';
import { ARRIVING, NOWHERE, SPINNING, USEFUL } from './meter.ts';
import type { Timers } from './timers.ts';
import { NONE, Queues, Requests, UThreads } from './work.ts';

/** One VM as the simulator needs it. */
export interface GuestVm {
  readonly group: number;
  readonly vmClass: number;
  readonly vcpus: number;
  readonly minCores: number;
  readonly maxCores: number;
  readonly idleSpinNs: number;
  /** Undefined: no requests. */
  readonly arrivals?: Arrivals;
  /** uThreads that compute for ever, from the beginning. */
  readonly threads: number;
}

/** Figures of a group of VMs. */
export interface GroupFigures {
  /** From the scheduled arrival to the end. */
  readonly latency: Latencies;
  /** To the first instruction. */
  readonly wait: Latencies;
  arrived: number;
  finished: number;
}

/** How cores changed hands. */
export interface Handovers {
  /** An idle core was granted. */
  granted: number;
  /** The arbiter took it from one vCPU for another. */
  moved: number;
  /** Its owner gave it back, and its heir had it. */
  inherited: number;
  /** uThreads that were held and taken over by another vCPU of their VM. */
  takenOver: number;
}

// What a vCPU does.
const OFF = 0;
/** It was granted a core and has not executed an instruction yet. */
const COMING = 1;
const RUNNING = 2;
const IDLE = 3;
/** Idle, and about to notice that there is work. */
const NOTICING = 4;

/** As FluxOS: in one of so many passes it looks at what nobody comes by first. */
const LOOK_AROUND = 61;
/** An oldest stamp that has moved by less is no news. */
const GRAIN_NS = 4000;

export interface GuestWorld {
  readonly arena: Int32Array;
  readonly table: Int32Array;
  readonly bridge: TimedBridge;
  readonly timers: Timers;
  readonly meter: Meter;
  readonly machine: Machine;
  readonly random: Random;
  readonly groups: readonly GroupFigures[];
  /** Nanoseconds are 2^stampShift to a stamp. */
  readonly stampShift: number;
  /** Requests become visible at once, and not only when the loop's releaser comes by. */
  readonly releaseAtOnce: boolean;
  /** Something that the loop looks at has changed. */
  readonly poke: () => void;
}

/** Timers of the guests: one for each vCPU, one for each vCPU that is leaving, one for each VM's next arrival. */
export const timersOf = (vms: number): number => vms * (2 * MAX_VCPUS + 1);

export class Guests implements Listener {
  readonly handovers: Handovers = { granted: 0, moved: 0, inherited: 0, takenOver: 0 };
  now = 0;
  readonly #w: GuestWorld;
  readonly #vms: readonly GuestVm[];
  readonly #requests = new Requests();
  readonly #uthreads = new UThreads();
  readonly #rings: Queues;
  readonly #queues: Queues;
  readonly #leaveTimer: number;
  readonly #arrivalTimer: number;

  // By VM.
  readonly #group: Int32Array;
  readonly #vcpus: Int32Array;
  readonly #spinNs: Float64Array;
  /** Bits of its vCPUs: idle on a core, queue not empty, holding an interrupted uThread. */
  readonly #idle: Int32Array;
  readonly #queued: Int32Array;
  readonly #held: Int32Array;
  /** Not 0: its ring's figures have changed and the releaser has not shown it yet. */
  readonly #unshown: Int32Array;
  readonly #unshownList: Int32Array;
  #unshownCount = 0;

  // By vCPU.
  readonly #state: Uint8Array;
  readonly #leaving: Uint8Array;
  readonly #uthread: Int32Array;
  readonly #ends: Float64Array;
  readonly #idleSince: Float64Array;
  readonly #passes: Int32Array;
  readonly #told: Float64Array;
  readonly #shown: Int32Array;
  /** By core: what a hand-over takes from the leaver's last instruction to the successor's first. */
  readonly #handover: Float64Array;
  /** Of the hand-over that is going on; negative: a grant, whose time is drawn. */
  #delay = -1;

  constructor(world: GuestWorld, vms: readonly GuestVm[], cores: number) {
    this.#w = world;
    this.#vms = vms;
    const n = vms.length;
    const vcpus = n * MAX_VCPUS;
    this.#leaveTimer = vcpus;
    this.#arrivalTimer = 2 * vcpus;
    this.#rings = new Queues(n, this.#requests);
    this.#queues = new Queues(vcpus, this.#uthreads);
    this.#group = Int32Array.from(vms, ({ group }) => group);
    this.#vcpus = Int32Array.from(vms, (vm) => vm.vcpus);
    this.#spinNs = Float64Array.from(vms, ({ idleSpinNs }) => idleSpinNs);
    this.#idle = new Int32Array(n);
    this.#queued = new Int32Array(n);
    this.#held = new Int32Array(n);
    this.#unshown = new Int32Array(n);
    this.#unshownList = new Int32Array(n);
    this.#state = new Uint8Array(vcpus);
    this.#leaving = new Uint8Array(vcpus);
    this.#uthread = new Int32Array(vcpus);
    this.#ends = new Float64Array(vcpus);
    this.#idleSince = new Float64Array(vcpus).fill(-1);
    this.#passes = new Int32Array(vcpus);
    this.#told = new Float64Array(vcpus);
    this.#shown = new Int32Array(vcpus);
    this.#handover = new Float64Array(cores);
    vms.forEach((vm, slot) => this.#layOut(vm, slot));
    world.bridge.listen(this);
  }

  /** As its Fluxion and the booted guest would leave the words of a VM. */
  #layOut(vm: GuestVm, slot: number): void {
    const { arena, table } = this.#w;
    const at = vmBase(slot);
    table[at + W_VM_STATE] = VM_LIVE;
    table[at + W_VM_VCPUS] = vm.vcpus;
    table[at + W_VM_VM_CLASS] = vm.vmClass;
    table[at + W_VM_MIN_CORES] = vm.minCores;
    table[at + W_VM_MAX_CORES] = vm.maxCores;
    for (let v = 0; v < vm.vcpus; v++) {
      const host = tableVcpuBase(slot, v);
      table[host + W_VCPU_WORD] = vcpuWord(VCPU_PARKED, CORE_NONE);
      table[host + W_VCPU_HELD] = HELD_NONE;
      table[host + W_VCPU_PINNED] = CORE_NONE;
      arena[guestVcpuBase(slot, v) + W_GUEST_VCPU_STATE] = GUEST_IDLE;
    }
    arena[summaryBase(slot) + W_SUMMARY_FLAGS] = SUMMARY_BOOTED;
    for (let i = 0; i < vm.threads; i++) {
      const v = slot * MAX_VCPUS + (i % vm.vcpus);
      this.#push(v, this.#uthreads.make(NONE, Infinity, this.now));
    }
    for (let v = 0; v < vm.vcpus; v++) this.#publish(slot * MAX_VCPUS + v);
    if (vm.arrivals?.next() === true) this.#w.timers.set(this.#arrivalTimer + slot, vm.arrivals.due);
  }

  /** The timer is due. */
  fire(timer: number): void {
    if (timer >= this.#arrivalTimer) this.#arrive(timer - this.#arrivalTimer);
    else if (timer >= this.#leaveTimer) this.#leave(timer - this.#leaveTimer);
    else this.#go(timer);
  }

  /** The loop's releaser comes by: requests that are due become visible, and the rings' figures are put right. */
  release(): void {
    for (let i = 0; i < this.#unshownCount; i++) {
      const vm = this.#unshownList[i];
      this.#unshown[vm] = 0;
      this.#showRing(vm);
      // As many as there are requests may be picked up; each vCPU that finds one looks for no other.
      let waiting = this.#rings.length[vm];
      while (waiting-- > 0 && this.#idle[vm] !== 0) this.#notice(vm);
    }
    this.#unshownCount = 0;
  }

  /** Whether the releaser would find something to do. */
  get unshown(): boolean {
    return this.#unshownCount !== 0;
  }

  /** Requests that have arrived and are not finished. */
  unfinished(group: number): number {
    const { arrived, finished } = this.#w.groups[group];
    return arrived - finished;
  }

  #arrive(vm: number): void {
    const arrivals = this.#vms[vm].arrivals!;
    const fanout = Math.max(1, arrivals.fanout);
    this.#rings.push(vm, this.#requests.make(this.now, arrivals.serviceNs, fanout));
    this.#w.groups[this.#group[vm]].arrived++;
    this.#ringChanged(vm, true);
    if (arrivals.next()) this.#w.timers.set(this.#arrivalTimer + vm, arrivals.due);
  }

  #ringChanged(vm: number, more: boolean): void {
    if (this.#w.releaseAtOnce) {
      this.#showRing(vm);
      if (more) this.#notice(vm);
    } else if (this.#unshown[vm] === 0) {
      this.#unshown[vm] = 1;
      this.#unshownList[this.#unshownCount++] = vm;
      if (more) this.#w.poke();
    }
  }

  #showRing(vm: number): void {
    const { table, poke } = this.#w;
    const at = vmBase(vm);
    const length = this.#rings.length[vm];
    table[at + W_VM_RING_DEPTH] = length < RING_ENTRIES ? length : RING_ENTRIES;
    if (length > 0) {
      table[at + W_VM_RING_OLDEST] = this.#stamp(this.#requests.due[this.#rings.head[vm]]);
      poke();
    }
  }

  #stamp(ns: number): number {
    return Math.floor(ns / 2 ** this.#w.stampShift) | 0;
  }

  #push(v: number, uthread: number): void {
    this.#queues.push(v, uthread);
    this.#queued[(v / MAX_VCPUS) | 0] |= 1 << v % MAX_VCPUS;
  }

  #pop(v: number): number {
    const uthread = this.#queues.pop(v);
    if (this.#queues.length[v] === 0) this.#queued[(v / MAX_VCPUS) | 0] &= ~(1 << v % MAX_VCPUS);
    return uthread;
  }

  /** Shows a queue's figures in the control page, as FluxOS does: with news only where there is some. */
  #publish(v: number): void {
    const { arena, poke } = this.#w;
    const vm = (v / MAX_VCPUS) | 0;
    const length = this.#queues.length[v];
    const ready = length === 0 ? 0 : this.#uthreads.ready[this.#queues.head[v]];
    const at = guestVcpuBase(vm, v % MAX_VCPUS);
    arena[at + W_GUEST_VCPU_OLDEST] = this.#stamp(ready);
    if (length === this.#shown[v] && (length === 0 || Math.abs(ready - this.#told[v]) <= GRAIN_NS)) return;
    this.#shown[v] = length;
    this.#told[v] = ready;
    arena[at + W_GUEST_VCPU_RUNQ_LEN] = length;
    arena[summaryBase(vm) + W_SUMMARY_SEQ]++;
    poke();
  }

  #say(v: number, state: number): void {
    this.#w.arena[guestVcpuBase((v / MAX_VCPUS) | 0, v % MAX_VCPUS) + W_GUEST_VCPU_STATE] = state;
  }

  /** There is one more thing to run: an idle vCPU, if there is one, is about to see it. */
  #notice(vm: number): void {
    const idle = this.#idle[vm];
    if (idle === 0) return;
    const v = vm * MAX_VCPUS + (31 - Math.clz32(idle & -idle));
    this.#idle[vm] = idle & (idle - 1);
    this.#state[v] = NOTICING;
    this.#w.timers.set(v, this.now + this.#w.machine.guest.noticeNs);
  }

  /** The vCPU's own timer: what it was at has come to its end. */
  #go(v: number): void {
    switch (this.#state[v]) {
      case COMING:
        this.#came(v);
        break;
      case RUNNING:
        this.#finish(v);
        break;
      case NOTICING:
        // A request to leave goes before everything.
        if (this.#leaving[v] !== 0) this.#state[v] = IDLE;
        else this.#schedule(v, 0);
        break;
      case IDLE:
        this.#yield(v);
        break;
    }
  }

  /** The first instruction on a core. */
  #came(v: number): void {
    const { meter, table } = this.#w;
    const vm = (v / MAX_VCPUS) | 0;
    const group = this.#group[vm];
    if (this.#leaving[v] !== 0) {
      // It was asked to leave before it came.
      this.#goneFrom(v, ARRIVING, GUEST_PARKED);
      return;
    }
    const uthread = this.#uthread[v];
    const host = tableVcpuBase(vm, v % MAX_VCPUS) + W_VCPU_HELD;
    table[host] = HELD_NONE;
    if (uthread !== NONE) {
      this.#held[vm] &= ~(1 << v % MAX_VCPUS);
      meter.change(group, ARRIVING, USEFUL, this.now);
      this.#run(v, uthread, 0);
      return;
    }
    meter.change(group, ARRIVING, USEFUL, this.now);
    this.#say(v, GUEST_SCHEDULING);
    this.#state[v] = RUNNING;
    this.#schedule(v, 0);
  }

  /** Looks for something to run, in FluxOS's order. The core counts as spinning if it was idle, else as useful. */
  #schedule(v: number, costNs: number): void {
    const { guest } = this.#w.machine;
    const vm = (v / MAX_VCPUS) | 0;
    const pass = ++this.#passes[v];
    if (pass % LOOK_AROUND === 0) {
      if (this.#takeOver(v, costNs)) return;
      this.#steal(v, true);
    }
    let uthread = this.#pop(v);
    if (uthread !== NONE) {
      this.#begin(v, uthread, costNs + guest.switchNs);
      return;
    }
    const visible = this.#w.releaseAtOnce || this.#w.table[vmBase(vm) + W_VM_RING_DEPTH] !== 0;
    const request = visible ? this.#rings.pop(vm) : NONE;
    if (request !== NONE) {
      this.#ringChanged(vm, false);
      this.#begin(v, this.#uthreads.make(request, -1, this.now), costNs + guest.requestNs);
      return;
    }
    if (this.#steal(v, false)) {
      uthread = this.#pop(v);
      this.#begin(v, uthread, costNs + guest.stealNs);
      return;
    }
    if (this.#takeOver(v, costNs)) return;
    this.#lookOn(v);
  }

  /** Moves the older half of another queue of the VM here; `absent`: only of a vCPU that has no core. */
  #steal(v: number, absent: boolean): boolean {
    const vm = (v / MAX_VCPUS) | 0;
    const own = v % MAX_VCPUS;
    let others = this.#queued[vm] & ~(1 << own);
    if (others === 0) return false;
    const n = this.#vcpus[vm];
    for (let i = 1; i < n && others !== 0; i++) {
      const other = (own + i) % n;
      const bit = 1 << other;
      if ((others & bit) === 0) continue;
      others &= ~bit;
      const victim = vm * MAX_VCPUS + other;
      if (absent && this.#state[victim] !== OFF) continue;
      let moved = (this.#queues.length[victim] + 1) >> 1;
      while (moved-- > 0) this.#push(v, this.#pop(victim));
      this.#publish(v);
      this.#publish(victim);
      return true;
    }
    return false;
  }

  /** Takes over a uThread that the host holds. */
  #takeOver(v: number, costNs: number): boolean {
    const vm = (v / MAX_VCPUS) | 0;
    const held = this.#held[vm] & ~(1 << v % MAX_VCPUS);
    if (held === 0) return false;
    const victim = vm * MAX_VCPUS + (31 - Math.clz32(held & -held));
    const uthread = this.#uthread[victim];
    this.#uthread[victim] = NONE;
    this.#held[vm] &= ~(1 << victim % MAX_VCPUS);
    this.#w.table[tableVcpuBase(vm, victim % MAX_VCPUS) + W_VCPU_HELD] = HELD_TAKEN;
    this.handovers.takenOver++;
    this.#begin(v, uthread, costNs + this.#w.machine.guest.takeOverNs);
    return true;
  }

  /** Runs what is in no queue any more. */
  #begin(v: number, uthread: number, costNs: number): void {
    const uthreads = this.#uthreads;
    const vm = (v / MAX_VCPUS) | 0;
    this.#notIdle(v);
    let cost = costNs;
    if (uthreads.left[uthread] < 0) {
      // A request that begins: it is split, and the other parts are for whoever finds them.
      const requests = this.#requests;
      const request = uthreads.request[uthread];
      const group = this.#w.groups[this.#group[vm]];
      group.wait.add(this.now + costNs - requests.due[request]);
      const parts = requests.fanout[request];
      const each = requests.serviceNs[request] / parts;
      uthreads.left[uthread] = each;
      for (let i = 1; i < parts; i++) this.#push(v, uthreads.make(request, each, this.now));
      if (parts > 1) {
        cost += (parts - 1) * this.#w.machine.guest.spawnNs;
        for (let i = 1; i < parts && this.#idle[vm] !== 0; i++) this.#notice(vm);
      }
    }
    this.#publish(v);
    this.#run(v, uthread, cost);
  }

  #run(v: number, uthread: number, costNs: number): void {
    this.#uthread[v] = uthread;
    this.#state[v] = RUNNING;
    this.#say(v, GUEST_RUNNING);
    const left = this.#uthreads.left[uthread];
    this.#ends[v] = this.now + costNs + left;
    if (left !== Infinity) this.#w.timers.set(v, this.#ends[v]);
    else this.#w.timers.cancel(v);
  }

  /** The uThread is done. */
  #finish(v: number): void {
    const vm = (v / MAX_VCPUS) | 0;
    const uthread = this.#uthread[v];
    if (uthread !== NONE) {
      const request = this.#uthreads.request[uthread];
      this.#uthread[v] = NONE;
      this.#uthreads.drop(uthread);
      if (--this.#requests.parts[request] === 0) {
        const group = this.#w.groups[this.#group[vm]];
        group.latency.add(this.now - this.#requests.due[request]);
        group.finished++;
        this.#requests.drop(request);
      }
    }
    if (this.#leaving[v] !== 0) {
      // A request to leave goes before everything, and it leaves by itself.
      this.#w.timers.cancel(this.#leaveTimer + v);
      this.#goneFrom(v, USEFUL, GUEST_PARKED);
      return;
    }
    this.#schedule(v, 0);
  }

  /** Nothing to run: it looks on for a while. */
  #lookOn(v: number): void {
    const { meter, timers } = this.#w;
    const vm = (v / MAX_VCPUS) | 0;
    if (this.#idleSince[v] < 0) {
      this.#idleSince[v] = this.now;
      meter.change(this.#group[vm], USEFUL, SPINNING, this.now);
      this.#say(v, GUEST_IDLE);
      this.#publish(v);
    }
    this.#state[v] = IDLE;
    this.#idle[vm] |= 1 << v % MAX_VCPUS;
    timers.set(v, Math.max(this.now, this.#idleSince[v] + this.#spinNs[vm]));
  }

  #notIdle(v: number): void {
    if (this.#idleSince[v] < 0) return;
    this.#idleSince[v] = -1;
    const vm = (v / MAX_VCPUS) | 0;
    this.#idle[vm] &= ~(1 << v % MAX_VCPUS);
    this.#w.meter.change(this.#group[vm], SPINNING, USEFUL, this.now);
  }

  /** It has looked for long enough. */
  #yield(v: number): void {
    if (this.#leaving[v] !== 0) return;
    this.#idle[(v / MAX_VCPUS) | 0] &= ~(1 << v % MAX_VCPUS);
    this.#idleSince[v] = -1;
    this.#delay = this.#w.machine.yielded(this.#w.random());
    this.#off(v, SPINNING, GUEST_IDLE);
  }

  /** A vCPU that was asked has come so far: it leaves, and if it runs something, that is held. */
  #leave(v: number): void {
    const { table } = this.#w;
    const vm = (v / MAX_VCPUS) | 0;
    const uthread = this.#uthread[v];
    if (this.#state[v] === RUNNING && uthread !== NONE) {
      this.#uthreads.left[uthread] = Math.max(0, this.#ends[v] - this.now);
      this.#held[vm] |= 1 << v % MAX_VCPUS;
      const host = tableVcpuBase(vm, v % MAX_VCPUS);
      table[host + W_VCPU_HELD] = HELD_HELD;
      table[host + W_VCPU_T_PARKED_LO] = (this.now % 2 ** 32) | 0;
      table[host + W_VCPU_T_PARKED_HI] = Math.floor(this.now / 2 ** 32);
      this.#goneFrom(v, USEFUL, GUEST_RUNNING);
      // Another vCPU of the VM that looks for work finds it.
      this.#notice(vm);
      return;
    }
    const wasIdle = this.#idleSince[v] >= 0;
    this.#idle[vm] &= ~(1 << v % MAX_VCPUS);
    this.#idleSince[v] = -1;
    this.#goneFrom(v, wasIdle ? SPINNING : USEFUL, GUEST_PARKED);
  }

  /** Leaves because it was asked: what the move still takes was drawn then. */
  #goneFrom(v: number, mode: number, state: number): void {
    const { bridge, table } = this.#w;
    const vm = (v / MAX_VCPUS) | 0;
    this.#leaving[v] = 0;
    bridge.settled();
    const core = (table[tableVcpuBase(vm, v % MAX_VCPUS) + W_VCPU_WORD] >>> 8) & 0xffff;
    this.#delay = this.#handover[core];
    this.#off(v, mode, state);
  }

  #off(v: number, mode: number, state: number): void {
    const { bridge, meter, timers, poke } = this.#w;
    this.#state[v] = OFF;
    this.#say(v, state);
    timers.cancel(v);
    meter.change(this.#group[(v / MAX_VCPUS) | 0], mode, NOWHERE, this.now);
    bridge.leave(v + 1);
    this.#delay = -1;
    poke();
  }

  granted(handle: number, core: number): void {
    const { machine, meter, random, timers, poke } = this.#w;
    const v = handle - 1;
    let delay = this.#delay;
    if (delay < 0) {
      this.handovers.granted++;
      delay = machine.granted(random());
    } else if (this.#handover[core] > 0) this.handovers.moved++;
    else this.handovers.inherited++;
    this.#handover[core] = 0;
    this.#state[v] = COMING;
    meter.change(this.#group[(v / MAX_VCPUS) | 0], NOWHERE, ARRIVING, this.now);
    timers.set(v, this.now + delay);
    poke();
  }

  asked(handle: number, core: number): void {
    const { machine, random, timers, poke } = this.#w;
    const v = handle - 1;
    const how: MoveTimes = this.#state[v] === RUNNING ? machine.kicked : machine.asked;
    const share = random();
    const handed = how.handed(share);
    this.#leaving[v] = 1;
    this.#handover[core] = Math.max(1, how.first(share) - handed);
    // One that has not come yet leaves as soon as it has.
    if (this.#state[v] !== COMING) timers.set(this.#leaveTimer + v, this.now + handed);
    poke();
  }
}

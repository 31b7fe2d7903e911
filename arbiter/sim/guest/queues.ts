/**
 * The guests' queues, rings and pages: what they have to run, and what they show of it
 * in the words that the loop reads.
 */
import {
  CORE_NONE,
  GUEST_IDLE,
  HELD_NONE,
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
  W_VCPU_WORD,
  W_VM_MAX_CORES,
  W_VM_MIN_CORES,
  W_VM_RING_DEPTH,
  W_VM_RING_OLDEST,
  W_VM_STATE,
  W_VM_VCPUS,
  W_VM_VM_CLASS,
} from '../../abi/layout.gen.ts';
import { guestVcpuBase, summaryBase, tableVcpuBase, vcpuWord, vmBase } from '../../bridge/words.ts';
import { NONE, Queues, Requests, UThreads } from '../work.ts';
import type { GuestVm, GuestWorld } from './world.ts';
import { NOTICING } from './world.ts';

/** An oldest stamp that has moved by less is no news. */
const GRAIN_NS = 4000;

export class GuestQueues {
  now = 0;
  protected readonly world: GuestWorld;
  protected readonly vms: readonly GuestVm[];
  protected readonly requests = new Requests();
  protected readonly uthreads = new UThreads();
  /** Requests that wait, by VM. */
  protected readonly rings: Queues;
  /** Runnable uThreads, by vCPU. */
  protected readonly queues: Queues;
  protected readonly leaveTimer: number;
  protected readonly arrivalTimer: number;

  // By VM.
  protected readonly group: Int32Array;
  protected readonly vcpus: Int32Array;
  /** Bits of its vCPUs: idle on a core; queue not empty. */
  protected readonly idle: Int32Array;
  protected readonly queued: Int32Array;
  /** Not 0: its ring's figures have changed and the releaser has not shown it yet. */
  readonly #unshown: Int32Array;
  readonly #unshownList: Int32Array;
  #unshownCount = 0;

  // By vCPU.
  /** What it does. */
  protected readonly state: Uint8Array;
  /** What its queue's figures were when the summary's sequence number told of them last. */
  readonly #shown: Int32Array;
  readonly #told: Float64Array;

  constructor(world: GuestWorld, vms: readonly GuestVm[]) {
    this.world = world;
    this.vms = vms;
    const n = vms.length;
    const vcpus = n * MAX_VCPUS;
    this.leaveTimer = vcpus;
    this.arrivalTimer = 2 * vcpus;
    this.rings = new Queues(n, this.requests);
    this.queues = new Queues(vcpus, this.uthreads);
    this.group = Int32Array.from(vms, ({ group }) => group);
    this.vcpus = Int32Array.from(vms, (vm) => vm.vcpus);
    this.idle = new Int32Array(n);
    this.queued = new Int32Array(n);
    this.#unshown = new Int32Array(n);
    this.#unshownList = new Int32Array(n);
    this.state = new Uint8Array(vcpus);
    this.#shown = new Int32Array(vcpus);
    this.#told = new Float64Array(vcpus);
    vms.forEach((vm, slot) => this.layOut(vm, slot));
  }

  /** As its Fluxion and the booted guest would leave the words of a VM. */
  private layOut(vm: GuestVm, slot: number): void {
    const { arena, table } = this.world;
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
      this.push(v, this.uthreads.make(NONE, Infinity, this.now));
    }
    for (let v = 0; v < vm.vcpus; v++) this.publish(slot * MAX_VCPUS + v);
    if (vm.arrivals?.next() === true) this.world.timers.set(this.arrivalTimer + slot, vm.arrivals.due);
  }

  /** The loop's releaser comes by: requests that are due become visible, and the rings' figures are put right. */
  release(): void {
    for (let i = 0; i < this.#unshownCount; i++) {
      const vm = this.#unshownList[i];
      this.#unshown[vm] = 0;
      this.showRing(vm);
      // As many as there are requests may be picked up; each vCPU that finds one looks for no other.
      let waiting = this.rings.length[vm];
      while (waiting-- > 0 && this.idle[vm] !== 0) this.notice(vm);
    }
    this.#unshownCount = 0;
  }

  /** Whether the releaser would find something to do. */
  get unshown(): boolean {
    return this.#unshownCount !== 0;
  }

  protected arrive(vm: number): void {
    const arrivals = this.vms[vm].arrivals!;
    const fanout = Math.max(1, arrivals.fanout);
    this.rings.push(vm, this.requests.make(this.now, arrivals.serviceNs, fanout));
    this.world.groups[this.group[vm]].arrived++;
    this.ringChanged(vm, true);
    if (arrivals.next()) this.world.timers.set(this.arrivalTimer + vm, arrivals.due);
  }

  protected ringChanged(vm: number, more: boolean): void {
    if (this.world.releaseAtOnce) {
      this.showRing(vm);
      if (more) this.notice(vm);
    } else if (this.#unshown[vm] === 0) {
      this.#unshown[vm] = 1;
      this.#unshownList[this.#unshownCount++] = vm;
      if (more) this.world.poke();
    }
  }

  private showRing(vm: number): void {
    const { table, poke } = this.world;
    const at = vmBase(vm);
    const length = this.rings.length[vm];
    table[at + W_VM_RING_DEPTH] = length < RING_ENTRIES ? length : RING_ENTRIES;
    if (length > 0) {
      table[at + W_VM_RING_OLDEST] = this.stamp(this.requests.due[this.rings.head[vm]]);
      poke();
    }
  }

  private stamp(ns: number): number {
    return Math.floor(ns / 2 ** this.world.stampShift) | 0;
  }

  protected push(v: number, uthread: number): void {
    this.queues.push(v, uthread);
    this.queued[(v / MAX_VCPUS) | 0] |= 1 << (v % MAX_VCPUS);
  }

  protected pop(v: number): number {
    const uthread = this.queues.pop(v);
    if (this.queues.length[v] === 0) this.queued[(v / MAX_VCPUS) | 0] &= ~(1 << (v % MAX_VCPUS));
    return uthread;
  }

  /** Shows a queue's figures in the control page, as FluxOS does: with news only where there is some. */
  protected publish(v: number): void {
    const { arena, poke } = this.world;
    const vm = (v / MAX_VCPUS) | 0;
    const length = this.queues.length[v];
    const ready = length === 0 ? 0 : this.uthreads.ready[this.queues.head[v]];
    const at = guestVcpuBase(vm, v % MAX_VCPUS);
    arena[at + W_GUEST_VCPU_OLDEST] = this.stamp(ready);
    if (length === this.#shown[v] && (length === 0 || Math.abs(ready - this.#told[v]) <= GRAIN_NS)) return;
    this.#shown[v] = length;
    this.#told[v] = ready;
    arena[at + W_GUEST_VCPU_RUNQ_LEN] = length;
    arena[summaryBase(vm) + W_SUMMARY_SEQ]++;
    poke();
  }

  protected say(v: number, state: number): void {
    this.world.arena[guestVcpuBase((v / MAX_VCPUS) | 0, v % MAX_VCPUS) + W_GUEST_VCPU_STATE] = state;
  }

  /** There is one more thing to run: an idle vCPU, if there is one, is about to see it. */
  protected notice(vm: number): void {
    const idle = this.idle[vm];
    if (idle === 0) return;
    const v = vm * MAX_VCPUS + (31 - Math.clz32(idle & -idle));
    this.idle[vm] = idle & (idle - 1);
    this.state[v] = NOTICING;
    this.world.timers.set(v, this.now + this.world.machine.guest.noticeNs);
  }
}

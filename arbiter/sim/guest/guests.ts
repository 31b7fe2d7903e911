/**
 * The guests: every vCPU of every VM, behaving as FluxOS does (guest-libos/libos). Here
 * is how a vCPU gets its core and how it leaves it.
 *
 * One that runs a uThread when it is asked to leave is kicked: the uThread is held
 * where it stands, until its vCPU gets a core or another one takes it over. One that
 * runs nothing leaves by itself.
 */
import {
  GUEST_IDLE,
  GUEST_PARKED,
  GUEST_RUNNING,
  GUEST_SCHEDULING,
  HELD_HELD,
  HELD_NONE,
  MAX_VCPUS,
  W_VCPU_HELD,
  W_VCPU_T_PARKED_HI,
  W_VCPU_T_PARKED_LO,
  W_VCPU_WORD,
} from '../../abi/layout.gen.ts';
import { tableVcpuBase, vcpuCore } from '../../bridge/words.ts';
import type { Listener } from '../bridge.ts';
import type { MoveTimes } from '../machine.ts';
import { ARRIVING, NOWHERE, SPINNING, USEFUL } from '../meter.ts';
import { NONE } from '../work.ts';
import { GuestScheduler } from './scheduler.ts';
import type { GuestVm, GuestWorld } from './world.ts';
import { COMING, IDLE, NOTICING, OFF, RUNNING } from './world.ts';

export class Guests extends GuestScheduler implements Listener {
  /** By core: what a hand-over takes from the leaver's last instruction to the successor's first. */
  readonly #handover: Float64Array;
  /** Of the hand-over that is going on; negative: a grant, whose time is drawn. */
  #delay = -1;

  constructor(world: GuestWorld, vms: readonly GuestVm[], cores: number) {
    super(world, vms);
    this.#handover = new Float64Array(cores);
    world.bridge.listen(this);
  }

  /** The timer is due. */
  fire(timer: number): void {
    if (timer >= this.arrivalTimer) this.arrive(timer - this.arrivalTimer);
    else if (timer >= this.leaveTimer) this.leave(timer - this.leaveTimer);
    else this.go(timer);
  }

  /** The vCPU's own timer: what it was at has come to its end. */
  private go(v: number): void {
    switch (this.state[v]) {
      case COMING:
        this.came(v);
        break;
      case RUNNING:
        this.finish(v);
        break;
      case NOTICING:
        // A request to leave goes before everything.
        if (this.leaving[v] !== 0) this.state[v] = IDLE;
        else this.schedule(v, 0);
        break;
      case IDLE:
        this.yieldCore(v);
        break;
    }
  }

  /** The first instruction on a core. */
  private came(v: number): void {
    const { meter, table } = this.world;
    const vm = (v / MAX_VCPUS) | 0;
    const group = this.group[vm];
    if (this.leaving[v] !== 0) {
      // It was asked to leave before it came.
      this.goneFrom(v, ARRIVING, GUEST_PARKED);
      return;
    }
    const uthread = this.uthread[v];
    const host = tableVcpuBase(vm, v % MAX_VCPUS) + W_VCPU_HELD;
    table[host] = HELD_NONE;
    if (uthread !== NONE) {
      this.held[vm] &= ~(1 << (v % MAX_VCPUS));
      meter.change(group, ARRIVING, USEFUL, this.now);
      this.run(v, uthread, 0);
      return;
    }
    meter.change(group, ARRIVING, USEFUL, this.now);
    this.say(v, GUEST_SCHEDULING);
    this.state[v] = RUNNING;
    this.schedule(v, 0);
  }

  /** It has looked for long enough. */
  private yieldCore(v: number): void {
    if (this.leaving[v] !== 0) return;
    this.idle[(v / MAX_VCPUS) | 0] &= ~(1 << (v % MAX_VCPUS));
    this.idleSince[v] = -1;
    this.#delay = this.world.machine.yielded(this.world.random());
    this.off(v, SPINNING, GUEST_IDLE);
  }

  /** A vCPU that was asked has come so far: it leaves, and if it runs something, that is held. */
  private leave(v: number): void {
    const { table } = this.world;
    const vm = (v / MAX_VCPUS) | 0;
    const uthread = this.uthread[v];
    if (this.state[v] === RUNNING && uthread !== NONE) {
      this.uthreads.left[uthread] = Math.max(0, this.ends[v] - this.now);
      this.held[vm] |= 1 << (v % MAX_VCPUS);
      const host = tableVcpuBase(vm, v % MAX_VCPUS);
      table[host + W_VCPU_HELD] = HELD_HELD;
      table[host + W_VCPU_T_PARKED_LO] = (this.now % 2 ** 32) | 0;
      table[host + W_VCPU_T_PARKED_HI] = Math.floor(this.now / 2 ** 32);
      this.goneFrom(v, USEFUL, GUEST_RUNNING);
      // Another vCPU of the VM that looks for work finds it.
      this.notice(vm);
      return;
    }
    const wasIdle = this.idleSince[v] >= 0;
    this.idle[vm] &= ~(1 << (v % MAX_VCPUS));
    this.idleSince[v] = -1;
    this.goneFrom(v, wasIdle ? SPINNING : USEFUL, GUEST_PARKED);
  }

  protected override leaveUnheld(v: number): void {
    this.world.timers.cancel(this.leaveTimer + v);
    this.goneFrom(v, USEFUL, GUEST_PARKED);
  }

  /** Leaves because it was asked: what the move still takes was drawn then. */
  private goneFrom(v: number, mode: number, state: number): void {
    const { bridge, table } = this.world;
    const vm = (v / MAX_VCPUS) | 0;
    this.leaving[v] = 0;
    bridge.settled();
    const core = vcpuCore(table[tableVcpuBase(vm, v % MAX_VCPUS) + W_VCPU_WORD]);
    this.#delay = this.#handover[core];
    this.off(v, mode, state);
  }

  private off(v: number, mode: number, state: number): void {
    const { bridge, meter, timers, poke } = this.world;
    this.state[v] = OFF;
    this.say(v, state);
    timers.cancel(v);
    meter.change(this.group[(v / MAX_VCPUS) | 0], mode, NOWHERE, this.now);
    bridge.leave(v + 1);
    this.#delay = -1;
    poke();
  }

  granted(handle: number, core: number): void {
    const { machine, meter, random, timers, poke } = this.world;
    const v = handle - 1;
    let delay = this.#delay;
    if (delay < 0) {
      this.handovers.granted++;
      delay = machine.granted(random());
    } else if (this.#handover[core] > 0) this.handovers.moved++;
    else this.handovers.inherited++;
    this.#handover[core] = 0;
    this.state[v] = COMING;
    meter.change(this.group[(v / MAX_VCPUS) | 0], NOWHERE, ARRIVING, this.now);
    timers.set(v, this.now + delay);
    poke();
  }

  asked(handle: number, core: number): void {
    const { machine, random, timers, poke } = this.world;
    const v = handle - 1;
    const how: MoveTimes = this.state[v] === RUNNING ? machine.kicked : machine.asked;
    const share = random();
    const first = how.first(share);
    // Two measured distributions; their tails need not agree on which comes first.
    const handed = Math.min(how.handed(share), first);
    this.leaving[v] = 1;
    this.#handover[core] = Math.max(1, first - handed);
    // One that has not come yet leaves as soon as it has.
    if (this.state[v] !== COMING) timers.set(this.leaveTimer + v, this.now + handed);
    poke();
  }
}

/**
 * The rules of the hand-over protocol (abi/handoff.h, abi/kflux.h), held against a trace. This is a second opinion:
 * it knows nothing of how the module does it, only which steps there may be.
 */
import {
  HANDLE_IDLE,
  VCPU_BLOCKED,
  VCPU_CEDING,
  VCPU_DEAD,
  VCPU_GRANTING,
  VCPU_NEW,
  VCPU_PARKED,
  VCPU_RUNNING,
  VCPU_UNMANAGED,
  CORE_NONE,
} from '../../../arbiter/abi/layout.gen.ts';
import type { Core, Vcpu } from './model.ts';
import { legal, onCore, stateNames } from './model.ts';
import type { TraceEvent } from './parse.ts';

export interface Violation {
  rule: string;
  text: string;
  event?: TraceEvent;
}

/** The first ones tell what went wrong; the rest follows from it. */
const REPORTED = 50;

export class Rules {
  readonly violations: Violation[] = [];
  readonly counts: Record<string, number> = {};
  readonly edges: Record<string, number> = {};
  private readonly vcpus = new Map<number, Vcpu>();
  private readonly cores = new Map<number, Core>();
  private leased?: boolean;
  private epoch?: number;
  private last = -1;
  private event?: TraceEvent;

  take(event: TraceEvent): void {
    this.event = event;
    this.counts[event.name] = (this.counts[event.name] ?? 0) + 1;
    if (event.at < this.last) this.wrong('order', `clock went from ${this.last} to ${event.at}`);
    this.last = event.at;
    switch (event.name) {
      case 'kflux_state':
        return this.state();
      case 'kflux_core':
        return this.core();
      case 'kflux_kick':
        return this.kick();
      case 'kflux_force':
        return this.force();
      case 'kflux_held':
        return this.held();
      case 'kflux_preempt':
        return this.preempt();
      case 'kflux_preempted':
        return this.preempted();
      case 'kflux_lease':
        return this.lease();
      case 'kflux_command':
        return this.command();
      default:
        this.wrong('format', `an unknown tracepoint, ${event.name}`);
    }
  }

  /** After the last event of a run that ended at rest: everything that began has ended. */
  end(): void {
    this.event = undefined;
    for (const [id, core] of this.cores) {
      if (core.successor !== 0)
        this.wrong('request ends', `core ${id}: vCPU ${core.owner} was asked to leave for ${core.successor}`);
      else if (core.owner !== 0) this.wrong('rest', `core ${id} still has an owner, vCPU ${core.owner}`);
    }
    for (const [handle, { state, core }] of this.vcpus) {
      if (state === VCPU_GRANTING) this.wrong('GRANTING ends', `vCPU ${handle} waits for core ${core}`);
      else if (state === VCPU_CEDING) this.wrong('CEDING ends', `vCPU ${handle} never parked`);
    }
  }

  private wrong(rule: string, text: string): void {
    if (this.violations.length < REPORTED) this.violations.push({ rule, text, event: this.event });
  }

  private number(key: string): number {
    const text = this.event!.fields[key];
    const value = Number(text);
    if (text === undefined || !Number.isFinite(value)) {
      this.wrong('format', `${this.event!.name} has no number ${key}`);
      return 0;
    }
    return value;
  }

  /** States are written by name or by number. */
  private stateOf(key: string): number {
    const text = this.event!.fields[key] ?? '';
    const named = stateNames.indexOf(text);
    return named >= 0 ? named : this.number(key);
  }

  private vcpu(handle: number): Vcpu {
    let vcpu = this.vcpus.get(handle);
    if (!vcpu) this.vcpus.set(handle, (vcpu = { state: VCPU_NEW, core: CORE_NONE, forced: false }));
    return vcpu;
  }

  private coreOf(id: number): Core {
    let core = this.cores.get(id);
    if (!core)
      this.cores.set(
        id,
        (core = { owner: 0, successor: 0, forced: false, mustIdle: false, unclaimed: false }),
      );
    return core;
  }

  private state(): void {
    const handle = this.number('vcpu');
    const [from, to, core] = [this.stateOf('from'), this.stateOf('to'), this.number('core')];
    // A slot that is used again has new vCPUs.
    if (from === VCPU_NEW && this.vcpus.get(handle)?.state === VCPU_DEAD) this.vcpus.delete(handle);
    const v = this.vcpu(handle);
    const had = v.core;
    if (from !== v.state)
      this.wrong('state', `vCPU ${handle} was ${stateNames[v.state]}, the trace says ${stateNames[from]}`);
    const with_ = (state: number, c: number): string => `${stateNames[state]}${c === CORE_NONE ? '' : '+'}`;
    const edge = `${with_(from, had)}>${with_(to, core)}`;
    this.edges[edge] = (this.edges[edge] ?? 0) + 1;
    if (!legal.has(edge)) this.wrong('edge', `vCPU ${handle}: ${edge} is no step of the protocol`);
    if (had !== CORE_NONE && core !== CORE_NONE && had !== core)
      this.wrong('edge', `vCPU ${handle} went from core ${had} to core ${core} in one step`);
    this.checkCore(handle, v, to, core);
    if (core === CORE_NONE) this.leftEarly(handle, v);
    [v.state, v.core] = [to, core];
    if (!onCore(v)) v.preempt = undefined;
    if (to === VCPU_RUNNING) v.forced = false;
  }

  private checkCore(handle: number, v: Vcpu, to: number, core: number): void {
    const c = core === CORE_NONE ? undefined : this.coreOf(core);
    if (to === VCPU_RUNNING && c?.owner !== handle)
      this.wrong('one owner', `vCPU ${handle} is RUNNING on core ${core}, whose owner is ${c?.owner ?? 0}`);
    if (to === VCPU_CEDING && c && (c.owner !== handle || c.successor === 0))
      this.wrong('park without request', `vCPU ${handle} is CEDING on core ${core}, nobody asked it`);
    // Its core went on without it.
    if ((to === VCPU_BLOCKED || to === VCPU_PARKED) && onCore(v)) {
      const lost = this.coreOf(v.core);
      if (lost.owner === handle && lost.successor === 0) lost.mustIdle = true;
    }
    if (to === VCPU_PARKED && v.state === VCPU_GRANTING && this.coreOf(v.core).owner === handle)
      this.wrong('claim', `vCPU ${handle} is PARKED again and owns core ${v.core}`);
  }

  private core(): void {
    const id = this.number('core');
    const [owner, successor] = [this.number('owner'), this.number('successor')];
    const generation = this.number('generation');
    const why = this.event!.fields.why ?? '';
    const c = this.coreOf(id);
    if (c.generation !== undefined && generation !== (c.generation + 1) % 2 ** 32)
      this.wrong('generation', `core ${id}: from ${c.generation} to ${generation}`);
    switch (true) {
      case owner === 0 && successor === 0 && why.includes('unclaim'):
        this.counts.unclaims = (this.counts.unclaims ?? 0) + 1;
        c.unclaimed = true;
        break;
      case owner === 0 && successor === 0 && why === 'claim':
        if (c.owner !== 0 || c.successor !== 0)
          this.wrong('lease', `core ${id} is claimed while it belongs to vCPU ${c.owner}`);
        break;
      case successor !== 0 && owner === c.owner && c.successor === 0:
        this.requested(id, owner, successor);
        break;
      case successor === HANDLE_IDLE && owner === c.owner && c.successor !== 0:
        // The successor died, or the request was turned into a park.
        if (this.promised(c.successor, id))
          this.wrong('successor', `core ${id}: successor ${c.successor} is passed over, and waits`);
        break;
      case owner !== 0 && successor === 0:
        this.given(id, c, owner);
        break;
      case owner === 0 && successor === 0:
        this.idled(id, c);
        break;
      default:
        this.wrong(
          'core',
          `core ${id}: (${c.owner}, ${c.successor}) to (${owner}, ${successor}) is no step of the protocol`,
        );
    }
    if (c.mustIdle && owner !== c.owner) {
      if (owner !== 0)
        this.wrong(
          'park without request',
          `core ${id} was taken from vCPU ${c.owner}, and given to ${owner}`,
        );
      c.mustIdle = false;
    }
    if (owner !== c.owner || successor === 0) c.forced = false;
    [c.owner, c.successor, c.generation] = [owner, successor, generation];
  }

  /** Whether that vCPU has been claimed for this core. */
  private promised(handle: number, core: number): boolean {
    const v = this.vcpus.get(handle);
    return v?.state === VCPU_GRANTING && v.core === core;
  }

  private requested(id: number, owner: number, successor: number): void {
    if (owner === 0) this.wrong('core', `core ${id}: a request of nobody`);
    if (successor !== HANDLE_IDLE && !this.promised(successor, id))
      this.wrong('claim', `core ${id}: successor ${successor} has not been claimed for it`);
    this.counts.requests = (this.counts.requests ?? 0) + 1;
  }

  private given(id: number, c: Core, owner: number): void {
    this.noLongerOwner(id, c);
    if (!this.promised(owner, id)) {
      const state = stateNames[this.vcpu(owner).state];
      this.wrong('claim', `core ${id} is given to vCPU ${owner}, which is ${state} and not claimed for it`);
    }
    if (c.successor !== 0 && c.successor !== owner)
      this.wrong('successor', `core ${id} was promised to ${c.successor} and given to ${owner}`);
    for (const [other, { owner: has }] of this.cores)
      if (other !== id && has === owner)
        this.wrong('one core', `vCPU ${owner} gets core ${id} and has core ${other}`);
    if (c.unclaimed) this.wrong('lease', `core ${id} is given to vCPU ${owner} without a lease`);
    this.counts.gives = (this.counts.gives ?? 0) + 1;
  }

  private idled(id: number, c: Core): void {
    this.noLongerOwner(id, c);
    if (c.owner === 0) this.wrong('core', `core ${id} falls idle, and was idle`);
    if (c.successor !== 0 && c.successor !== HANDLE_IDLE && this.promised(c.successor, id))
      this.wrong('successor', `core ${id} falls idle, though vCPU ${c.successor} was promised it`);
  }

  private noLongerOwner(id: number, c: Core): void {
    const v = this.vcpus.get(c.owner);
    if (c.owner !== 0 && v && onCore(v) && v.core === id)
      this.wrong('one owner', `core ${id} goes on while vCPU ${c.owner} is ${stateNames[v.state]} on it`);
  }

  private kick(): void {
    const [id, handle] = [this.number('core'), this.number('vcpu')];
    const c = this.coreOf(id);
    if (c.owner !== handle || c.successor === 0)
      this.wrong('kick', `vCPU ${handle} is kicked off core ${id}, which nobody wants of it`);
    this.numbered(handle);
  }

  /** Requests are numbered; a number never goes back. */
  private numbered(handle: number): void {
    const v = this.vcpu(handle);
    const request = this.number('park_req');
    if (v.parkReq !== undefined && ((request - v.parkReq) | 0) < 0)
      this.wrong('number', `vCPU ${handle}: request ${request} after ${v.parkReq}`);
    v.parkReq = request;
  }

  private force(): void {
    const [id, handle] = [this.number('core'), this.number('vcpu')];
    const c = this.coreOf(id);
    if (c.owner !== handle || c.successor === 0)
      this.wrong('force', `vCPU ${handle} is forced off core ${id}, which nobody wants of it`);
    if (c.forced) this.wrong('force', `vCPU ${handle} is forced twice off core ${id} for one request`);
    c.forced = true;
    const v = this.vcpu(handle);
    v.forced = true;
    v.early = undefined;
    this.numbered(handle);
  }

  /** A context that KVM holds. With a core of its own a critical guest goes on, unless it is forced. */
  private held(): void {
    const handle = this.number('vcpu');
    const critical = this.number('critical') !== 0;
    const v = this.vcpu(handle);
    if (v.state === VCPU_PARKED || v.state === VCPU_GRANTING || v.state === VCPU_NEW)
      this.wrong('held', `vCPU ${handle} was in its guest, and is ${stateNames[v.state]}`);
    // The thread may see that it is forced a moment before the trace does; it leaves its core after both.
    if (critical && onCore(v) && !v.forced) v.early = this.event;
  }

  private leftEarly(handle: number, v: Vcpu): void {
    if (v.early === undefined) return;
    this.event = v.early;
    this.wrong('held', `vCPU ${handle} was parked in FluxOS's code, and had not been forced`);
    v.early = undefined;
  }

  /** The owner of a core that nobody wants of it shall interrupt its uThread. */
  private preempt(): void {
    const [id, handle] = [this.number('core'), this.number('vcpu')];
    const [c, v] = [this.coreOf(id), this.vcpu(handle)];
    if (c.owner !== handle || c.successor !== 0)
      this.wrong('preempt', `vCPU ${handle} is preempted on core ${id}: (${c.owner}, ${c.successor})`);
    if (v.state !== VCPU_RUNNING || v.core !== id)
      this.wrong('preempt', `vCPU ${handle} is preempted on core ${id}, and is ${stateNames[v.state]}`);
    v.preempt = this.number('switches');
  }

  /** It is seen once, in the tenure that it was meant for, and never before a request for the core. */
  private preempted(): void {
    const [handle, switches] = [this.number('vcpu'), this.number('switches')];
    const v = this.vcpu(handle);
    if (v.state !== VCPU_RUNNING)
      this.wrong('preempt', `vCPU ${handle} gives way, and is ${stateNames[v.state]}`);
    if (v.preempt !== switches)
      this.wrong(
        'preempt',
        `vCPU ${handle} gives way for ${switches}; what waits is ${v.preempt ?? 'nothing'}`,
      );
    v.preempt = undefined;
    if (this.number('critical') === 0) this.counts.preempted = (this.counts.preempted ?? 0) + 1;
  }

  private lease(): void {
    const epoch = this.number('epoch');
    const begins = /\bbegins$/.test(this.event!.line);
    if (!begins && !/\bends$/.test(this.event!.line))
      this.wrong('format', 'a lease that neither begins nor ends');
    if (begins && this.leased) this.wrong('lease', `lease ${epoch} begins while ${this.epoch} lasts`);
    if (begins && this.epoch !== undefined && epoch === this.epoch)
      this.wrong('lease', `two leases have the epoch ${epoch}`);
    if (!begins && this.leased === false) this.wrong('lease', `lease ${epoch} ends twice`);
    this.leased = begins;
    this.epoch = epoch;
    if (!begins) return;
    for (const [id, core] of this.cores) {
      core.unclaimed = false;
      if (core.owner !== 0)
        this.wrong('lease', `lease ${epoch} begins, and core ${id} still belongs to ${core.owner}`);
    }
  }

  private command(): void {
    const result = this.number('result');
    if (result > 0 || result < -4095) this.wrong('command', `a command's result is ${result}`);
    const key = result === 0 ? 'done' : 'refused';
    this.counts[key] = (this.counts[key] ?? 0) + 1;
  }

  /** That nothing is left to be UNMANAGED or PARKED is no rule; that the run did something is. */
  get busy(): boolean {
    return (this.counts.gives ?? 0) > 0 && (this.counts.requests ?? 0) > 0;
  }

  get unmanaged(): number {
    return [...this.vcpus.values()].filter(({ state }) => state === VCPU_UNMANAGED).length;
  }
}

/**
 * Adopting VMs, on the arbiter's main thread: finds live VMs in the table, takes the
 * lease on each, brings its control page into the arena and hands it to the loop;
 * and buries the ones that die.
 *
 * A VM that cannot be adopted (another ABI, a control page that is none) is left
 * alone, running and unmanaged, and said so once.
 */
import { fstatSync } from 'node:fs';
import { Socket } from 'node:net';
import type { Arena, Releaser } from '../../native/index.ts';
import { closeFd, openAt } from '../../native/index.ts';
import {
  CONTROL_BYTES,
  HOT_BYTES,
  VM_DEAD,
  VM_EMPTY,
  VM_LIVE,
  VM_POISONED,
  VM_STARTING,
} from '../abi/layout.gen.ts';
import type { Bridge } from '../bridge/bridge.ts';
import type { Section } from '../vm/section.ts';
import { announce, changeState, isNobodys, readSection, sections } from '../vm/section.ts';
import { attachFluxion, FluxionError, manageFluxion } from '../vm/fluxion.ts';
import { checkPage } from '../vm/page.ts';
import type { ToLoop } from '../loop/messages.ts';

export interface Log {
  info(fields: object, text: string): void;
  warn(fields: object, text: string): void;
  error(fields: object, text: string): void;
}

export interface AdoptOptions {
  table: Int32Array;
  tableFd: number;
  arena: Arena;
  bridge: Pick<Bridge, 'kind' | 'reap'>;
  releaser: Pick<Releaser, 'add' | 'remove'>;
  epoch: number;
  /** Where a VM's socket is. */
  socketOf(name: string): string;
  send(message: ToLoop): void;
  /** Written for hyperfluxd: the pid of the load that is armed in a slot, 0 none, -1 refused. */
  loads: Int32Array;
  /** The same: generation of the VM that is managed in a slot, 0 none. */
  adopted: Int32Array;
  log: Log;
  /** The lease has ended without the loop having noticed: it had nothing to submit. */
  leaseOver(why: string): void;
  timeoutMs?: number;
}

interface Adopted {
  name: string;
  generation: number;
  socket: Socket;
  page: number;
  /** The load area that the releaser has, as pid:fd; empty: none. */
  load: string;
  /** As it was when the loop was last told to read the VM's configuration. */
  configured: number;
  leaving: boolean;
  /** Since when its vCPUs are seen to be nobody's, by performance.now(); 0: they are ours. */
  strayAt: number;
}

/** A VM whose connection is about to close is nobody's for a moment, too. */
const STRAY_MS = 500;

export class Adopter {
  private readonly o: AdoptOptions;
  private readonly vms = new Map<number, Adopted>();
  /** Generations that were refused, so that each is tried once. */
  private readonly refused = new Map<number, number>();

  constructor(options: AdoptOptions) {
    this.o = options;
  }

  get count(): number {
    return this.vms.size;
  }

  /** Looks at the whole table; called when vms_changed changed, and now and then. */
  scan(): void {
    for (const section of sections(this.o.table)) {
      const vm = this.vms.get(section.slot);
      if (vm !== undefined) this.look(vm, section);
      else if (section.state === VM_LIVE && this.refused.get(section.slot) !== section.generation)
        this.adopt(section);
      else if (section.state === VM_DEAD) this.bury(section.slot);
    }
  }

  private look(vm: Adopted, section: Section): void {
    if (vm.leaving) return;
    if (section.state === VM_DEAD) this.gone(section.slot, 'it ended');
    else {
      this.load(vm, section);
      this.configure(vm, section);
      this.stray(vm, section);
    }
  }

  /** Limits, weights and hints stand in the table: the loop reads them when it is told to. */
  private configure(vm: Adopted, { slot, configured }: Section): void {
    if (configured === vm.configured) return;
    vm.configured = configured;
    this.o.send({ op: 'configure', slot });
  }

  /**
   * kFlux ends the lease by itself if this process was off its core for too long, and its VMs go on under the ordinary
   * scheduler. A loop without commands to submit does not hear of it.
   */
  private stray(vm: Adopted, section: Section): void {
    const ours = this.o.bridge.kind !== 'kflux' || !isNobodys(this.o.table, section);
    if (ours || section.state !== VM_LIVE) vm.strayAt = 0;
    else if (vm.strayAt === 0) vm.strayAt = performance.now();
    else if (performance.now() - vm.strayAt > STRAY_MS)
      this.o.leaseOver(`nobody manages ${vm.name} any more`);
  }

  private adopt(section: Section): void {
    const { slot, name, generation, configured } = section;
    const timeout = this.o.timeoutMs ?? 1000;
    const began = performance.now();
    let attachment;
    try {
      attachment = attachFluxion(this.o.socketOf(name), timeout);
      this.check(section, attachment.page, attachment.table);
      closeFd(attachment.table);
      this.o.arena.attach(slot, attachment.page);
      checkPage(this.o.arena.buffer, slot);
      // The loop looks at the page before the VM is ours, so no grant waits for it afterwards.
      this.o.send({ op: 'attach', slot });
      manageFluxion(attachment.socket, this.o.epoch, timeout);
    } catch (error) {
      if (attachment !== undefined) this.drop(slot, attachment.socket, attachment.page);
      this.refuse(section, error as Error);
      return;
    }
    const socket = new Socket({ fd: attachment.socket });
    const page = attachment.page;
    const vm: Adopted = { name, generation, socket, page, load: '', configured, leaving: false, strayAt: 0 };
    this.vms.set(slot, vm);
    this.o.adopted[slot] = generation;
    const lost = (): void => this.gone(slot, 'its connection closed');
    socket.on('error', lost);
    socket.on('close', lost);
    socket.resume();
    this.o.log.info({ slot, vm: name, ms: Math.round(performance.now() - began) }, 'VM adopted');
    this.load(vm, readSection(this.o.table, slot));
  }

  /** What came over the socket must be this VM's page and this arbiter's table. */
  private check(section: Section, page: number, table: number): void {
    const ours = fstatSync(this.o.tableFd);
    const theirs = fstatSync(table);
    if (ours.ino !== theirs.ino || ours.dev !== theirs.dev) {
      throw new FluxionError(
        'state',
        'the VM belongs to another hand-off table',
        'Stop it and start it again.',
      );
    }
    // Of another minor it may be shorter or longer than ours; the part that the loop maps is the same in all.
    if (fstatSync(page).size < HOT_BYTES) {
      throw new FluxionError(
        'state',
        `its control page has ${fstatSync(page).size} bytes instead of ${CONTROL_BYTES}`,
      );
    }
    if (section.name === '') throw new FluxionError('state', 'it has no name');
  }

  private refuse({ slot, name, generation }: Section, error: Error): void {
    const { code, hint } = error as { code?: string; hint?: string };
    // A VM that is just going is no news; one that cannot be reached yet is tried again with the next change.
    if (code === 'ENOENT' || code === 'ECONNREFUSED') return;
    if (code === 'ETIMEDOUT') {
      this.o.log.warn({ slot, vm: name }, 'VM does not answer; it is tried again');
      return;
    }
    this.refused.set(slot, generation);
    this.o.log.error({ slot, vm: name, code, hint }, `VM stays unmanaged: ${error.message}`);
  }

  private drop(slot: number, socket: number, page: number): void {
    closeFd(socket);
    closeFd(page);
    this.o.send({ op: 'detach', slot });
  }

  /** The VM's process is gone, or says so: its cores go on at once, the rest follows. */
  private gone(slot: number, why: string): void {
    const vm = this.vms.get(slot);
    if (vm === undefined || vm.leaving) return;
    vm.leaving = true;
    this.o.adopted[slot] = 0;
    const cores = this.o.bridge.reap(slot);
    this.o.log.info({ slot, vm: vm.name, cores }, `VM reaped: ${why}`);
    this.unload(vm, slot);
    this.o.send({ op: 'detach', slot });
  }

  /** The loop does not look at the slot any more: the page goes and the slot is free. */
  detached(slot: number): void {
    this.o.arena.detach(slot);
    const vm = this.vms.get(slot);
    if (vm === undefined) return;
    this.vms.delete(slot);
    vm.socket.destroy();
    closeFd(vm.page);
    this.free(slot);
  }

  /** A VM that died while nobody managed it. */
  private bury(slot: number): void {
    this.o.bridge.reap(slot);
    this.free(slot);
  }

  private free(slot: number): void {
    this.refused.delete(slot);
    if (changeState(this.o.table, slot, VM_DEAD, VM_EMPTY)) announce(this.o.table);
  }

  private load(vm: Adopted, { slot, loadPid, loadFd, state }: Section): void {
    const wanted = loadPid === 0 ? '' : `${loadPid}:${loadFd}`;
    if (wanted === vm.load || state === VM_POISONED || state === VM_STARTING) return;
    this.unload(vm, slot);
    if (wanted === '') return;
    try {
      const fd = openAt(null, `/proc/${loadPid}/fd/${loadFd}`);
      try {
        this.o.releaser.add(slot, vm.page, fd);
      } finally {
        closeFd(fd);
      }
      this.o.loads[slot] = loadPid;
      this.o.log.info({ slot, vm: vm.name, pid: loadPid }, 'load armed');
    } catch (error) {
      this.o.loads[slot] = -1;
      this.o.log.error({ slot, vm: vm.name, pid: loadPid }, `load refused: ${(error as Error).message}`);
    }
    // Also a load that was refused: it is not tried again until it changes.
    vm.load = wanted;
    this.tellLoads();
  }

  private unload(vm: Adopted, slot: number): void {
    if (vm.load !== '') this.o.releaser.remove(slot);
    vm.load = '';
    this.o.loads[slot] = 0;
    this.tellLoads();
  }

  private tellLoads(): void {
    let count = 0;
    for (const vm of this.vms.values()) if (vm.load !== '') count++;
    this.o.send({ op: 'loads', count });
  }
}

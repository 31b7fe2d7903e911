/**
 * The life of VMs, as hyperfluxd sees it: takes a slot, starts the process in a
 * session of its own with a log of its own, waits until it is live, stops it. VMs of
 * an earlier daemon are found in the table and by their sockets.
 */
import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, rmSync } from 'node:fs';
import { closeFd, connectUnix, kfluxCreateVm, peerCred } from '../../native/index.ts';
import {
  MAX_VCPUS,
  VM_DEAD,
  VM_EMPTY,
  VM_LIVE,
  VM_POISONED,
  VM_STARTING,
  W_VCPU_TID,
} from '../abi/layout.gen.ts';
import { tableVcpuBase } from '../bridge/words.ts';
import type { Moving } from '../control/bridge.ts';
import type { DaemonConfig } from '../control/config.ts';
import { vmNames, type RunPaths } from '../control/paths.ts';
import type { RunRequest } from '../control/protocol.ts';
import { ControlError } from '../control/protocol.ts';
import type { Shared } from '../control/shared.ts';
import { groupOf, type RuleSet } from '../policy/rules/file.ts';
import { admit, chooseHosted, inUse } from './admission.ts';
import { artifacts, checkImage, needBuilt } from './artifacts.ts';
import type { Cpuset } from './cpuset.ts';
import { askFluxion } from './fluxion.ts';
import type { Pool } from './host.ts';
import { isVmProcess, launch, logSize, logTail, signalVm } from './process.ts';
import type { Section } from './section.ts';
import { announce, changeState, readSection, reconfigure, sections, takeSlot } from './section.ts';

/** What the daemon knows of a VM beside its section. */
export interface Known {
  name: string;
  pid: number;
  /** -1: it has no section, because it is unmanaged. */
  slot: number;
  generation: number;
  backend: string;
  child: ChildProcess | undefined;
  /** How it ended; empty: it runs. */
  exit: string;
  /** Where in its log this life of it begins. */
  logFrom: number;
}

export interface FleetOptions {
  paths: RunPaths;
  config: DaemonConfig;
  pool: Pool;
  shared: Shared;
  moving: Moving;
  cpuset: Cpuset;
  /** Which class a VM belongs to; undefined: the policy has none. */
  rules: RuleSet | undefined;
  /** All cores of the daemon's start, for VMs that nobody manages. */
  allowed: string;
  log: { info(fields: object, text: string): void; warn(fields: object, text: string): void };
}

const POLL_MS = 5;
/** How long the end of a VM of kFlux may take after its process has gone. */
const KFLUX_MS = 5000;
const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export class Fleet {
  readonly known = new Map<string, Known>();
  private readonly o: FleetOptions;

  constructor(options: FleetOptions) {
    this.o = options;
  }

  section(name: string): Section | undefined {
    return sections(this.o.shared.table).find((section) => section.name === name && inUse(section.state));
  }

  /** Names of VMs without a section: those that were started unmanaged, by this daemon or an earlier one. */
  unmanaged(): string[] {
    const managed = new Set(
      sections(this.o.shared.table)
        .filter(({ state }) => inUse(state))
        .map(({ name }) => name),
    );
    return vmNames(this.o.paths).filter((name) => !managed.has(name) && !(this.known.get(name)?.exit ?? ''));
  }

  async run(request: RunRequest): Promise<{ slot: number; pid: number; backend: string; managed: boolean }> {
    const { paths, pool } = this.o;
    const maxCores = admit(request, pool.cores.length, this.o.shared.table);
    const hosted = chooseHosted(request);
    const kflux = this.o.moving.kind === 'kflux' && !request.unmanaged;
    const program = hosted
      ? needBuilt(artifacts.hosted, 'the hosted FluxOS')
      : needBuilt(artifacts.fluxion, 'Fluxion');
    const image = hosted ? '' : checkImage(request.image ?? needBuilt(artifacts.image, 'the guest image'));
    await this.checkName(request.name);

    const slot = request.unmanaged
      ? -1
      : takeSlot(this.o.shared.table, {
          name: request.name,
          vcpus: request.vcpus,
          latencyCritical: request.class === 'lc',
          minCores: request.min_cores,
          maxCores,
          quantumUs: request.quantum_us,
          weight: request.weight,
          sloUs: request.slo_us,
          group: this.groupOf(request),
        });
    if (slot < 0 && !request.unmanaged)
      throw new ControlError('busy', 'all slots of the hand-off table are in use', 'Stop some VMs.');
    const command = launch({
      request,
      hosted,
      program,
      image,
      slot,
      kflux,
      maxCores,
      socket: paths.vmSocket(request.name),
      cpus: this.o.allowed,
    });
    const backend = hosted ? 'hosted' : 'kvm';
    const vmFd = kflux ? await this.kfluxVm(slot, request.vcpus) : null;
    let vm: Known;
    try {
      vm = this.start(request.name, slot, backend, command, vmFd);
    } finally {
      // The process has inherited it. From here on the VM of kFlux lives as long as its process, and no longer.
      if (vmFd !== null) closeFd(vmFd);
    }
    this.o.log.info({ vm: request.name, slot, pid: vm.pid, backend, cores: pool.cores }, 'VM started');
    await this.untilUp(vm, request.unmanaged);
    if (!request.unmanaged) this.confine(slot, request.vcpus);
    return { slot, pid: vm.pid, backend, managed: !request.unmanaged && (await this.untilAdopted(vm)) };
  }

  /** Asks the VM to stop; what does not go by itself is killed. */
  async stop(name: string): Promise<void> {
    const section = this.section(name);
    const vm = this.known.get(name);
    const socket = this.o.paths.vmSocket(name);
    if (section === undefined && (vm === undefined || vm.exit !== '') && !this.unmanaged().includes(name)) {
      throw new ControlError('not-found', `there is no VM called ${name}`, 'hyperflux ps shows the VMs.');
    }
    const pid = section?.pid || vm?.pid || this.pidBySocket(socket);
    try {
      await askFluxion(socket, 'stop', {}, 2000);
    } catch (error) {
      this.o.log.warn({ vm: name, err: (error as Error).message }, 'VM does not obey stop');
      signalVm(pid, name, 15);
    }
    if (!(await this.until(3000, () => !isVmProcess(pid, name)))) signalVm(pid, name, 9);
    if (!(await this.until(3000, () => !isVmProcess(pid, name))))
      throw new ControlError('failed', `the VM ${name} does not end (process ${pid})`);
    if (section !== undefined) {
      this.bury(section.slot, section.generation);
      // Without an arbiter the slot is freed by the next one; the VM is gone all the same.
      await this.until(
        2000,
        () =>
          readSection(this.o.shared.table, section.slot).generation !== section.generation ||
          !this.taken(section.slot),
      );
    }
    this.forget(name);
  }

  /** Its VM of kFlux, made before it is started. An earlier one in this slot may be a moment from its end. */
  private async kfluxVm(slot: number, vcpus: number): Promise<number> {
    const end = performance.now() + KFLUX_MS;
    for (;;) {
      try {
        return kfluxCreateVm(this.o.moving.domainFd!, slot, vcpus);
      } catch (error) {
        if ((error as { code?: string }).code !== 'EEXIST' || performance.now() > end) {
          changeState(this.o.shared.table, slot, VM_STARTING, VM_EMPTY);
          throw error;
        }
      }
      await sleep(POLL_MS);
    }
  }

  private taken(slot: number): boolean {
    return readSection(this.o.shared.table, slot).state !== VM_EMPTY;
  }

  private async checkName(name: string): Promise<void> {
    const used = this.section(name) !== undefined || (await this.answers(name));
    if (used)
      throw new ControlError(
        'name-in-use',
        `there is a VM called ${name} already`,
        `Choose another name, or stop it: hyperflux stop ${name}`,
      );
    // What a crash has left goes; the next VM of this name begins with an empty directory.
    this.clear(name);
    mkdirSync(this.o.paths.vmDirectory(name), { recursive: true, mode: 0o700 });
  }

  private clear(name: string): void {
    rmSync(this.o.paths.vmDirectory(name), { recursive: true, force: true });
  }

  private async answers(name: string): Promise<boolean> {
    try {
      await askFluxion(this.o.paths.vmSocket(name), 'status', {}, 1000);
      return true;
    } catch (error) {
      const { code } = error as { code?: string };
      return code !== 'ENOENT' && code !== 'ECONNREFUSED';
    }
  }

  private start(
    name: string,
    slot: number,
    backend: string,
    { program, args }: { program: string; args: string[] },
    kfluxFd: number | null,
  ): Known {
    const logFrom = logSize(this.o.paths.log(name));
    const log = openSync(this.o.paths.log(name), 'a', 0o600);
    const stdio: ('ignore' | number)[] = ['ignore', log, log];
    if (slot >= 0) stdio.push(this.o.shared.tableFd);
    if (kfluxFd !== null) stdio.push(kfluxFd);
    const child = spawn(program, args, { detached: true, cwd: '/', stdio });
    closeSync(log);
    child.unref();
    const generation = slot < 0 ? 0 : readSection(this.o.shared.table, slot).generation;
    const vm: Known = { name, pid: child.pid ?? 0, slot, generation, backend, child, exit: '', logFrom };
    this.known.set(name, vm);
    const over = (how: string): void => {
      if (vm.exit !== '') return;
      vm.exit = how;
      this.o.log.info({ vm: name, slot, pid: vm.pid }, `VM ended: ${how}`);
      if (slot >= 0) this.bury(slot, generation);
    };
    child.on('error', (error) => over(`it could not be started: ${error.message}`));
    child.on('exit', (code, signal) => over(signal === null ? `exit code ${code}` : `signal ${signal}`));
    return vm;
  }

  /** The process is gone. The arbiter, if it manages the VM, has seen that itself; else the section is marked here. */
  private bury(slot: number, generation: number): void {
    const { table } = this.o.shared;
    if (readSection(table, slot).generation !== generation) return;
    // Never live: nobody but this daemon has touched the slot.
    if (changeState(table, slot, VM_STARTING, VM_EMPTY)) return;
    const died = changeState(table, slot, VM_LIVE, VM_DEAD) || changeState(table, slot, VM_POISONED, VM_DEAD);
    if (died) announce(table);
  }

  private async untilUp(vm: Known, unmanaged: boolean): Promise<void> {
    const log = this.o.paths.log(vm.name);
    // A VM that fails marks its section DEAD before its process has ended.
    const up = async (): Promise<boolean> => (unmanaged ? this.answers(vm.name) : this.isLive(vm));
    const end = performance.now() + this.o.config.start_timeout_ms;
    while (vm.exit === '' && !(await up()) && performance.now() < end) await sleep(POLL_MS);
    if (vm.exit === '' && (await up())) return;
    const what = vm.exit !== '' ? vm.exit : `not up after ${this.o.config.start_timeout_ms} ms`;
    signalVm(vm.pid, vm.name, 9);
    await this.until(2000, () => vm.exit !== '');
    this.forget(vm.name);
    const tail = logTail(log, vm.logFrom);
    throw new ControlError(
      'start-failed',
      `the VM ${vm.name} did not start (${what})${tail === '' ? '' : `; its log ends with:\n${tail}`}`,
      `The whole log: ${log}`,
    );
  }

  private async untilAdopted(vm: Known): Promise<boolean> {
    const { adopted } = this.o.shared.stats;
    await this.until(3000, () => vm.exit !== '' || adopted[vm.slot] === vm.generation);
    return adopted[vm.slot] === vm.generation;
  }

  private isLive({ slot, generation }: Known): boolean {
    const section = readSection(this.o.shared.table, slot);
    return section.generation === generation && (section.state === VM_LIVE || section.state === VM_POISONED);
  }

  private groupOf(vm: { name: string; class: 'lc' | 'be' }): number {
    return this.o.rules === undefined ? 0 : groupOf(this.o.rules, vm);
  }

  /** The VMs of an earlier daemon are sorted by this one's rules. */
  classifyAll(): void {
    const { table } = this.o.shared;
    for (const { slot, name, latencyCritical, group } of sections(table)) {
      const now = this.groupOf({ name, class: latencyCritical ? 'lc' : 'be' });
      if (now !== group) reconfigure(table, slot, { group: now });
    }
  }

  /** The VMs of an earlier daemon go into this one's cpuset. */
  confineAll(): void {
    for (const { slot, state, vcpus } of sections(this.o.shared.table)) {
      if (state === VM_LIVE) this.confine(slot, Math.min(vcpus, MAX_VCPUS));
    }
  }

  /** Only vCPU threads go into the cpuset: Fluxion's own are no guests. */
  private confine(slot: number, vcpus: number): void {
    const tids = Array.from(
      { length: vcpus },
      (_, v) => this.o.shared.table[tableVcpuBase(slot, v) + W_VCPU_TID],
    );
    this.o.cpuset.add(tids.filter((tid) => tid > 0));
  }

  private pidBySocket(socket: string): number {
    try {
      const fd = connectUnix(socket, 500);
      const { pid } = peerCred(fd);
      closeFd(fd);
      return pid;
    } catch {
      return 0;
    }
  }

  private forget(name: string): void {
    this.known.delete(name);
    this.clear(name);
  }

  private async until(timeoutMs: number, condition: () => boolean): Promise<boolean> {
    const end = performance.now() + timeoutMs;
    while (!condition()) {
      if (performance.now() > end) return false;
      await sleep(POLL_MS);
    }
    return true;
  }
}

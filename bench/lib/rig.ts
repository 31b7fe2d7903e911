/**
 * A small world of its own for measurements and fault tests: a hand-off table, a bridge in
 * this process, and VMs that this process attaches to. No daemon and no policy: whoever
 * holds the rig decides, so that every command is sent at a moment that it knows.
 *
 * Rigs of both bridges can stand side by side on the same cores, to be measured in turns: only
 * among kFlux domains is a core one rig's alone. Who has VMs running there is up to the holder.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, openSync, readFileSync, rmSync, closeSync, existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Packr } from 'msgpackr';
import {
  ABI_MAJOR,
  ABI_MINOR,
  HOT_BYTES,
  OFF_VM_DOORBELL,
  TVCPUS_BYTES,
  TVCPUS_OFFSET,
  PROTOCOL,
  SIZE_VCPU,
  TABLE_BYTES,
  VCPUS_OFFSET,
  VCPU_BYTES,
  VMS_OFFSET,
  VM_BYTES,
  VM_LIVE,
  VM_STARTING,
  W_CORE_WORD_LO,
  W_TABLE_LEASE_MS,
  W_VCPU_HELD,
  W_VCPU_TID,
  W_VCPU_WORD,
  W_VM_STATE,
  CORES_OFFSET,
  CORE_BYTES,
} from '../../arbiter/abi/layout.gen.ts';
import { handle, vcpuState } from '../../arbiter/abi/words.ts';
import {
  Arena,
  CMD_CORE,
  CMD_FLAGS,
  CMD_FROM,
  CMD_OP,
  CMD_RESULT,
  CMD_TO,
  CMD_TSC_HI,
  CMD_TSC_LO,
  Clock,
  calibrateTsc,
  chooseStampShift,
  closeFd,
  connectUnix,
  createTable,
  exchangeFrame,
  initTable,
  kfluxCreateVm,
  kfluxJoin,
  mapShared,
  NativeBridge,
  OP_HEIR,
} from '../../native/index.ts';
import { artifacts } from '../../arbiter/vm/artifacts.ts';

/** A VM of kFlux for a slot whose last one may be a moment from its end. */
async function kfluxVm(domainFd: number, slot: number, vcpus: number): Promise<number> {
  for (let tries = 0; ; tries++) {
    try {
      return kfluxCreateVm(domainFd, slot, vcpus);
    } catch (error) {
      if ((error as { code?: string }).code !== 'EEXIST' || tries * POLL_MS > PATIENCE_MS) throw error;
    }
    await sleep(POLL_MS);
  }
}

const packr = new Packr({ useRecords: false });
const ARENA_SLOTS = 64;
const BEAT_MS = 500;
/** How long a VM may take to come up or to answer: in the lab a second can be long. */
const PATIENCE_MS = 60_000;
const POLL_MS = 5;

export interface RigOptions {
  bridge?: 'affinity' | 'kflux';
}

export interface VmSpec {
  name: string;
  cmdline: string;
  vcpus?: number;
  /** Runs under the ordinary scheduler, on these cores. */
  unmanaged?: { cpus: string };
  idleSpinNs?: number;
  memoryMib?: number;
  /** uThread stacks; a quarter of the memory unless given. */
  stacks?: number;
  /** FluxOS as an ordinary process. */
  hosted?: boolean;
}

/** A VM of the rig and where its words are. */
export interface RigVm {
  readonly name: string;
  readonly slot: number;
  readonly vcpus: number;
  readonly pid: number;
  readonly process: ChildProcess;
  /** The connection to its Fluxion, which is the lease if the VM is managed. */
  readonly connection: number;
  readonly controlPage: number;
}

export class Rig {
  readonly table: ArrayBuffer;
  readonly words: Int32Array;
  readonly arena: Arena;
  readonly pages: Int32Array;
  readonly bridge: NativeBridge;
  readonly clock: Clock;
  readonly khz: number;
  readonly #tableFd: number;
  /** The table's kFlux domain; null with the affinity bridge. */
  readonly #domainFd: number | null;
  /** Where sockets and logs are. */
  readonly dir: string;
  /** By slot; null: free. */
  readonly #vms: (RigVm | null)[] = [];
  #epoch = 0;
  /** kFlux ends the lease of whoever does not beat: from a timer, and from commands while those keep the thread busy. */
  readonly #beats: NodeJS.Timeout | null;
  #beatAt = 0;

  constructor(arbiterCore: number, managed: readonly number[], { bridge = 'affinity' }: RigOptions = {}) {
    this.khz = calibrateTsc().khz;
    const shift = chooseStampShift(this.khz);
    this.#tableFd = createTable('hyperflux-bench');
    this.table = mapShared(this.#tableFd, TABLE_BYTES);
    initTable(this.table, this.khz, shift);
    this.words = new Int32Array(this.table);
    this.arena = Arena.reserve(ARENA_SLOTS);
    this.pages = new Int32Array(this.arena.buffer);
    this.bridge = NativeBridge.open(this.table);
    this.#domainFd = bridge === 'kflux' ? kfluxJoin(this.table) : null;
    if (this.#domainFd !== null) this.bridge.useKflux();
    this.clock = new Clock(shift);
    this.dir = mkdtempSync(join(tmpdir(), 'hyperflux-bench-'));
    // Whoever holds the rig may be busy for long with something else.
    this.words[W_TABLE_LEASE_MS] = 60_000;
    this.claim(arbiterCore, managed);
    // kFlux keeps the deadlines itself, and a lease that ends with its heartbeat.
    if (bridge === 'affinity') this.bridge.startDeadlines();
    this.#beats = bridge === 'affinity' ? null : setInterval(() => this.bridge.beat(), BEAT_MS).unref();
  }

  claim(arbiterCore: number, managed: readonly number[]): void {
    this.#epoch = this.bridge.claim(process.pid, arbiterCore, managed);
  }

  /** Starts a VM and attaches to it; managed ones are dormant afterwards. */
  async start(spec: VmSpec): Promise<RigVm> {
    const free = this.#vms.indexOf(null);
    const slot = free < 0 ? this.#vms.length : free;
    if (slot >= ARENA_SLOTS) throw new Error(`a rig has ${ARENA_SLOTS} slots`);
    const state = this.#vmWord(slot, W_VM_STATE);
    Atomics.store(this.words, state, VM_STARTING);
    const socket = join(this.dir, `${spec.name}.sock`);
    const logPath = this.#logPath(spec.name);
    const log = openSync(logPath, 'a');
    const vcpus = spec.vcpus ?? 1;
    const args = [
      ...['--name', spec.name, '--slot', String(slot), '--socket', socket],
      ...(spec.hosted ? [] : ['--image', artifacts.image]),
      ...['--table-fd', '3', '--vcpus', String(vcpus), '--max-cores', String(vcpus)],
      ...['--mem', String(spec.memoryMib ?? 32), '--cmdline', spec.cmdline],
      ...(spec.stacks === undefined ? [] : ['--stacks', String(spec.stacks)]),
      ...(spec.idleSpinNs === undefined ? [] : ['--idle-spin-ns', String(spec.idleSpinNs)]),
      ...(spec.unmanaged ? ['--unmanaged', '--cpus', spec.unmanaged.cpus] : []),
      ...(this.#domainFd === null ? [] : ['--kflux-fd', '4']),
    ];
    const vmFd = this.#domainFd === null ? null : await kfluxVm(this.#domainFd, slot, vcpus);
    const inherited = vmFd === null ? [this.#tableFd] : [this.#tableFd, vmFd];
    const program = spec.hosted ? artifacts.hosted : artifacts.fluxion;
    const process = spawn(program, args, { stdio: ['ignore', log, log, ...inherited] });
    closeSync(log);
    if (vmFd !== null) closeFd(vmFd);
    const failed = (): Error =>
      new Error(`the VM ${spec.name} did not start: ${readFileSync(logPath, 'utf8').trim() || 'no output'}`);
    for (let i = 0; Atomics.load(this.words, state) !== VM_LIVE || !existsSync(socket); i++) {
      if (process.exitCode !== null || i * POLL_MS > PATIENCE_MS) throw failed();
      await sleep(POLL_MS);
    }
    const connection = connectUnix(socket, PATIENCE_MS);
    const say = (op: string, fields: object = {}): number[] => {
      const body = packr.pack({ id: 1, op, ...fields });
      const answer = exchangeFrame(connection, body, PATIENCE_MS);
      const reply = packr.unpack(answer.frame) as { ok: boolean; message?: string };
      if (!reply.ok) throw new Error(`${spec.name} refused ${op}: ${reply.message}`);
      return answer.fds;
    };
    say('hello', { protocol: PROTOCOL, abi_major: ABI_MAJOR, abi_minor: ABI_MINOR });
    const [controlPage, table] = say('attach');
    closeFd(table);
    this.arena.attach(slot, controlPage);
    this.bridge.setPage(slot, this.arena);
    if (!spec.unmanaged) say('manage', { epoch: this.#epoch });
    const vm = { name: spec.name, slot, vcpus, pid: process.pid!, process, connection, controlPage };
    this.#vms[slot] = vm;
    return vm;
  }

  /** One command, stamped with the time of this call. Returns its result word. */
  command(op: number, core: number, from: number, to: number, flags = 0): number {
    const batch = this.bridge.batch;
    this.clock.now();
    batch[CMD_OP] = op;
    batch[CMD_CORE] = core;
    batch[CMD_FROM] = from;
    batch[CMD_TO] = to;
    batch[CMD_FLAGS] = flags;
    batch[CMD_TSC_LO] = this.clock.words[0];
    batch[CMD_TSC_HI] = this.clock.words[1];
    if (this.#beats !== null && (this.clock.words[0] - this.#beatAt) >>> 0 > BEAT_MS * this.khz) {
      this.#beatAt = this.clock.words[0];
      this.bridge.beat();
    }
    this.bridge.submit(1);
    return batch[CMD_RESULT];
  }

  /** Microseconds between two TSC values given by their low words; right up to a second apart. */
  us(from: number, to: number): number {
    return (((to - from) | 0) * 1000) / this.khz;
  }

  handle(vm: RigVm, vcpu = 0): number {
    return handle(vm.slot, vcpu);
  }

  /** Byte offset in the arena of a vCPU's guest line. */
  guestLine(vm: RigVm, vcpu = 0): number {
    return vm.slot * HOT_BYTES + VCPUS_OFFSET + vcpu * VCPU_BYTES;
  }

  /** A word of a vCPU's guest line. */
  guest(vm: RigVm, word: number, vcpu = 0): number {
    return Atomics.load(this.pages, this.guestLine(vm, vcpu) / 4 + word);
  }

  /** A word of a vCPU's block in the hand-off table. */
  vcpu(vm: RigVm, word: number, vcpu = 0): number {
    const block = TVCPUS_OFFSET + vm.slot * TVCPUS_BYTES + vcpu * SIZE_VCPU;
    return Atomics.load(this.words, block / 4 + word);
  }

  /** How a VM's vCPUs stand and what it has written, its reason to end included: for an error's text. */
  describe(vm: RigVm): string {
    const words = (word: number): number[] =>
      Array.from({ length: vm.vcpus }, (_, vcpu) => this.vcpu(vm, word, vcpu));
    const states = words(W_VCPU_WORD).map((word) => `${vcpuState(word)} on ${word >>> 8}`);
    const held = words(W_VCPU_HELD);
    const log = readFileSync(this.#logPath(vm.name), 'utf8').trim() || 'nothing';
    return `${vm.name}: vCPU states ${states.join(', ')}; held ${held.join(', ')}; it wrote: ${log}`;
  }

  #logPath(name: string): string {
    return join(this.dir, `${name}.log`);
  }

  tid(vm: RigVm, vcpu = 0): number {
    return this.vcpu(vm, W_VCPU_TID, vcpu);
  }

  /** The handle of the core's owner; the successor, if any, in the upper half. */
  owner(core: number): number {
    return Atomics.load(this.words, (CORES_OFFSET + core * CORE_BYTES) / 4 + W_CORE_WORD_LO);
  }

  /** Who gets the core if its owner leaves by itself; 0: nobody. */
  setHeir(core: number, heir: number): void {
    const result = this.command(OP_HEIR, core, 0, heir);
    if (result !== 0) throw new Error(`core ${core} cannot have the heir ${heir}: ${result}`);
  }

  /** Byte offset in the table of a VM's doorbell. */
  doorbell(vm: RigVm): number {
    return VMS_OFFSET + vm.slot * VM_BYTES + OFF_VM_DOORBELL;
  }

  vmWord(vm: RigVm, word: number): number {
    return Atomics.load(this.words, this.#vmWord(vm.slot, word));
  }

  #vmWord(slot: number, word: number): number {
    return (VMS_OFFSET + slot * VM_BYTES) / 4 + word;
  }

  /** Ends one VM as a crash would, and forgets it; its cores go on. Returns what reap says. */
  async kill(vm: RigVm): Promise<number> {
    const ended = vm.process.exitCode !== null || vm.process.signalCode !== null;
    const exit = ended ? undefined : new Promise((done) => vm.process.once('exit', done));
    vm.process.kill('SIGKILL');
    vm.process.kill('SIGCONT');
    await exit;
    const cores = this.bridge.reap(vm.slot);
    this.arena.detach(vm.slot);
    closeFd(vm.connection);
    closeFd(vm.controlPage);
    this.#vms[this.#vms.indexOf(vm)] = null;
    return cores;
  }

  /** Ends every VM and leaves nothing behind. */
  async close(): Promise<void> {
    for (const vm of this.#vms) if (vm !== null) await this.kill(vm);
    this.#vms.length = 0;
    closeFd(this.#tableFd);
    if (this.#beats !== null) clearInterval(this.#beats);
    if (this.#domainFd !== null) {
      // The cores are other domains' to claim from now on.
      this.bridge.release();
      closeFd(this.#domainFd);
    }
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/**
 * A bridge without a kernel: the hand-over protocol of abi/handoff.h on a plain
 * table, one thread doing everything. Tests of the loop and of policies run on it,
 * and the contract tests hold it to the same rules as the real bridges. What it
 * cannot have is a race between two processors; that is what loom is for.
 */
import {
  CORE_NONE,
  HANDLE_IDLE,
  HANDLE_NONE,
  MAX_CORES,
  MAX_VCPUS,
  VCPU_CEDING,
  VCPU_DEAD,
  VCPU_GRANTING,
  VCPU_PARKED,
  VCPU_RUNNING,
  VM_DEAD,
  VM_LIVE,
  W_CORE_HEIR,
  W_CORE_SWITCHES,
  W_CORE_WORD_HI,
  W_CORE_WORD_LO,
  W_HOST_VCPU_PARK_GEN,
  W_HOST_VCPU_PREEMPT,
  W_TABLE_ARBITER_CORE,
  W_TABLE_ARBITER_PID,
  W_TABLE_EPOCH,
  W_TABLE_HEARTBEAT,
  W_TABLE_MANAGED,
  W_VCPU_GRANTS,
  W_VCPU_PARK_REQ,
  W_VCPU_PINNED,
  W_VCPU_PREEMPT,
  W_VCPU_WORD,
  W_VM_STATE,
} from '../abi/layout.gen.ts';
import type { Bridge } from './bridge.ts';
import {
  CMD_CORE,
  CMD_FROM,
  CMD_OP,
  CMD_RESULT,
  CMD_TO,
  CMD_WORDS,
  OP_GRANT,
  OP_HEIR,
  OP_MOVE,
  OP_PARK,
  OP_PREEMPT,
  R_AGAIN,
  R_ALREADY,
  R_BUSY,
  R_DEAD,
  R_INVALID,
  R_STALE,
} from './bridge.ts';
import {
  coreBase,
  coreLow,
  hostVcpuBase,
  isHandle,
  makeHandle,
  ownerOf,
  slotOf,
  successorOf,
  tableVcpuBase,
  vcpuOf,
  vcpuState,
  vcpuWord,
  vmBase,
} from './words.ts';

export class SimBridge implements Bridge {
  readonly kind = 'sim';
  readonly batch: Int32Array;
  readonly capacity: number;
  readonly table: Int32Array;
  readonly arena: Int32Array | null;
  private epoch = 0;
  /** Cores whose owner has been asked to leave. */
  private readonly asked = new Set<number>();

  constructor(table: Int32Array, arena: Int32Array | null = null, capacity = 2 * MAX_CORES) {
    this.table = table;
    this.arena = arena;
    this.capacity = capacity;
    this.batch = new Int32Array(capacity * CMD_WORDS);
  }

  claim(pid: number, arbiterCore: number, managed: readonly number[]): number {
    const t = this.table;
    this.epoch = (t[W_TABLE_EPOCH] + 1) | 0 || 1;
    t[W_TABLE_EPOCH] = this.epoch;
    t[W_TABLE_ARBITER_PID] = pid;
    t[W_TABLE_ARBITER_CORE] = arbiterCore;
    t.fill(0, W_TABLE_MANAGED, W_TABLE_MANAGED + 8);
    for (const core of managed) t[W_TABLE_MANAGED + (core >> 5)] |= 1 << (core & 31);
    for (let core = 0; core < MAX_CORES; core++) {
      t[coreBase(core) + W_CORE_HEIR] = HANDLE_NONE;
      this.setCore(core, HANDLE_NONE, 0);
    }
    this.asked.clear();
    this.beat();
    return this.epoch;
  }

  release(): void {
    if (this.table[W_TABLE_EPOCH] !== this.epoch) return;
    this.table[W_TABLE_EPOCH] = (this.epoch + 1) | 0 || 1;
    this.table[W_TABLE_ARBITER_PID] = 0;
    this.epoch = 0;
  }

  submit(count: number): number {
    const stale = this.epoch === 0 || this.table[W_TABLE_EPOCH] !== this.epoch;
    let failed = 0;
    for (let i = 0; i < count; i++) {
      const at = i * CMD_WORDS;
      const result = stale ? R_STALE : this.command(at);
      this.batch[at + CMD_RESULT] = result;
      if (result < 0) failed++;
    }
    return failed;
  }

  poll(): number {
    for (const core of this.asked) {
      if (successorOf(this.table[coreBase(core) + W_CORE_WORD_LO]) === 0) this.asked.delete(core);
    }
    return this.asked.size;
  }

  beat(): void {
    this.table[W_TABLE_HEARTBEAT]++;
  }

  setPage(_slot: number, _mapped: boolean): void {}

  reap(slot: number): number {
    this.table[vmBase(slot) + W_VM_STATE] = VM_DEAD;
    let cores = 0;
    for (let vcpu = 0; vcpu < MAX_VCPUS; vcpu++) {
      const handle = makeHandle(slot, vcpu);
      this.table[this.vcpuAt(handle)] = vcpuWord(VCPU_DEAD, CORE_NONE);
      for (let core = 0; core < MAX_CORES; core++) {
        if (this.evict(core, handle)) cores++;
        const heir = coreBase(core) + W_CORE_HEIR;
        if (this.table[heir] === handle) this.table[heir] = HANDLE_NONE;
      }
    }
    return cores;
  }

  /** leave(f) of the protocol, as f's own thread does it. Returns false if f holds no core. */
  leave(handle: number): boolean {
    const at = this.vcpuAt(handle);
    const word = this.table[at];
    const state = vcpuState(word);
    if (state !== VCPU_RUNNING && state !== VCPU_CEDING) return false;
    const core = (word >>> 8) & 0xffff;
    const next = core < MAX_CORES ? this.passOn(core, handle) : 0;
    this.table[at] = vcpuWord(VCPU_PARKED, CORE_NONE);
    if (next > 0) this.deliver(next, core);
    return true;
  }

  private vcpuAt(handle: number): number {
    return tableVcpuBase(slotOf(handle), vcpuOf(handle)) + W_VCPU_WORD;
  }

  private low(core: number): number {
    return this.table[coreBase(core) + W_CORE_WORD_LO];
  }

  private setCore(core: number, owner: number, successor: number): void {
    const at = coreBase(core);
    if (owner !== 0 && ownerOf(this.table[at]) !== owner) this.table[at + W_CORE_SWITCHES]++;
    this.table[at + W_CORE_WORD_LO] = coreLow(owner, successor);
    this.table[at + W_CORE_WORD_HI]++;
  }

  private command(at: number): number {
    const b = this.batch;
    const core = b[at + CMD_CORE];
    if (core < 0 || core >= MAX_CORES) return R_INVALID;
    if (((this.table[W_TABLE_MANAGED + (core >> 5)] >>> (core & 31)) & 1) === 0) return R_INVALID;
    const from = isHandle(b[at + CMD_FROM]) ? b[at + CMD_FROM] : 0;
    if (b[at + CMD_OP] === OP_PREEMPT) return this.preempt(core, from, b[at + CMD_TO]);
    const to = isHandle(b[at + CMD_TO]) ? b[at + CMD_TO] : 0;
    if (to !== 0 && this.table[vmBase(slotOf(to)) + W_VM_STATE] !== VM_LIVE) return R_DEAD;
    const op = b[at + CMD_OP];
    if (op === OP_GRANT && to !== 0) return this.grant(core, to);
    if (op === OP_PARK && from !== 0) return this.request(core, from, HANDLE_IDLE);
    if (op === OP_MOVE && from !== 0 && to !== 0 && from !== to) return this.request(core, from, to);
    if (op !== OP_HEIR) return R_INVALID;
    this.table[coreBase(core) + W_CORE_HEIR] = to;
    return 0;
  }

  private claimVcpu(handle: number, core: number): boolean {
    const at = this.vcpuAt(handle);
    if (vcpuState(this.table[at]) !== VCPU_PARKED) return false;
    this.table[at] = vcpuWord(VCPU_GRANTING, core);
    return true;
  }

  private unclaim(handle: number): void {
    this.table[this.vcpuAt(handle)] = vcpuWord(VCPU_PARKED, CORE_NONE);
  }

  /** The simulator's guests hear of it here. */
  protected deliver(handle: number, core: number): void {
    const at = tableVcpuBase(slotOf(handle), vcpuOf(handle));
    if (this.table[at + W_VCPU_WORD] !== vcpuWord(VCPU_GRANTING, core)) return;
    this.table[at + W_VCPU_PINNED] = core;
    this.table[at + W_VCPU_GRANTS]++;
    this.table[at + W_VCPU_WORD] = vcpuWord(VCPU_RUNNING, core);
  }

  private grant(core: number, to: number): number {
    if (!this.claimVcpu(to, core)) return R_BUSY;
    if (this.low(core) !== 0) {
      this.unclaim(to);
      return R_AGAIN;
    }
    this.setCore(core, to, 0);
    this.deliver(to, core);
    return 0;
  }

  private request(core: number, from: number, to: number): number {
    const real = to !== HANDLE_IDLE;
    if (real && !this.claimVcpu(to, core)) return R_BUSY;
    const low = this.low(core);
    if (ownerOf(low) === from && successorOf(low) === 0) {
      this.setCore(core, from, to);
      this.ask(from, core);
      return 0;
    }
    if (low === 0) {
      // The owner's yield crossed the command: what was wanted has half happened.
      if (real) {
        this.setCore(core, to, 0);
        this.deliver(to, core);
      }
      return 0;
    }
    if (real) this.unclaim(to);
    return ownerOf(low) === from ? R_ALREADY : R_AGAIN;
  }

  private preempt(core: number, from: number, switches: number): number {
    if (from === 0) return R_INVALID;
    const low = this.low(core);
    if (ownerOf(low) !== from) return R_AGAIN;
    if (successorOf(low) !== 0) return R_ALREADY;
    this.table[tableVcpuBase(slotOf(from), vcpuOf(from)) + W_VCPU_PREEMPT] = switches;
    if (this.arena !== null) {
      this.arena[hostVcpuBase(slotOf(from), vcpuOf(from)) + W_HOST_VCPU_PREEMPT] = switches;
    }
    return 0;
  }

  /** As deliver. */
  protected ask(from: number, core: number): void {
    const at = tableVcpuBase(slotOf(from), vcpuOf(from));
    const request = (this.table[at + W_VCPU_PARK_REQ] + 1) | 0;
    this.table[at + W_VCPU_PARK_REQ] = request;
    if (this.table[at + W_VCPU_WORD] === vcpuWord(VCPU_RUNNING, core)) {
      this.table[at + W_VCPU_WORD] = vcpuWord(VCPU_CEDING, core);
    }
    if (this.arena !== null) {
      this.arena[hostVcpuBase(slotOf(from), vcpuOf(from)) + W_HOST_VCPU_PARK_GEN] = request;
    }
    this.asked.add(core);
  }

  /** Who has the core after `owner`, claimed but not delivered; 0: nobody; -1: it was not the owner's. */
  private passOn(core: number, owner: number): number {
    const low = this.low(core);
    if (ownerOf(low) !== owner) return -1;
    let next = successorOf(low);
    if (next === HANDLE_IDLE) next = HANDLE_NONE;
    else if (next === 0) {
      const heir = this.table[coreBase(core) + W_CORE_HEIR];
      if (isHandle(heir) && heir !== owner && this.claimVcpu(heir, core)) next = heir;
    }
    this.setCore(core, next, 0);
    return next;
  }

  private evict(core: number, dead: number): boolean {
    const low = this.low(core);
    if (ownerOf(low) === dead) {
      const next = this.passOn(core, dead);
      if (next > 0) this.deliver(next, core);
      return true;
    }
    if (successorOf(low) !== dead) return false;
    this.setCore(core, ownerOf(low), HANDLE_IDLE);
    return true;
  }
}

/**
 * FluxOS as a contestant: an unmanaged VM whose guest, `micro`, is told through the request ring what to do and
 * puts its samples where other guests put completions.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import {
  COMPLETIONS_OFFSET,
  CONTROL_BYTES,
  OFF_VM_DOORBELL,
  RING_ENTRIES,
  RING_ENTRIES_OFFSET,
  RING_OFFSET,
  SIZE_COMPLETION,
  SIZE_REQUEST,
  VMS_OFFSET,
  VM_BYTES,
  W_COMPLETION_DONE_HI,
  W_COMPLETION_DONE_LO,
  W_COMPLETION_SEQ_PLUS_1,
  W_COMPLETION_WAIT,
  W_REQUEST_DUE_LO,
  W_REQUEST_FANOUT,
  W_REQUEST_SEQ,
  W_REQUEST_SERVICE_NS,
  W_RING_TAIL,
  W_VM_RING_TAIL,
} from '../../arbiter/abi/layout.gen.ts';
import { futexWake, mapShared } from '../../native/index.ts';
import type { Rig, RigVm, VmSpec } from '../lib/rig.ts';
import { Refusal, type Contestant } from './contestant.ts';
import { hash } from './rows.ts';

const PATIENCE_MS = 120_000;
const POLL_MS = 1;
/** The answer's entry; the samples are below it. */
const ANSWER = RING_ENTRIES - 1;

/** By the answer's number; see guest-libos/apps/src/micro/mod.rs. */
const OUTCOMES = [
  '',
  'FluxOS has no such row yet',
  'the VM has too few stacks',
  'it needs two vCPUs',
  'the guest did not understand the request',
  'the VM has too little memory',
  "the row's own check failed",
];

export class FluxosGuest implements Contestant {
  readonly name: string;
  readonly version: string;
  readonly #rig: Rig;
  readonly #vm: RigVm;
  readonly #page: Int32Array;
  /** Why there will be no more answers. */
  #gone: string | null = null;

  private constructor(name: string, rig: Rig, vm: RigVm) {
    this.name = name;
    this.version = `${vm.vcpus} vCPU${vm.vcpus === 1 ? '' : 's'}`;
    this.#rig = rig;
    this.#vm = vm;
    this.#page = new Int32Array(mapShared(vm.controlPage, CONTROL_BYTES));
  }

  static async start(name: string, rig: Rig, spec: Omit<VmSpec, 'cmdline'>): Promise<FluxosGuest> {
    return new FluxosGuest(name, rig, await rig.start({ ...spec, cmdline: 'micro' }));
  }

  #completion(entry: number, word: number): number {
    return Atomics.load(this.#page, (COMPLETIONS_OFFSET + entry * SIZE_COMPLETION) / 4 + word);
  }

  /** Publishes the one request that there is at a time; its number. */
  #ask(key: string, samples: number, ops: number): number {
    const { words, table } = this.#rig;
    const line = (VMS_OFFSET + this.#vm.slot * VM_BYTES) / 4;
    const doorbell = line + OFF_VM_DOORBELL / 4;
    // The tail lies in the table too; the guest's page is not read back.
    const seq = Atomics.load(words, line + W_VM_RING_TAIL);
    const entry = (RING_ENTRIES_OFFSET + (seq & (RING_ENTRIES - 1)) * SIZE_REQUEST) / 4;
    this.#page[entry + W_REQUEST_SEQ] = seq;
    this.#page[entry + W_REQUEST_SERVICE_NS] = ops;
    this.#page[entry + W_REQUEST_FANOUT] = samples;
    this.#page[entry + W_REQUEST_DUE_LO] = hash(key) | 0;
    Atomics.store(words, line + W_VM_RING_TAIL, (seq + 1) | 0);
    Atomics.store(this.#page, RING_OFFSET / 4 + W_RING_TAIL, (seq + 1) | 0);
    Atomics.add(words, doorbell, 1);
    futexWake(table, doorbell * 4, 1);
    return seq;
  }

  async run(key: string, samples: number, ops: number, expectMs: number): Promise<number[]> {
    if (samples >= ANSWER) throw new RangeError(`a block has at most ${ANSWER - 1} samples`);
    this.#check();
    const seq = this.#ask(key, samples, ops);
    // Nothing tells that it is done; looking takes time on the guest's cores, so not before it is likely.
    if (expectMs > POLL_MS) await sleep(expectMs);
    for (let i = 0; this.#completion(ANSWER, W_COMPLETION_SEQ_PLUS_1) !== ((seq + 1) | 0); i++) {
      this.#check();
      if (i * POLL_MS > PATIENCE_MS) {
        this.#gone = `the guest did not answer; ${this.#rig.describe(this.#vm)}`;
        this.#vm.process.kill('SIGKILL');
      }
      await sleep(POLL_MS);
    }
    const outcome = this.#completion(ANSWER, W_COMPLETION_WAIT);
    if (outcome !== 0) throw new Refusal(OUTCOMES[outcome] ?? `the guest answered ${outcome}`);
    return Array.from({ length: samples }, (_, i) => {
      const low = this.#completion(i, W_COMPLETION_DONE_LO) >>> 0;
      return low + (this.#completion(i, W_COMPLETION_DONE_HI) >>> 0) * 2 ** 32;
    });
  }

  #check(): void {
    const { exitCode, signalCode } = this.#vm.process;
    if (exitCode !== null || signalCode !== null)
      this.#gone ??= `the VM has ended; ${this.#rig.describe(this.#vm)}`;
    if (this.#gone !== null) throw new Refusal(this.#gone);
  }

  kill(): void {
    this.#vm.process.kill('SIGKILL');
  }

  /** The rig ends its VMs. */
  async close(): Promise<void> {}
}

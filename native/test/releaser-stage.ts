// SPDX-License-Identifier: Apache-2.0
// What releaser.test.ts plays on: a load area, a guest's pages, and a guest that does what it is told.
import * as abi from '../../arbiter/abi/layout.gen.ts';
import * as native from '../index.ts';
import { newTable } from './helpers.ts';

export const SLOT = 70;
export const NEVER = 2n ** 62n;

export function tsc(): bigint {
  const out = new Int32Array(2);
  native.tscNow(out);
  return (BigInt(out[1] >>> 0) << 32n) | BigInt(out[0] >>> 0);
}

/** A VM's pages with a guest that does what it is told. */
export class Guest {
  readonly fd = native.createControlPage('guest');
  private readonly page = native.mapShared(this.fd, abi.CONTROL_BYTES);
  private readonly summary: Int32Array;
  private readonly ring = new Int32Array(this.page, abi.RING_OFFSET);
  private readonly requests = new Int32Array(this.page, abi.RING_ENTRIES_OFFSET);
  private readonly completions = new Int32Array(this.page, abi.COMPLETIONS_OFFSET);
  head: number;

  constructor(base = 0) {
    this.summary = new Int32Array(this.page, abi.LINE * (SLOT % abi.SUMMARY_LINES));
    this.head = base;
    this.say(base);
  }

  get tail(): number {
    return Atomics.load(this.ring, abi.W_RING_TAIL) >>> 0;
  }

  /** What the summary line claims. */
  say(head: number): void {
    Atomics.store(this.summary, abi.W_SUMMARY_RING_HEAD, head | 0);
  }

  take(): { seq: number; service: number; fanout: number; due: bigint } {
    const at = (this.head % abi.RING_ENTRIES) * (abi.SIZE_REQUEST / 4);
    const word = (index: number): number => this.requests[at + index] >>> 0;
    this.head = (this.head + 1) >>> 0;
    this.say(this.head);
    return {
      seq: word(abi.W_REQUEST_SEQ),
      service: word(abi.W_REQUEST_SERVICE_NS),
      fanout: word(abi.W_REQUEST_FANOUT),
      due: (BigInt(word(abi.W_REQUEST_DUE_HI)) << 32n) | BigInt(word(abi.W_REQUEST_DUE_LO)),
    };
  }

  complete(seq: number, wait = 0, done = tsc()): void {
    const at = (seq % abi.RING_ENTRIES) * (abi.SIZE_COMPLETION / 4);
    this.completions[at + abi.W_COMPLETION_WAIT] = wait;
    this.completions[at + abi.W_COMPLETION_DONE_LO] = Number(BigInt.asIntN(32, done));
    this.completions[at + abi.W_COMPLETION_DONE_HI] = Number(BigInt.asIntN(32, done >> 32n));
    Atomics.store(this.completions, at + abi.W_COMPLETION_SEQ_PLUS_1, (seq + 1) | 0);
  }
}

export interface Request {
  due: bigint;
  service?: number;
  fanout?: number;
}

/** A load area with its schedule laid down, not armed yet. */
export class Load {
  readonly fd: number;
  readonly words: Int32Array;
  private readonly wide: BigUint64Array;

  constructor(requests: Request[], { grace = NEVER, start = 0n }: { grace?: bigint; start?: bigint } = {}) {
    const bytes = abi.LOAD_ENTRIES_OFFSET + requests.length * abi.LOAD_ENTRY_BYTES;
    this.fd = native.createSealedMemfd('load', Math.ceil(bytes / 4096) * 4096);
    const buffer = native.mapShared(this.fd, bytes);
    this.words = new Int32Array(buffer);
    this.wide = new BigUint64Array(buffer);
    this.words[abi.W_LOAD_MAGIC] = abi.LOAD_MAGIC;
    this.words[abi.W_LOAD_ABI_MAJOR] = abi.ABI_MAJOR;
    this.words[abi.W_LOAD_ENTRIES] = requests.length;
    this.wide[abi.OFF_LOAD_GRACE_TSC / 8] = grace;
    this.wide[abi.OFF_LOAD_START_TSC / 8] = start;
    requests.forEach(({ due, service = 0, fanout = 0 }, index) => {
      this.wide[this.offset(index, abi.OFF_LOAD_ENTRY_DUE) / 8] = due;
      this.words[this.offset(index, abi.OFF_LOAD_ENTRY_SERVICE_NS) / 4] = service;
      this.words[this.offset(index, abi.OFF_LOAD_ENTRY_FANOUT) / 4] = fanout;
    });
  }

  private offset(index: number, field: number): number {
    return abi.LOAD_ENTRIES_OFFSET + index * abi.LOAD_ENTRY_BYTES + field;
  }

  set state(state: number) {
    Atomics.store(this.words, abi.W_LOAD_STATE, state);
  }
  get state(): number {
    return Atomics.load(this.words, abi.W_LOAD_STATE);
  }
  get start(): bigint {
    return this.wide[abi.OFF_LOAD_START_TSC / 8];
  }
  get counts(): number[] {
    return [abi.W_LOAD_RELEASED, abi.W_LOAD_FINISHED, abi.W_LOAD_OVERRUNS].map((word) => this.words[word]);
  }
  entry(index: number): { released: bigint; done: bigint; wait: bigint } {
    const at = (field: number): bigint => this.wide[this.offset(index, field) / 8];
    return {
      released: at(abi.OFF_LOAD_ENTRY_RELEASED),
      done: at(abi.OFF_LOAD_ENTRY_DONE),
      wait: at(abi.OFF_LOAD_ENTRY_WAIT),
    };
  }
}

export function setUp(load: Load, { base = 0 }: { base?: number } = {}) {
  const table = newTable();
  const vm = new Int32Array(table, abi.VMS_OFFSET + SLOT * abi.VM_BYTES);
  vm[abi.W_VM_RING_TAIL] = base | 0;
  const guest = new Guest(base);
  const releaser = native.Releaser.open(table);
  releaser.add(SLOT, guest.fd, load.fd);
  const section = () => ({
    tail: vm[abi.W_VM_RING_TAIL] >>> 0,
    depth: vm[abi.W_VM_RING_DEPTH],
    oldest: vm[abi.W_VM_RING_OLDEST],
    doorbell: vm[abi.W_VM_DOORBELL],
  });
  return { table, vm, guest, releaser, section };
}

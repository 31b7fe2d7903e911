/** The way back: turns from bytes, into a view as the policy saw it. */
import type { View } from '../policy/api.ts';
import {
  HEAD_CORES,
  HEAD_HOT,
  HEAD_NOW,
  HEAD_WORDS,
  MAX_CORES,
  MAX_VMS,
  NO_VM,
  plainView,
} from '../policy/api.ts';
import { AFTER_GAP, ALL, KEYFRAME, SAME_HOT } from './format.ts';

/** What stands at the head of a recording: which arrays its masks mean, and which of them age. */
export interface Names {
  readonly vm: readonly string[];
  readonly core: readonly string[];
  readonly ages: readonly string[];
}

/** The bytes cannot be a turn. `offset` is into the turn. */
export class BadTurn extends Error {
  readonly offset: number;

  constructor(what: string, offset: number) {
    super(what);
    this.offset = offset;
  }
}

/** One decision: who should have each core, why, and who inherits it. */
export interface Decision {
  readonly target: Int32Array;
  readonly why: Int32Array;
  readonly heir: Int32Array;
}

export class TurnReader {
  /** What the policy saw in the turn that was read last; wishes preset as the loop does it. */
  readonly view: View = plainView();
  /** What was decided. */
  readonly decision: Decision = {
    target: new Int32Array(MAX_CORES),
    why: new Int32Array(MAX_CORES),
    heir: new Int32Array(MAX_CORES),
  };
  keyframe = false;
  afterGap = false;
  /** In a keyframe: the policy's own state after the turn. */
  state: Int32Array[] = [];
  /** Stamps since the recording began. */
  elapsed = 0;
  readonly #vm: Int32Array[];
  readonly #core: Int32Array[];
  readonly #vmAges: boolean[];
  readonly #coreAges: boolean[];
  readonly #hotWas = new Int32Array(MAX_VMS);
  #hotsWas = 0;
  readonly #ownerWas = new Int32Array(MAX_CORES).fill(NO_VM);
  /** The turn in which a VM was compared last. */
  readonly #looked = new Int32Array(MAX_VMS);
  #turn = 0;
  #began = false;
  #last = 0;
  #bytes: Uint8Array = new Uint8Array(0);
  #at = 0;

  /** Throws if an array is named that this version does not know. */
  constructor({ vm, core, ages }: Names) {
    const array = (name: string): Int32Array => {
      const found = (this.view as unknown as Record<string, Int32Array | undefined>)[name];
      if (found === undefined) throw new Error(`it has a figure "${name}" that this version does not know`);
      return found;
    };
    this.#vm = vm.map(array);
    this.#core = core.map(array);
    this.#vmAges = vm.map((name) => ages.includes(name));
    this.#coreAges = core.map((name) => ages.includes(name));
    this.#forget();
  }

  /** Reads one turn. Throws BadTurn. */
  read(bytes: Uint8Array): void {
    this.#bytes = bytes;
    this.#at = 1;
    const flags = bytes[0];
    if (bytes.length < 2 || flags > (KEYFRAME | SAME_HOT | AFTER_GAP | ALL))
      throw new BadTurn('no turn begins so', 0);
    this.keyframe = (flags & KEYFRAME) !== 0;
    this.afterGap = (flags & AFTER_GAP) !== 0;
    if (this.keyframe) this.#forget();
    const { head, hot, coreVm, coreHeir, target, why, heir } = this.view;
    const passed = this.#signed();
    head[HEAD_NOW] = (head[HEAD_NOW] + passed) | 0;
    if (this.#began) this.elapsed += (head[HEAD_NOW] - this.#last) | 0;
    this.#began = true;
    this.#last = head[HEAD_NOW];
    const mask = this.#number();
    if (mask >= 2 ** HEAD_WORDS) throw new BadTurn('there are no such words in the head', this.#at);
    for (let i = 1; i < HEAD_WORDS; i++)
      if ((mask & (1 << i)) !== 0) head[i] = (head[i] + this.#signed()) | 0;
    const hots = this.#below(head[HEAD_HOT], MAX_VMS + 1, 'hot VMs');
    const cores = this.#below(head[HEAD_CORES], MAX_CORES + 1, 'cores');
    if ((flags & SAME_HOT) === 0) {
      let slot = 0;
      for (let i = 0; i < hots; i++) hot[i] = slot = this.#below(slot + this.#signed(), MAX_VMS, 'a VM slot');
    }
    const all = (flags & ALL) !== 0;
    for (let k = 0; k < (all ? MAX_CORES : cores); k++) age(this.#core, this.#coreAges, k, passed);
    this.#changes(this.#core, MAX_CORES, 'a core');
    this.#ageVms(all, hots, cores, passed);
    this.#changes(this.#vm, MAX_VMS, 'a VM slot');
    this.#hotWas.set(hot);
    this.#hotsWas = hots;
    this.#ownerWas.fill(NO_VM).set(coreVm.subarray(0, cores));
    for (let k = 0; k < cores; k++) {
      target[k] = coreVm[k];
      why[k] = 0;
      heir[k] = -1;
    }
    this.decision.target.set(target);
    this.decision.why.fill(0);
    this.decision.heir.set(coreHeir);
    this.#wishes(cores);
    if (this.keyframe) this.#readState();
    if (this.#at !== bytes.length) throw new BadTurn('it is longer than its turn', this.#at);
  }

  #forget(): void {
    for (const array of [...this.#vm, ...this.#core]) array.fill(0);
    this.view.head.fill(0);
    this.view.hot.fill(0);
    this.#hotWas.fill(0);
    this.#hotsWas = 0;
    this.#ownerWas.fill(NO_VM);
  }

  /** Whoever the recorder has compared in this turn. */
  #ageVms(all: boolean, hots: number, cores: number, passed: number): void {
    this.#turn++;
    const look = (slot: number): void => {
      if (slot < 0 || slot >= MAX_VMS || this.#looked[slot] === this.#turn) return;
      this.#looked[slot] = this.#turn;
      age(this.#vm, this.#vmAges, slot, passed);
    };
    if (all) for (let slot = 0; slot < MAX_VMS; slot++) look(slot);
    for (let i = 0; i < hots; i++) look(this.view.hot[i]);
    for (let i = 0; i < this.#hotsWas; i++) look(this.#hotWas[i]);
    for (let k = 0; k < cores; k++) {
      look(this.view.coreVm[k]);
      look(this.#ownerWas[k]);
    }
  }

  #changes(arrays: readonly Int32Array[], most: number, what: string): void {
    let i = 0;
    for (let left = this.#number(); left > 0; left--) {
      i = this.#below(i + this.#signed(), most, what);
      const mask = this.#number();
      if (mask >= 2 ** arrays.length) throw new BadTurn('there are no such figures', this.#at);
      for (let f = 0; f < arrays.length; f++)
        if (((mask >>> f) & 1) !== 0) arrays[f][i] = (arrays[f][i] + this.#signed()) | 0;
    }
  }

  #wishes(cores: number): void {
    const { target, why, heir } = this.decision;
    let k = 0;
    for (let left = this.#number(); left > 0; left--) {
      k = this.#below(k + this.#signed(), cores, 'a core');
      target[k] = (target[k] + this.#signed()) | 0;
      why[k] = this.#number() | 0;
    }
    k = 0;
    for (let left = this.#number(); left > 0; left--) {
      k = this.#below(k + this.#signed(), cores, 'a core');
      heir[k] = (heir[k] + this.#signed()) | 0;
    }
  }

  #readState(): void {
    this.state = [];
    for (let arrays = this.#below(this.#number(), 64, 'states'); arrays > 0; arrays--) {
      const array = new Int32Array(this.#below(this.#number(), 1 << 20, 'words of state'));
      let i = 0;
      for (let left = this.#number(); left > 0; left--) {
        i = this.#below(i + this.#signed(), array.length, 'a word of state');
        array[i] = this.#signed();
      }
      this.state.push(array);
    }
  }

  #below(value: number, end: number, what: string): number {
    if (value < 0 || value >= end) throw new BadTurn(`${value} is not ${what}`, this.#at);
    return value;
  }

  #number(): number {
    let value = 0;
    for (let shift = 0; shift < 35; shift += 7) {
      if (this.#at >= this.#bytes.length) throw new BadTurn('it ends within a number', this.#at);
      const byte = this.#bytes[this.#at++];
      value |= (byte & 127) << shift;
      if (byte < 128) return value >>> 0;
    }
    throw new BadTurn('a number is too long', this.#at);
  }

  #signed(): number {
    const value = this.#number();
    return (value >>> 1) ^ -(value & 1);
  }
}

function age(arrays: readonly Int32Array[], ages: readonly boolean[], i: number, passed: number): void {
  for (let f = 0; f < arrays.length; f++)
    if (ages[f] && arrays[f][i] !== 0) arrays[f][i] = (arrays[f][i] + passed) | 0;
}

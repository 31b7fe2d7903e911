/**
 * The loop's part: writes a turn's view and decision into a ring in shared memory. It
 * allocates nothing. While nobody records it costs one load and one branch a decision.
 *
 * Not everything is compared in each turn. A VM's figures change only if it is hot, or
 * was, or if a core came to it or left it; when VMs come, go or are configured the
 * loop is nudged, and then everything is compared.
 */
import type { Decider, View } from '../policy/api.ts';
import { HEAD_CORES, HEAD_HOT, HEAD_NOW, HEAD_WORDS, MAX_CORES, MAX_VMS, NO_VM } from '../policy/api.ts';
import type { Field, Recording } from './format.ts';
import {
  AFTER_GAP,
  ALL,
  fieldsOf,
  KEYFRAME,
  R_BYTES,
  R_DROPPED,
  R_GENERATION,
  R_HEAD,
  R_TAIL,
  R_UNTIL,
  SAME_HOT,
  turnBytes,
} from './format.ts';

/** Every so many turns all of the view is compared, so that what should not have changed is found. */
const COMPARE_ALL = 1 << 14;

/** Returns the function that writes the turn that has just been decided. `all`: not 0, compare everything. */
export function makeRecorder(
  { words, ring }: Recording,
  view: View,
  decider: Decider,
): (all: number) => void {
  const { head, hot, coreVm, coreHeir, target, why, heir } = view;
  const vmFields = fieldsOf(view, 'vm');
  const coreFields = fieldsOf(view, 'core');
  const arraysOf = (fields: readonly Field[]): Int32Array[] =>
    fields.map(({ name }) => view[name as keyof View]);
  const copiesOf = (fields: readonly Field[], length: number): Int32Array[] =>
    fields.map(() => new Int32Array(length));
  const vmNow = arraysOf(vmFields);
  const vmWas = copiesOf(vmFields, MAX_VMS);
  const vmAges = Int32Array.from(vmFields, ({ ages }) => (ages ? -1 : 0));
  const coreNow = arraysOf(coreFields);
  const coreWas = copiesOf(coreFields, MAX_CORES);
  const coreAges = Int32Array.from(coreFields, ({ ages }) => (ages ? -1 : 0));
  const headWas = new Int32Array(Math.max(HEAD_WORDS, 32));
  const hotWas = new Int32Array(MAX_VMS);
  const ownerWas = new Int32Array(MAX_CORES).fill(NO_VM);
  /** The turn in which the VM was looked at last. */
  const looked = new Int32Array(MAX_VMS);
  const differences = new Int32Array(32);
  const state = decider.state ?? [];
  const stateWords = state.reduce((sum, array) => sum + array.length, 0);
  const out = new Uint8Array(turnBytes(vmFields.length, coreFields.length, stateWords));
  let at = 0;
  let turn = 0;
  let generation = 0;
  let gap = 0;
  let elapsed = 0;
  let changes = 0;
  let previous = 0;

  function put(value: number): void {
    let rest = value >>> 0;
    while (rest > 127) {
      out[at++] = (rest & 127) | 128;
      rest >>>= 7;
    }
    out[at++] = rest;
  }

  function putSigned(value: number): void {
    put((value << 1) ^ (value >> 31));
  }

  /** One VM or core, if anything of it is not as expected. */
  function compare(
    i: number,
    now: readonly Int32Array[],
    was: readonly Int32Array[],
    ages: Int32Array,
  ): void {
    let mask = 0;
    for (let f = 0; f < now.length; f++) {
      const before = was[f][i];
      const value = now[f][i];
      const expected = before === 0 ? 0 : (before + (elapsed & ages[f])) | 0;
      differences[f] = (value - expected) | 0;
      if (value !== expected) mask |= 1 << f;
      was[f][i] = value;
    }
    if (mask === 0) return;
    changes++;
    putSigned(i - previous);
    previous = i;
    put(mask);
    for (let f = 0; f < now.length; f++) if (((mask >>> f) & 1) !== 0) putSigned(differences[f]);
  }

  function look(slot: number): void {
    if (slot === NO_VM || looked[slot] === turn) return;
    looked[slot] = turn;
    compare(slot, vmNow, vmWas, vmAges);
  }

  /** A count that is known later: it takes three bytes. */
  function fill(place: number, count: number): void {
    out[place] = (count & 127) | 128;
    out[place + 1] = ((count >>> 7) & 127) | 128;
    out[place + 2] = (count >>> 14) & 127;
  }

  /** A mask of the head words that have changed, the time apart. */
  function headChanges(): number {
    let mask = 0;
    for (let i = 1; i < HEAD_WORDS; i++) if (head[i] !== headWas[i]) mask |= 1 << i;
    return mask;
  }

  /** Returns whether the hot VMs are those of the turn before. */
  function putHead(mask: number, hots: number): boolean {
    put(mask);
    for (let i = 1; i < HEAD_WORDS; i++) if (((mask >>> i) & 1) !== 0) putSigned((head[i] - headWas[i]) | 0);
    let same = (mask & (1 << HEAD_HOT)) === 0;
    for (let i = 0; same && i < hots; i++) same = hot[i] === hotWas[i];
    return same;
  }

  function putHot(hots: number): void {
    let last = 0;
    for (let i = 0; i < hots; i++) {
      putSigned(hot[i] - last);
      last = hot[i];
    }
  }

  function putVms(hots: number, hotsWas: number, cores: number, all: number): void {
    const place = at;
    at += 3;
    changes = 0;
    previous = 0;
    if (all !== 0) for (let slot = 0; slot < MAX_VMS; slot++) look(slot);
    else {
      for (let i = 0; i < hots; i++) look(hot[i]);
      for (let i = 0; i < hotsWas; i++) look(hotWas[i]);
      for (let k = 0; k < cores; k++) {
        look(coreVm[k]);
        look(ownerWas[k]);
      }
    }
    fill(place, changes);
  }

  function putCores(cores: number, all: number): void {
    const place = at;
    at += 3;
    changes = 0;
    previous = 0;
    const most = all !== 0 ? MAX_CORES : cores;
    for (let k = 0; k < most; k++) compare(k, coreNow, coreWas, coreAges);
    fill(place, changes);
  }

  function putWishes(cores: number): void {
    const place = at;
    at += 3;
    let count = 0;
    let last = 0;
    for (let k = 0; k < cores; k++) {
      if (target[k] === coreVm[k] && why[k] === 0) continue;
      count++;
      putSigned(k - last);
      last = k;
      putSigned((target[k] - coreVm[k]) | 0);
      put(why[k]);
    }
    fill(place, count);
  }

  function putHeirs(cores: number): void {
    const place = at;
    at += 3;
    let count = 0;
    let last = 0;
    for (let k = 0; k < cores; k++) {
      if (heir[k] === coreHeir[k]) continue;
      count++;
      putSigned(k - last);
      last = k;
      putSigned((heir[k] - coreHeir[k]) | 0);
    }
    fill(place, count);
  }

  function putState(): void {
    put(state.length);
    for (let s = 0; s < state.length; s++) {
      const array = state[s];
      put(array.length);
      const place = at;
      at += 3;
      let count = 0;
      let last = 0;
      for (let i = 0; i < array.length; i++) {
        if (array[i] === 0) continue;
        count++;
        putSigned(i - last);
        last = i;
        putSigned(array[i]);
      }
      fill(place, count);
    }
  }

  function forget(): void {
    for (let f = 0; f < vmWas.length; f++) vmWas[f].fill(0);
    for (let f = 0; f < coreWas.length; f++) coreWas[f].fill(0);
    headWas.fill(0);
    hotWas.fill(0);
    ownerWas.fill(NO_VM);
  }

  /** Appends the turn to the ring, its length first. */
  function publish(): void {
    const bytes = at;
    const from = words[R_HEAD];
    const room = R_BYTES - ((from - words[R_TAIL]) >>> 0);
    if (bytes + 3 > room) {
      words[R_DROPPED]++;
      gap = 1;
      return;
    }
    gap = 0;
    ring[from & (R_BYTES - 1)] = (bytes & 127) | 128;
    ring[(from + 1) & (R_BYTES - 1)] = ((bytes >>> 7) & 127) | 128;
    ring[(from + 2) & (R_BYTES - 1)] = (bytes >>> 14) & 127;
    for (let i = 0; i < bytes; i++) ring[(from + 3 + i) & (R_BYTES - 1)] = out[i];
    // Pairs with the load of who records: whoever sees the new head sees the bytes below it.
    Atomics.store(words, R_HEAD, (from + 3 + bytes) | 0);
  }

  return function record(nudged: number): void {
    const now = head[HEAD_NOW];
    if (((words[R_UNTIL] - now) | 0) < 0) {
      // Whoever recorded has not said for a while that it still does.
      words[R_UNTIL] = 0;
      return;
    }
    const key = generation !== words[R_GENERATION] || gap !== 0 ? 1 : 0;
    if (key !== 0) {
      generation = words[R_GENERATION];
      forget();
    }
    turn = (turn + 1) | 0;
    const mask = headChanges();
    // Other words of the head tell of other changes than that VMs have become hot.
    const others = mask & ~(1 << HEAD_HOT);
    const all = key | nudged | others | ((turn & (COMPARE_ALL - 1)) === 0 ? 1 : 0);
    const hots = head[HEAD_HOT];
    const hotsWas = headWas[HEAD_HOT];
    const cores = head[HEAD_CORES];
    elapsed = (now - headWas[HEAD_NOW]) | 0;
    at = 1;
    putSigned(elapsed);
    const same = putHead(mask, hots);
    if (!same) putHot(hots);
    putCores(cores, all);
    putVms(hots, hotsWas, cores, all);
    putWishes(cores);
    putHeirs(cores);
    if (key !== 0) putState();
    out[0] =
      (key !== 0 ? KEYFRAME : 0) |
      (same ? SAME_HOT : 0) |
      (gap !== 0 ? AFTER_GAP : 0) |
      (all !== 0 ? ALL : 0);
    for (let i = 0; i < HEAD_WORDS; i++) headWas[i] = head[i];
    for (let i = 0; i < hots; i++) hotWas[i] = hot[i];
    for (let k = 0; k < cores; k++) ownerWas[k] = coreVm[k];
    publish();
  };
}

/**
 * Who gets a core if its owner leaves before the arbiter looks again.
 *
 * Heirs make a voluntary yield free of the arbiter: the leaving thread hands the
 * core straight on. So they are kept up to date while nothing happens, and changed
 * as seldom as possible: each change is a command.
 */
import type { Figures, Wishes } from '../api.ts';
import { CLASS_LC, HEAD_CORES, HEAD_HOT, NO_VM, smallArray, VM_FORCED_HELD } from '../api.ts';

/** Candidates that are told apart; with more, the rest wait for the next turn. */
const CANDIDATES = 4;

/** `have`: cores of each VM as this turn's decisions would have it. */
export function makeHeirs(view: Figures, out: Wishes, have: Int32Array): () => void {
  const { head, hot, vmClass, vmMin, vmMax, vmWants, vmDelay, vmAway, vmFlags, coreHeir } = view;
  const { target, heir } = out;
  const slot = smallArray(CANDIDATES);
  const right = smallArray(CANDIDATES);
  const room = smallArray(CANDIDATES);
  const count = smallArray(1);

  /** Class first, then the guarantee, then who has nothing at all. */
  function heirRight(vm: number): number {
    return (vmClass[vm] === CLASS_LC ? 4 : 0) + (have[vm] < vmMin[vm] ? 2 : 0) + (have[vm] === 0 ? 1 : 0);
  }

  /** As in delay.ts. */
  function urgency(vm: number): number {
    return have[vm] === 0 ? vmAway[vm] : vmDelay[vm];
  }

  function before(vm: number, r: number, i: number): boolean {
    if (r !== right[i]) return r > right[i];
    return urgency(vm) > urgency(slot[i]);
  }

  /** Keeps the best few, in order. */
  function insert(vm: number): void {
    const r = heirRight(vm);
    let i = count[0];
    if (i === CANDIDATES) {
      if (!before(vm, r, CANDIDATES - 1)) return;
      i = CANDIDATES - 1;
    } else {
      count[0]++;
    }
    while (i > 0 && before(vm, r, i - 1)) {
      slot[i] = slot[i - 1];
      right[i] = right[i - 1];
      room[i] = room[i - 1];
      i--;
    }
    slot[i] = vm;
    right[i] = r;
    room[i] = (vmWants[vm] < vmMax[vm] ? vmWants[vm] : vmMax[vm]) - have[vm];
  }

  /** The heir of core k, of the first `candidates`. */
  function heirFor(k: number, candidates: number): number {
    const owner = target[k];
    const present = coreHeir[k];
    let fallback = NO_VM;
    let first = -1;
    for (let i = 0; i < candidates; i++) {
      const vm = slot[i];
      // A VM that yields has nothing that its other vCPUs could run, unless one of them is stuck in a forced park.
      if (vm === owner && (vmFlags[vm] & VM_FORCED_HELD) === 0) continue;
      if (room[i] > 0) {
        // The present heir stays if nobody has a better right: no command is the best command.
        if (vm === present && right[i] === right[0]) {
          room[i]--;
          return vm;
        }
        if (first < 0) first = i;
      } else if (fallback === NO_VM) fallback = vm;
    }
    // More cores than wanted: the first one to fall free serves, the claim on the vCPU decides.
    if (first < 0) return fallback;
    room[first]--;
    return slot[first];
  }

  return function chooseHeirs(): void {
    const hots = head[HEAD_HOT];
    const cores = head[HEAD_CORES];
    count[0] = 0;
    for (let i = 0; i < hots; i++) {
      const vm = hot[i];
      const held = have[vm];
      if (vmWants[vm] > held && held < vmMax[vm]) insert(vm);
    }
    const candidates = count[0];
    if (candidates === 0) {
      for (let k = 0; k < cores; k++) heir[k] = NO_VM;
      return;
    }
    for (let k = 0; k < cores; k++) heir[k] = heirFor(k, candidates);
  };
}

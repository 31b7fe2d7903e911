/**
 * Announced need. hyperfluxd writes it into the host-only table as a time of the
 * counter, which does not wrap; here it becomes a stamp, and is forgotten when it is
 * over, so that nobody takes an old one for one of the future.
 */
import { W_VM_HINT_CORES, W_VM_HINT_UNTIL_TSC_HI, W_VM_HINT_UNTIL_TSC_LO } from '../abi/layout.gen.ts';
import { vmBase } from '../bridge/words.ts';
import { AGE_MAX, HEAD_CHANGES, HEAD_NOW } from '../policy/api.ts';
import type { LoopMemory, LoopState } from './state.ts';
import { N_ACTIVE, N_HINTS, N_NUDGE } from './state.ts';

const wide = (low: number, high: number): number => (low >>> 0) + (high >>> 0) * 2 ** 32;

export function dropHint(s: LoopState, slot: number): void {
  if (s.view.vmHint[slot] !== 0) s.n[N_HINTS]--;
  s.view.vmHint[slot] = 0;
  s.view.vmHintUntil[slot] = 0;
}

/** Reads what is announced for the VM, if that is not over. */
export function takeHint(mem: LoopMemory, s: LoopState, slot: number): void {
  const { table, clock } = mem;
  const at = vmBase(slot);
  const cores = table[at + W_VM_HINT_CORES] >>> 0;
  dropHint(s, slot);
  if (cores === 0) return;
  clock.now();
  const now = wide(clock.words[0], clock.words[1]);
  const left =
    (wide(table[at + W_VM_HINT_UNTIL_TSC_LO], table[at + W_VM_HINT_UNTIL_TSC_HI]) - now) /
    2 ** mem.stampShift;
  if (left < 1) return;
  s.view.vmHint[slot] = Math.min(cores, s.view.vmMax[slot]);
  s.view.vmHintUntil[slot] =
    ((Math.floor(now / 2 ** mem.stampShift) % 2 ** 32) | 0) + Math.min(left, AGE_MAX);
  s.n[N_HINTS]++;
}

/** Once in a chunk, while anything is announced: what is over is taken back, and the policy asked. */
export function expireHints(s: LoopState): void {
  const { head, vmHint, vmHintUntil } = s.view;
  for (let i = 0; i < s.n[N_ACTIVE]; i++) {
    const slot = s.dSlot[i];
    if (vmHint[slot] === 0 || ((vmHintUntil[slot] - head[HEAD_NOW]) | 0) > 0) continue;
    dropHint(s, slot);
    head[HEAD_CHANGES]++;
    s.n[N_NUDGE] = 1;
  }
}

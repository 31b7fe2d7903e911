/**
 * Time slices: a uThread that has run for its VM's quantum without a switch, while
 * others have waited for as long, is made to give way. Who waits is in the vCPU's
 * own queue, or is a request in the VM's ring or a timer of it, which its scheduler
 * looks for as well: for the rest of the VM there is stealing.
 *
 * The guest's count of switches names the uThread. As long as it stands still
 * the same one runs, and the command carries it, so that one that has left by
 * itself meanwhile is not what is meant. Nothing tells whether a command arrived but
 * that the count moves. One that was lost, because the kick found the guest in
 * FluxOS's own code just when that had looked, is said again, after twice the time
 * each time up to a limit: a guest that never gives way costs a kick now and then.
 */
import {
  W_GUEST_VCPU_OLDEST,
  W_GUEST_VCPU_RUNQ_LEN,
  W_GUEST_VCPU_STATE,
  W_GUEST_VCPU_SWITCHES,
  W_VM_RING_DEPTH,
  W_VM_RING_OLDEST,
} from '../abi/layout.gen.ts';
import {
  CMD_CORE,
  CMD_FLAGS,
  CMD_FROM,
  CMD_OP,
  CMD_RESULT,
  CMD_SHIFT,
  CMD_TO,
  CMD_TSC_HI,
  CMD_TSC_LO,
  OP_PREEMPT,
  R_AGAIN,
  R_ALREADY,
  R_OFFLINE,
  R_STALE,
} from '../bridge/bridge.ts';
import { ownerOf, vmBase } from '../bridge/words.ts';
import { smallArray } from '../policy/api.ts';
import type { LoopMemory, LoopState } from './state.ts';
import { N_CORES, N_STALE } from './state.ts';
import { counter } from './stats.ts';

const C_COMMANDS = counter('commands');
const C_PREEMPTS = counter('preempts');
const C_FAILED = counter('failed');
const C_OWNER_CHANGED = counter('owner_changed');
const C_IN_FLIGHT = counter('in_flight');
const C_INVALID = counter('invalid');
const C_OFFLINE = counter('offline');

/** What was lost is said again after 1, 2, 4 ... so many quanta, and then every time after the last. */
const DOUBLINGS = 6;

// Words of a guest's line, counted from its state, which is where LoopState.coreGuest points.
const SWITCHES = W_GUEST_VCPU_SWITCHES - W_GUEST_VCPU_STATE;
const RUNQ_LEN = W_GUEST_VCPU_RUNQ_LEN - W_GUEST_VCPU_STATE;
const OLDEST = W_GUEST_VCPU_OLDEST - W_GUEST_VCPU_STATE;

export interface Slices {
  /** Looks at every core whose VM has a quantum. `now`: a stamp. */
  readonly scan: (now: number) => void;
  /** Takes in the results of the batch's first `count` commands. */
  readonly settle: (count: number) => void;
}

export function makeSlices(mem: LoopMemory, s: LoopState): Slices {
  const { n, coreId, coreLow, coreGuest, coreOwner, vmQuantum, vmHasTimer, vmTimer } = s;
  const { arena, table, bridge } = mem;
  const { batch } = bridge;
  const counters = mem.stats.counters;
  const tsc = mem.clock.words;
  // By core index: the guest's line that was last seen there, and the uThread by its number.
  const seenGuest = smallArray(coreGuest.length).fill(-1);
  const seenSwitches = smallArray(coreGuest.length);
  /** The stamp at which it has had its time, or is to be told again; and how often it was told. */
  const dueAt = smallArray(coreGuest.length);
  const told = smallArray(coreGuest.length);
  /** Not 0: that stamp has come, however long ago. Stamps wrap, and a uThread may run for minutes. */
  const due = smallArray(coreGuest.length);

  /** Whether a stamp is at least a quantum old; one that is too old to tell is. */
  function waits(stamp: number, quantum: number, now: number): boolean {
    const age = (now - stamp) | 0;
    // A guest's clock may be ahead by the time that a store takes: no wait is as short as that, and negative.
    return age >= quantum || age < -quantum;
  }

  function someoneWaits(guest: number, slot: number, quantum: number, now: number): boolean {
    if (arena[(guest + RUNQ_LEN) | 0] !== 0 && waits(arena[(guest + OLDEST) | 0], quantum, now)) return true;
    const vm = vmBase(slot);
    if (table[(vm + W_VM_RING_DEPTH) | 0] !== 0) {
      if (waits(table[(vm + W_VM_RING_OLDEST) | 0], quantum, now)) return true;
    }
    return vmHasTimer[slot] !== 0 && ((now - vmTimer[slot]) | 0) >= quantum;
  }

  function put(i: number, k: number, switches: number): void {
    const at = i << CMD_SHIFT;
    batch[at | CMD_OP] = OP_PREEMPT;
    batch[at | CMD_CORE] = coreId[k];
    batch[at | CMD_FROM] = ownerOf(coreLow[k]);
    batch[at | CMD_TO] = switches;
    batch[at | CMD_FLAGS] = 0;
    batch[at | CMD_TSC_LO] = tsc[0];
    batch[at | CMD_TSC_HI] = tsc[1];
  }

  /** Core k, on which a vCPU of a VM with a quantum is. Returns whether its uThread is to give way now. */
  function isOver(k: number, guest: number, quantum: number, now: number): boolean {
    const switches = arena[(guest + SWITCHES) | 0];
    if (guest !== seenGuest[k] || switches !== seenSwitches[k]) {
      seenGuest[k] = guest;
      seenSwitches[k] = switches;
      dueAt[k] = (now + quantum) | 0;
      due[k] = 0;
      told[k] = 0;
      return false;
    }
    if (due[k] === 0) {
      if (((now - dueAt[k]) | 0) < 0) return false;
      due[k] = 1;
    }
    if (!someoneWaits(guest, coreOwner[k], quantum, now)) return false;
    dueAt[k] = (now + (quantum << told[k])) | 0;
    due[k] = 0;
    if (told[k] < DOUBLINGS) told[k]++;
    return true;
  }

  function settle(count: number): void {
    for (let i = 0; i < count; i++) {
      const result = batch[(i << CMD_SHIFT) | CMD_RESULT];
      if (result === 0) {
        counters[C_PREEMPTS]++;
        continue;
      }
      counters[C_FAILED]++;
      // The core has been left, or is being, since it was looked at: so the uThread has given way.
      if (result === R_AGAIN) counters[C_OWNER_CHANGED]++;
      else if (result === R_ALREADY) counters[C_IN_FLIGHT]++;
      else if (result === R_OFFLINE) counters[C_OFFLINE]++;
      else if (result === R_STALE) n[N_STALE] = 1;
      else counters[C_INVALID]++;
    }
  }

  function scan(now: number): void {
    const cores = n[N_CORES];
    let count = 0;
    for (let k = 0; k < cores; k++) {
      const guest = coreGuest[k];
      const quantum = guest < 0 ? 0 : vmQuantum[coreOwner[k]];
      if (quantum === 0) {
        // Whoever comes back to this core has a whole slice before it.
        seenGuest[k] = -1;
        continue;
      }
      if (isOver(k, guest, quantum, now)) put(count++, k, seenSwitches[k]);
    }
    if (count === 0) return;
    counters[C_COMMANDS] += count;
    bridge.submit(count);
    settle(count);
  }

  return { scan, settle };
}

/**
 * Taking a core from a busy VM behind its guest's back by swapping it with another one:
 * the common part, and the ways that need no cgroup. A lock that the guest holds is
 * held until it runs again.
 */
import { W_GUEST_VCPU_DONE_LO } from '../../arbiter/abi/layout.gen.ts';
import { kill, setAffinity, setSchedFifo, setSchedOther, waitWordChange } from '../../native/index.ts';
import { Samples } from '../lib/stats.ts';
import type { Rig, RigVm } from '../lib/rig.ts';
import { firstInstruction, rest, STAMPS } from './managed.ts';
import { restUs, RowError, type Measured } from './row.ts';

const SIGSTOP = 19;
const SIGCONT = 18;
/** Far above anything a row takes; below it the kernel's fair server lets others run 50 ms a second. */
export const DRIVER_FIFO = 10;

const scratch = new Int32Array(2);

/** Freezes both processes between blocks, so that they take nothing from other rows. */
export function freeze(pair: readonly RigVm[]): void {
  for (const vm of pair) kill(vm.pid, SIGSTOP);
}

export function thaw(vm: RigVm): void {
  kill(vm.pid, SIGCONT);
}

/** Waits until the guest of a spinning VM makes progress. */
export function running(rig: Rig, vm: RigVm): void {
  for (let i = 0; i < 3; i++) {
    firstInstruction(rig, vm, STAMPS, rig.guest(vm, W_GUEST_VCPU_DONE_LO), 'the donor');
  }
}

/** Two spinning VMs that are swapped on the core from outside. */
export function swapRow(
  rig: Rig,
  name: string,
  pair: readonly [RigVm, RigVm],
  capacity: number,
  prepare: () => void,
  swap: (from: RigVm, to: RigVm) => void,
  restore: () => void,
): Measured {
  const samples = new Samples(capacity);
  let count = 0;
  return {
    name,
    samples,
    block(moves) {
      prepare();
      running(rig, pair[0]);
      try {
        for (let i = 0; i < moves; i++) {
          const from = pair[i % 2];
          const to = pair[(i + 1) % 2];
          rest(rig, restUs(count++));
          const before = rig.guest(to, W_GUEST_VCPU_DONE_LO);
          rig.clock.now();
          const decided = rig.clock.words[0];
          swap(from, to);
          samples.push(rig.us(decided, firstInstruction(rig, to, STAMPS, before, name)));
          quiet(rig, from, name);
        }
      } finally {
        restore();
        freeze(pair);
      }
    },
  };
}

/** Waits until a guest makes no progress any more: what was taken from it is really gone. */
function quiet(rig: Rig, vm: RigVm, name: string): void {
  const at = rig.guestLine(vm) + STAMPS.offset;
  for (let i = 0; i < 10_000; i++) {
    const before = rig.guest(vm, STAMPS.word);
    if (waitWordChange(rig.arena.buffer, at, before, 50, scratch) === 0) return;
  }
  throw new RowError(`${name}: ${vm.name} goes on running`);
}

/** The driver's core is the waiting room: at SCHED_FIFO the driver keeps whoever waits there from running. */
export function affinityRow(
  rig: Rig,
  driverCore: number,
  core: number,
  pair: readonly [RigVm, RigVm],
  capacity: number,
): Measured {
  const tids = new Map(pair.map((vm) => [vm, rig.tid(vm)]));
  return swapRow(
    rig,
    'sched_setaffinity swap',
    pair,
    capacity,
    () => {
      setSchedFifo(0, DRIVER_FIFO);
      setAffinity(tids.get(pair[0])!, [core]);
      setAffinity(tids.get(pair[1])!, [driverCore]);
      pair.forEach(thaw);
    },
    (from, to) => {
      setAffinity(tids.get(to)!, [core]);
      setAffinity(tids.get(from)!, [driverCore]);
    },
    () => {
      for (const tid of tids.values()) setAffinity(tid, [core]);
      setSchedOther(0);
    },
  );
}

export function stopRow(rig: Rig, pair: readonly [RigVm, RigVm], capacity: number): Measured {
  return swapRow(
    rig,
    'SIGSTOP, SIGCONT',
    pair,
    capacity,
    () => thaw(pair[0]),
    (from, to) => {
      kill(from.pid, SIGSTOP);
      kill(to.pid, SIGCONT);
    },
    () => undefined,
  );
}

/**
 * The strongest ways of taking a core from a busy VM behind its guest's back, set up
 * as a skilled person would. None of them tells the guest; a lock that it holds is
 * held until it runs again.
 */
import { mkdirSync, openSync, rmdirSync, writeSync, existsSync, writeFileSync, closeSync } from 'node:fs';
import { join } from 'node:path';
import {
  CONTROL_BYTES,
  OFF_VM_DOORBELL,
  RING_ENTRIES,
  RING_ENTRIES_OFFSET,
  RING_OFFSET,
  SIZE_REQUEST,
  VMS_OFFSET,
  VM_BYTES,
  W_GUEST_VCPU_DONE_LO,
  W_GUEST_VCPU_RESUME_LO,
  W_REQUEST_DUE_HI,
  W_REQUEST_DUE_LO,
  W_REQUEST_FANOUT,
  W_REQUEST_SEQ,
  W_REQUEST_SERVICE_NS,
  W_RING_TAIL,
  W_VM_RING_TAIL,
  W_VM_WAITERS,
} from '../../arbiter/abi/layout.gen.ts';
import {
  futexWake,
  mapShared,
  setAffinity,
  setSchedFifo,
  setSchedIdle,
  setSchedOther,
  waitWordChange,
  kill,
} from '../../native/index.ts';
import { Samples } from '../lib/stats.ts';
import { firstInstruction, RESUMES, rest, STAMPS } from './managed.ts';
import type { Rig, RigVm } from '../lib/rig.ts';
import { restUs, RowError, type Measured } from './row.ts';

const SIGSTOP = 19;
const SIGCONT = 18;
/** Far above anything a row takes; below it the kernel's fair server lets others run 50 ms a second. */
const DRIVER_FIFO = 10;
const SERVICE_NS = 2000;

const scratch = new Int32Array(2);

/** Freezes both processes between blocks, so that they take nothing from other rows. */
export function freeze(pair: readonly RigVm[]): void {
  for (const vm of pair) kill(vm.pid, SIGSTOP);
}

function thaw(vm: RigVm): void {
  kill(vm.pid, SIGCONT);
}

/** Waits until the guest of a spinning VM makes progress. */
function running(rig: Rig, vm: RigVm): void {
  for (let i = 0; i < 3; i++) {
    firstInstruction(rig, vm, STAMPS, rig.guest(vm, W_GUEST_VCPU_DONE_LO), 'the donor');
  }
}

/**
 * A plain wake-up: a request arrives for a VM whose only vCPU blocks in the host, and
 * the host's scheduler lets it preempt the busy vCPU of the other VM, or does not.
 */
export function wakeRow(
  rig: Rig,
  name: string,
  donor: RigVm,
  server: RigVm,
  capacity: number,
  prepare: () => void,
  restore: () => void,
): Measured {
  const samples = new Samples(capacity);
  const page = new Int32Array(mapShared(server.controlPage, CONTROL_BYTES));
  const vm = (VMS_OFFSET + server.slot * VM_BYTES) / 4;
  const doorbell = (VMS_OFFSET + server.slot * VM_BYTES + OFF_VM_DOORBELL) / 4;
  let count = 0;

  function send(): void {
    // The tail lies in the table too; the guest's page is not read back.
    const seq = Atomics.load(rig.words, vm + W_VM_RING_TAIL);
    const entry = (RING_ENTRIES_OFFSET + (seq & (RING_ENTRIES - 1)) * SIZE_REQUEST) / 4;
    page[entry + W_REQUEST_SEQ] = seq;
    page[entry + W_REQUEST_SERVICE_NS] = SERVICE_NS;
    page[entry + W_REQUEST_FANOUT] = 0;
    page[entry + W_REQUEST_DUE_LO] = rig.clock.words[0];
    page[entry + W_REQUEST_DUE_HI] = rig.clock.words[1];
    Atomics.store(rig.words, vm + W_VM_RING_TAIL, (seq + 1) | 0);
    Atomics.store(page, RING_OFFSET / 4 + W_RING_TAIL, (seq + 1) | 0);
    Atomics.add(rig.words, doorbell, 1);
    futexWake(rig.table, doorbell * 4, 1);
  }

  /** Until the server blocks in the host again: only then is the next request a wake-up. */
  function settle(): void {
    for (let i = 0; rig.vmWord(server, W_VM_WAITERS) === 0; i++) {
      if (i > 100_000) throw new RowError(`${name}: the server does not block`);
      rest(rig, 20);
    }
    rest(rig, 40);
  }

  return {
    name,
    samples,
    block(moves) {
      thaw(donor);
      thaw(server);
      prepare();
      settle();
      running(rig, donor);
      try {
        for (let i = 0; i < moves; i++) {
          rest(rig, restUs(count++));
          const before = rig.guest(server, W_GUEST_VCPU_RESUME_LO);
          rig.clock.now();
          const decided = rig.clock.words[0];
          send();
          samples.push(rig.us(decided, firstInstruction(rig, server, RESUMES, before, name)));
          settle();
          running(rig, donor);
        }
      } finally {
        restore();
        freeze([donor, server]);
      }
    },
  };
}

/** Two spinning VMs that are swapped on the core from outside. */
function swapRow(
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

/** A control file of one VM's cgroup, kept open: opening it would be measured. */
interface Group {
  readonly dir: string;
  readonly file: number;
}

function group(base: string, vm: RigVm, control: string, init: Record<string, string>): Group {
  const dir = join(base, `hyperflux-bench-${vm.pid}`);
  mkdirSync(dir, { recursive: true });
  for (const [file, value] of Object.entries(init)) writeFileSync(join(dir, file), value);
  writeFileSync(join(dir, 'cgroup.procs'), String(vm.pid));
  return { dir, file: openSync(join(dir, control), 'w') };
}

/** Undoes group(): the VM goes back to the root, the folder away. */
function dissolve(base: string, vm: RigVm, of: Group): void {
  closeSync(of.file);
  try {
    writeFileSync(join(base, 'cgroup.procs'), String(vm.pid));
    rmdirSync(of.dir);
  } catch {
    // The VM is gone already, and its group goes with the next reboot; nothing depends on it.
  }
}

/** Where a cgroup controller is mounted: its own hierarchy (v1), or the unified one (v2). */
function mounted(controller: 'freezer' | 'cpuset'): { base: string; v2: boolean } | undefined {
  const v1 = `/sys/fs/cgroup/${controller}`;
  if (existsSync(join(v1, 'cgroup.procs'))) return { base: v1, v2: false };
  const v2 = '/sys/fs/cgroup';
  if (existsSync(join(v2, 'cgroup.controllers'))) return { base: v2, v2: true };
  return undefined;
}

const absent = (name: string, missing: string): Measured => ({
  name,
  samples: new Samples(1),
  missing,
  block: () => undefined,
});

export interface Undoable {
  row: Measured;
  undo: () => void;
}

export function freezerRow(rig: Rig, pair: readonly [RigVm, RigVm], capacity: number): Undoable {
  const name = 'cgroup freezer';
  const where = mounted('freezer');
  if (!where) return { row: absent(name, 'no freezer cgroup here'), undo: () => undefined };
  try {
    const control = where.v2 ? 'cgroup.freeze' : 'freezer.state';
    const [frozen, thawed] = where.v2 ? ['1', '0'] : ['FROZEN', 'THAWED'];
    const groups = new Map(pair.map((vm) => [vm, group(where.base, vm, control, {})]));
    const set = (vm: RigVm, value: string): void => void writeSync(groups.get(vm)!.file, value);
    const row = swapRow(
      rig,
      `${name} (v${where.v2 ? 2 : 1})`,
      pair,
      capacity,
      () => {
        set(pair[1], frozen);
        pair.forEach(thaw);
      },
      (from, to) => {
        set(from, frozen);
        set(to, thawed);
      },
      () => pair.forEach((vm) => set(vm, thawed)),
    );
    return { row, undo: () => groups.forEach((of, vm) => dissolve(where.base, vm, of)) };
  } catch (error) {
    return { row: absent(name, (error as Error).message), undo: () => undefined };
  }
}

export function cpusetRow(
  rig: Rig,
  driverCore: number,
  core: number,
  pair: readonly [RigVm, RigVm],
  capacity: number,
): Undoable {
  const name = 'cpuset swap';
  const where = mounted('cpuset');
  if (!where) return { row: absent(name, 'no cpuset cgroup here'), undo: () => undefined };
  try {
    if (where.v2) writeFileSync(join(where.base, 'cgroup.subtree_control'), '+cpuset');
    const groups = new Map(
      pair.map((vm, i) => {
        const cpus = String(i === 0 ? core : driverCore);
        const init = { 'cpuset.cpus': cpus, 'cpuset.mems': '0' };
        return [vm, group(where.base, vm, 'cpuset.cpus', init)];
      }),
    );
    const set = (vm: RigVm, cpu: number): void => void writeSync(groups.get(vm)!.file, String(cpu));
    const row = swapRow(
      rig,
      `${name} (v${where.v2 ? 2 : 1})`,
      pair,
      capacity,
      () => {
        setSchedFifo(0, DRIVER_FIFO);
        set(pair[0], core);
        set(pair[1], driverCore);
        pair.forEach(thaw);
      },
      (from, to) => {
        set(to, core);
        set(from, driverCore);
      },
      () => setSchedOther(0),
    );
    return { row, undo: () => groups.forEach((of, vm) => dissolve(where.base, vm, of)) };
  } catch (error) {
    return { row: absent(name, (error as Error).message), undo: () => undefined };
  }
}

/** The three wake-up rows over one pair: an equal donor, an idle-class donor, a real-time successor. */
export function wakeRows(rig: Rig, donor: RigVm, server: RigVm, capacity: number): Measured[] {
  const donorTid = rig.tid(donor);
  const serverTid = rig.tid(server);
  const nothing = (): void => undefined;
  return [
    wakeRow(rig, 'plain wake-up, nice 0', donor, server, capacity, nothing, nothing),
    wakeRow(
      rig,
      'plain wake-up, SCHED_IDLE donor',
      donor,
      server,
      capacity,
      () => setSchedIdle(donorTid),
      () => setSchedOther(donorTid),
    ),
    wakeRow(
      rig,
      'plain wake-up, SCHED_FIFO successor',
      donor,
      server,
      capacity,
      () => setSchedFifo(serverTid, 5),
      () => setSchedOther(serverTid),
    ),
  ];
}

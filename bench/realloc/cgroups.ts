/** Taking a core by control groups: the freezer, and cpusets. */
import { closeSync, existsSync, mkdirSync, openSync, rmdirSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { sweep } from '../../arbiter/vm/cpuset.ts';
import { setSchedFifo, setSchedOther } from '../../native/index.ts';
import { Samples } from '../lib/stats.ts';
import type { Rig, RigVm } from '../lib/rig.ts';
import type { Measured } from './row.ts';
import { DRIVER_FIFO, swapRow, thaw } from './swap.ts';

/** A control file of one VM's cgroup, kept open: opening it would be measured. */
interface Group {
  readonly dir: string;
  readonly file: number;
}

/** Groups of both VMs of a pair, made together and undone together. */
class Groups {
  readonly #base: string;
  readonly #made = new Map<RigVm, Group>();

  constructor(base: string) {
    this.#base = base;
  }

  make(vm: RigVm, control: string, init: Record<string, string>): void {
    // Named like a daemon's own, so that one that is left behind is swept like those.
    const dir = join(this.#base, `hyperflux-${vm.pid}`);
    mkdirSync(dir, { recursive: true });
    this.#made.set(vm, { dir, file: -1 });
    for (const [file, value] of Object.entries(init)) writeFileSync(join(dir, file), value);
    writeFileSync(join(dir, 'cgroup.procs'), String(vm.pid));
    this.#made.set(vm, { dir, file: openSync(join(dir, control), 'w') });
  }

  set(vm: RigVm, value: string): void {
    writeSync(this.#made.get(vm)!.file, value);
  }

  /** The VMs go back to the root, the folders away. */
  undo(): void {
    for (const [vm, { dir, file }] of this.#made) {
      if (file >= 0) closeSync(file);
      try {
        writeFileSync(join(this.#base, 'cgroup.procs'), String(vm.pid));
        rmdirSync(dir);
      } catch {
        // Busy for a moment longer: the next sweep has it.
      }
    }
    this.#made.clear();
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
  const groups = new Groups(where.base);
  try {
    const control = where.v2 ? 'cgroup.freeze' : 'freezer.state';
    const [frozen, thawed] = where.v2 ? ['1', '0'] : ['FROZEN', 'THAWED'];
    for (const vm of pair) groups.make(vm, control, {});
    const set = (vm: RigVm, value: string): void => groups.set(vm, value);
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
    return { row, undo: () => groups.undo() };
  } catch (error) {
    groups.undo();
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
  const groups = new Groups(where.base);
  try {
    // An exclusive cpuset of a daemon that was killed would be in the way.
    sweep(where.base, where.v2 ? 'cgroup.threads' : 'tasks');
    if (where.v2) writeFileSync(join(where.base, 'cgroup.subtree_control'), '+cpuset');
    pair.forEach((vm, i) => {
      const cpus = String(i === 0 ? core : driverCore);
      groups.make(vm, 'cpuset.cpus', { 'cpuset.cpus': cpus, 'cpuset.mems': '0' });
    });
    const set = (vm: RigVm, cpu: number): void => groups.set(vm, String(cpu));
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
    return { row, undo: () => groups.undo() };
  } catch (error) {
    groups.undo();
    return { row: absent(name, (error as Error).message), undo: () => undefined };
  }
}

/**
 * The managed cores as an exclusive partition, where cgroups allow it: then no other
 * task runs on them. cgroup v2 takes cores away from everybody else (a partition);
 * v1 can only keep other cpusets off them, not the tasks of the root cpuset; without
 * cgroups there is affinity alone. Which of them it is, is reported, not hidden.
 *
 * Only vCPU threads are put in: Fluxion's own threads are no guests and stay outside.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { formatCores } from '../control/cores.ts';

export type Isolation = 'partition' | 'cpuset' | 'none';

export interface Cpuset {
  readonly isolation: Isolation;
  /** A sentence for status and doctor. */
  readonly text: string;
  /** Moves threads in. Threads that are gone are no error. */
  add(tids: readonly number[]): void;
  /** Puts everything back. */
  undo(): void;
}

/** One group for each daemon: several may run, with cores of their own. */
const NAME = /^hyperflux-(\d+)$/;
const groupName = `hyperflux-${process.pid}`;
/** A group is busy for a moment after its last thread has left or died. */
const TRIES = 20;
const PAUSE_MS = 5;

function none(text: string): Cpuset {
  return { isolation: 'none', text, add: () => {}, undo: () => {} };
}

const why = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? String(error);

function addEach(file: string, tids: readonly number[]): void {
  for (const tid of tids) {
    try {
      writeFileSync(file, String(tid));
    } catch {
      // The thread is gone, or the kernel does not let it in: affinity alone still holds it to its core.
    }
  }
}

/** Threads that are in go to the parent; a group that is not empty cannot be removed. */
function empty(group: string, members: string, parent: string): void {
  try {
    const tids = readFileSync(join(group, members), 'utf8')
      .split('\n')
      .filter((line) => line !== '');
    for (const tid of tids) writeFileSync(join(parent, members), tid);
  } catch {
    // Gone meanwhile.
  }
  for (let tries = 0; tries < TRIES && existsSync(group); tries++) {
    try {
      rmdirSync(group);
    } catch {
      // Still busy. What is left in the end, the next daemon removes.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, PAUSE_MS);
    }
  }
}

/** Removes the groups of processes that are no more. Their threads go to the parent; whoever manages them puts them in again. */
export function sweep(root: string, members: string): void {
  for (const name of readdirSync(root)) {
    const pid = NAME.exec(name)?.[1];
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) empty(join(root, name), members, root);
  }
}

function version1(root: string, cores: readonly number[]): Cpuset {
  const group = join(root, groupName);
  sweep(root, 'tasks');
  const prefix = existsSync(join(root, 'cpuset.cpus')) ? 'cpuset.' : '';
  try {
    mkdirSync(group, { recursive: true });
    const mems = readFileSync(join(root, `${prefix}mems`), 'utf8').trim();
    writeFileSync(join(group, `${prefix}mems`), mems);
    writeFileSync(join(group, `${prefix}cpus`), formatCores(cores));
  } catch (error) {
    empty(group, 'tasks', root);
    return none(`cpuset (cgroup v1) cannot be used: ${why(error)}`);
  }
  let exclusive = true;
  try {
    writeFileSync(join(group, `${prefix}cpu_exclusive`), '1');
  } catch {
    exclusive = false;
  }
  const limits = 'tasks of the root cpuset can still run there (cgroup v1 cannot forbid it)';
  return {
    isolation: 'cpuset',
    text: exclusive
      ? `cpuset (cgroup v1), exclusive among cpusets; ${limits}`
      : 'cpuset (cgroup v1), shared: another cpuset has some of the cores',
    add: (tids) => addEach(join(group, 'tasks'), tids),
    undo: () => empty(group, 'tasks', root),
  };
}

/** A threaded group under a plain one: Fluxion's processes stay where they are only if their threads may be split. */
function version2(root: string, cores: readonly number[]): Cpuset {
  const group = join(root, groupName);
  sweep(root, 'cgroup.threads');
  try {
    if (!readFileSync(join(root, 'cgroup.subtree_control'), 'utf8').split(/\s+/).includes('cpuset')) {
      writeFileSync(join(root, 'cgroup.subtree_control'), '+cpuset');
    }
    mkdirSync(group, { recursive: true });
    writeFileSync(join(group, 'cgroup.type'), 'threaded');
    writeFileSync(join(group, 'cpuset.cpus'), formatCores(cores));
    writeFileSync(join(group, 'cpuset.cpus.partition'), 'root');
  } catch (error) {
    empty(group, 'cgroup.threads', root);
    return none(`a cgroup v2 partition cannot be made: ${why(error)}`);
  }
  const state = readFileSync(join(group, 'cpuset.cpus.partition'), 'utf8').trim();
  return {
    isolation: state === 'root' ? 'partition' : 'cpuset',
    text:
      state === 'root'
        ? 'cgroup v2 partition: nobody else runs on the managed cores'
        : `cgroup v2 cpuset, not exclusive (${state})`,
    add: (tids) => addEach(join(group, 'cgroup.threads'), tids),
    undo: () => {
      try {
        writeFileSync(join(group, 'cpuset.cpus.partition'), 'member');
      } catch {
        // Then removing the group gives the cores back.
      }
      empty(group, 'cgroup.threads', root);
    },
  };
}

/** The group that this process is in on cgroup v2; '/' where there is none. */
function ownGroup(): string {
  try {
    return /^0::(.*)$/m.exec(readFileSync('/proc/self/cgroup', 'utf8'))?.[1] ?? '/';
  } catch {
    return '/';
  }
}

/** Takes the cores, by the best means there are. Never fails: without cgroups the pool still works. */
export function makeCpuset(
  cores: readonly number[],
  mounts: string = '/sys/fs/cgroup',
  own: string = ownGroup(),
): Cpuset {
  const has = (path: string): boolean => existsSync(path);
  const controllers = (path: string): boolean => {
    try {
      return readFileSync(join(path, 'cgroup.controllers'), 'utf8').split(/\s+/).includes('cpuset');
    } catch {
      return false;
    }
  };
  if (controllers(mounts)) {
    // Threads move only within the threaded domain of their process, and a partition made at the root would
    // take its cores away from the group that the VMs stay in.
    if (own === '/') return version2(mounts, cores);
    return none(
      `this process is in the cgroup ${own}, whose threads cannot join a partition of the root; ` +
        'affinity alone keeps vCPUs on their cores (AllowedCPUs= of the other units keeps those off)',
    );
  }
  for (const path of [join(mounts, 'cpuset'), '/dev/cpuset']) {
    if (has(join(path, 'cpuset.cpus')) || has(join(path, 'cpus'))) return version1(path, cores);
  }
  return none('no cpuset cgroup here; affinity alone keeps vCPUs on their cores');
}

/** What this host has: cores for the pool, KVM. */
import { accessSync, constants, readdirSync, readFileSync } from 'node:fs';
import { formatCores, parseCores } from '../control/cores.ts';
import { ControlError } from '../control/protocol.ts';

export interface Pool {
  arbiterCore: number;
  /** The managed cores. */
  cores: number[];
}

/** A core and its SMT siblings, as the kernel numbers them; the core alone where it does not say. */
export function siblingsOf(core: number): number[] {
  try {
    const list = `/sys/devices/system/cpu/cpu${core}/topology/thread_siblings_list`;
    return parseCores(readFileSync(list, 'utf8').trim());
  } catch {
    return [core];
  }
}

/**
 * The arbiter's core is the lowest allowed one, everything else is managed, unless told otherwise. Of SMT siblings only
 * the first is managed, and none of the arbiter's: two VMs must not share a physical core unless somebody asks for
 * it by naming both with --cores.
 */
export function choosePool(
  allowed: readonly number[],
  arbiterCore?: number,
  cores?: readonly number[],
  siblings: (core: number) => readonly number[] = siblingsOf,
): Pool {
  const list = formatCores(allowed);
  const arbiter = arbiterCore ?? allowed.find((core) => !cores?.includes(core)) ?? allowed[0];
  if (!allowed.includes(arbiter)) {
    throw new ControlError(
      'usage',
      `core ${arbiter} cannot be the arbiter's: this process may use ${list}`,
      'Choose another with --arbiter-core.',
    );
  }
  const taken = new Set(siblings(arbiter)).add(arbiter);
  const firstOfItsKind = (core: number): boolean => {
    if (taken.has(core)) return false;
    for (const sibling of siblings(core)) taken.add(sibling);
    return true;
  };
  const managed = cores ?? allowed.filter(firstOfItsKind);
  const foreign = managed.filter((core) => !allowed.includes(core));
  if (foreign.length > 0) {
    throw new ControlError(
      'usage',
      `core ${formatCores(foreign)} cannot be managed: this process may use ${list}`,
      'Choose others with --cores.',
    );
  }
  if (managed.includes(arbiter)) {
    throw new ControlError(
      'usage',
      `core ${arbiter} cannot be the arbiter's and managed at once`,
      'Leave it out of --cores, or choose another --arbiter-core.',
    );
  }
  if (managed.length === 0) {
    throw new ControlError(
      'pool',
      `at least two cores are needed, one for the arbiter and one to move; this process may use ${list}`,
      'See taskset and cpusets. SMT siblings count as one core; --cores manages them all the same.',
    );
  }
  const beyond = managed.filter((core) => core > 255);
  if (beyond.length > 0)
    throw new ControlError(
      'usage',
      `cores above 255 cannot be managed yet: ${formatCores(beyond)}`,
      'Leave them out with --cores.',
    );
  return { arbiterCore: arbiter, cores: [...managed] };
}

/** Why KVM cannot be used here; empty: it can. */
export function kvmTrouble(device = '/dev/kvm'): string {
  try {
    accessSync(device, constants.R_OK | constants.W_OK);
    return '';
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT') return `there is no ${device}`;
    return code === 'EACCES' ? `this user may not open ${device}` : `${device} cannot be opened (${code})`;
  }
}

/** kvm_intel, kvm_amd, kvm_pvm, or empty. */
export function kvmFlavour(): string {
  try {
    const found = readdirSync('/sys/module').filter((name) => /^kvm_[a-z]+$/.test(name));
    return found.find((name) => name === 'kvm_pvm') ?? found[0] ?? '';
  } catch {
    return '';
  }
}

export function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return undefined;
  }
}

/** What this host has: cores for the pool, KVM. */
import { accessSync, constants, readdirSync, readFileSync } from 'node:fs';
import { formatCores } from '../control/cores.ts';
import { ControlError } from '../control/protocol.ts';

export interface Pool {
  arbiterCore: number;
  /** The managed cores. */
  cores: number[];
}

/** The arbiter's core is the lowest allowed one, everything else is managed, unless told otherwise. */
export function choosePool(
  allowed: readonly number[],
  arbiterCore?: number,
  cores?: readonly number[],
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
  const managed = cores ?? allowed.filter((core) => core !== arbiter);
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
      'See taskset and cpusets.',
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

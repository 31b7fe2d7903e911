/** What the module and its parts are called, and which versions this clone has. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ABI_MAJOR, ABI_MINOR } from '../abi/layout.gen.ts';
import { repository } from './host.ts';

export const MODULE = 'kflux';
export const DEVICE = '/dev/kflux';
export const GROUP = 'hyperflux';
export const SYSFS_MODULE = `/sys/module/${MODULE}`;
export const SYSFS_CLASS = `/sys/class/misc/${MODULE}`;
export const DEBUGFS = `/sys/kernel/debug/${MODULE}`;

/** The oldest kernel that kFlux is written for. */
export const OLDEST_KERNEL: readonly [number, number] = [6, 1];

/** The contract that this clone's arbiter speaks. */
export const CLONE_ABI = `${ABI_MAJOR}.${ABI_MINOR}`;
/** The version that this clone's module has: package.json's. */
export const CLONE_VERSION = (
  JSON.parse(readFileSync(join(repository, 'package.json'), 'utf8')) as { version: string }
).version;

/** The major number of "1.0"; -1 for what is none. */
export function majorOf(abi: string | undefined): number {
  const match = /^(\d+)\.\d+$/.exec(abi ?? '');
  return match === null ? -1 : Number(match[1]);
}

/** Why module and arbiter cannot work together, both versions named; empty if they can. */
export function mismatch(version: string | undefined, abi: string | undefined): string {
  if (majorOf(abi) === ABI_MAJOR) return '';
  const module = `kFlux ${version ?? '(of unknown version)'} with ABI ${abi ?? 'unknown'} is loaded`;
  return `${module}, this arbiter is ${CLONE_VERSION} with ABI ${CLONE_ABI}`;
}

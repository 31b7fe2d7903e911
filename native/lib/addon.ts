// SPDX-License-Identifier: Apache-2.0
/**
 * Loads the addon. Before anything else is done with it, what the C++ compiler made of abi/*.h is compared with what
 * the generator made of it: an addon of another version would write to wrong places of shared pages.
 */
import { createRequire } from 'node:module';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import * as layout from '../../arbiter/abi/layout.gen.ts';
import type { Addon } from './raw.ts';

export interface AbiInfo {
  major: number;
  minor: number;
  /** Constants, sizes and offsets by the names of layout.gen.ts. */
  layout: Record<string, number>;
}

const built = fileURLToPath(new URL('../build/hyperflux.node', import.meta.url));

/** An Error with a `code`, as the addon's own are. */
export function failure(code: string, message: string): Error & { code: string } {
  return Object.assign(new Error(message), { code });
}

/**
 * Compares an addon's view of the contract with the one given. Throws an Error with code `EPROTO` that names both
 * versions, or the first differences.
 */
export function checkAbi(info: AbiInfo, expected: Readonly<Record<string, unknown>> = layout): void {
  const { ABI_MAJOR: major, ABI_MINOR: minor } = expected;
  const remedy = 'Build the addon again: node scripts/build.mjs --force addon';
  if (info.major !== major || info.minor !== minor) {
    const versions = `the native addon has ABI ${info.major}.${info.minor}, this program ${String(major)}.${String(minor)}`;
    throw failure('EPROTO', `${versions}. ${remedy}`);
  }
  const differences = Object.entries(expected)
    .filter(
      ([name, value]) => typeof value === 'number' && !name.startsWith('W_') && info.layout[name] !== value,
    )
    .map(
      ([name, value]) =>
        `${name} is ${String(value)} here and ${info.layout[name] ?? 'not known'} in the addon`,
    );
  if (differences.length > 0) {
    const first = differences.slice(0, 3).join('; ');
    const more = differences.length > 3 ? ` and ${differences.length - 3} more` : '';
    throw failure('EPROTO', `the native addon was built from another abi/: ${first}${more}. ${remedy}`);
  }
}

/** Loads an addon file and checks it. HYPERFLUX_NATIVE names another file than the one that was built here. */
export function loadAddon(path: string = process.env.HYPERFLUX_NATIVE ?? built): Addon {
  if (!existsSync(path)) {
    throw failure('ENOENT', `the native addon is not there: ${path}. Build it: node scripts/build.mjs addon`);
  }
  let loaded: Addon;
  try {
    loaded = createRequire(import.meta.url)(path) as Addon;
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw failure(
      'ELIBBAD',
      `cannot load the native addon ${path}: ${why}. Build it again: node scripts/build.mjs --force addon`,
    );
  }
  checkAbi(loaded.abiInfo());
  return loaded;
}

export const addon: Addon = loadAddon();

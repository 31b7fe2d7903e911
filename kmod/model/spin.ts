// SPDX-License-Identifier: GPL-2.0
/** The model checker: the system's `spin`, or Debian's package of it, fetched into the lab's cache. Needs no root. */
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { closure } from '../../test/lab/apt.ts';
import { entry } from '../../test/lab/cache.ts';
import { inCache } from '../../test/lab/paths.ts';
import { packagesKey, resolved, unpackLocked } from '../../test/lab/tools.ts';

/** An explained failure: its message says what to do next. */
export class Trouble extends Error {}

export function onPath(program: string): string | undefined {
  const folders = (process.env.PATH ?? '').split(delimiter).filter((folder) => folder !== '');
  return folders.map((folder) => join(folder, program)).find((path) => existsSync(path));
}

/** Path of a spin that can be run. */
export async function findSpin(): Promise<string> {
  const installed = onPath('spin');
  if (installed !== undefined) return installed;
  try {
    const packages = await resolved('spin', false, async () =>
      // Its libraries are the C library's, which every system has.
      (await closure(['spin'])).filter(({ name }) => name === 'spin'),
    );
    const folder = await entry(inCache(`spin-${packagesKey(packages)}`), async (partial) => {
      process.stderr.write('spin is not installed: fetching its Debian package into the cache\n');
      await unpackLocked(packages, partial);
    });
    return join(folder, 'usr/bin/spin');
  } catch (error) {
    throw new Trouble(
      `spin is not installed and cannot be fetched: ${(error as Error).message}\n` +
        'next step: install spin with this system’s package manager (Debian: apt-get install spin), then run this again',
    );
  }
}

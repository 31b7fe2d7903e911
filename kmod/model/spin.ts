// SPDX-License-Identifier: GPL-2.0
/** The model checker: the system's `spin`, or Debian's package of it, unpacked in the cache. Needs no root. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';

/** An explained failure: its message says what to do next. */
export class Trouble extends Error {}

function cacheFolder(): string {
  // The XDG rules: a relative path is to be ignored.
  const base = process.env.XDG_CACHE_HOME?.startsWith('/')
    ? process.env.XDG_CACHE_HOME
    : join(homedir(), '.cache');
  return join(base, 'hyperflux');
}

export function onPath(program: string): string | undefined {
  const folders = (process.env.PATH ?? '').split(delimiter).filter((folder) => folder !== '');
  return folders.map((folder) => join(folder, program)).find((path) => existsSync(path));
}

function run(program: string, args: readonly string[], cwd: string): void {
  const result = spawnSync(program, args, { cwd, encoding: 'utf8', timeout: 120_000 });
  if (result.status === 0) return;
  const reason = result.error?.message ?? result.stderr.trim().split('\n').at(-1) ?? 'it said nothing';
  throw new Trouble(
    `${program} ${args.join(' ')} failed: ${reason}\n` +
      'next step: install spin with this system’s package manager (Debian: apt-get install spin), then run this again',
  );
}

/** Fetches the package into a folder of its own and renames what is whole: two runs at once do no harm. */
function fetch(target: string): void {
  const parent = cacheFolder();
  mkdirSync(parent, { recursive: true });
  const partial = mkdtempSync(join(parent, '.partial-spin-'));
  try {
    process.stderr.write('spin is not installed: fetching its Debian package into the cache\n');
    run('apt-get', ['-q', 'download', 'spin'], partial);
    const file = readdirSync(partial).find((name) => name.endsWith('.deb'));
    if (file === undefined)
      throw new Trouble('apt-get has downloaded no package of spin\nnext step: apt-get update');
    run('dpkg-deb', ['-x', file, 'root'], partial);
    try {
      renameSync(join(partial, 'root'), target);
    } catch (error) {
      if (!existsSync(target)) throw error;
    }
  } finally {
    rmSync(partial, { recursive: true, force: true });
  }
}

/** Path of a spin that can be run. */
export function findSpin(): string {
  const installed = onPath('spin');
  if (installed !== undefined) return installed;
  const target = join(cacheFolder(), 'spin');
  const program = join(target, 'usr/bin/spin');
  if (!existsSync(program)) {
    if (onPath('apt-get') === undefined || onPath('dpkg-deb') === undefined)
      throw new Trouble('spin is not installed\nnext step: install it with this system’s package manager');
    fetch(target);
  }
  return program;
}

/** The module's sources, and copies of them: nothing is ever built in the clone itself. */
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { ControlError } from '../control/protocol.ts';
import { repository } from './host.ts';

/** These folders of kmod/ are not part of the module. */
const ASIDE = new Set(['test', 'tests', 'tools', 'model']);
const isSource = (name: string): boolean =>
  (/\.[chS]$/.test(name) && !name.endsWith('.mod.c')) || ['Makefile', 'Kbuild', 'COPYING'].includes(name);

function below(folder: string, prefix: string): string[] {
  return readdirSync(join(folder, prefix), { withFileTypes: true }).flatMap((entry) => {
    const path = join(prefix, entry.name);
    if (entry.isDirectory()) return ASIDE.has(entry.name) ? [] : below(folder, path);
    return isSource(entry.name) ? [path] : [];
  });
}

/** Paths in the clone: kmod's sources and the headers of the contract, which they include as ../abi. */
export function moduleSources(clone: string = repository): string[] {
  const kmod = existsSync(join(clone, 'kmod')) ? below(clone, 'kmod') : [];
  if (!kmod.some((path) => path.endsWith('.c')) || !kmod.some((path) => /(Makefile|Kbuild)$/.test(path))) {
    throw new ControlError(
      'failed',
      `the module's sources are not in ${join(clone, 'kmod')}`,
      'Use a whole clone, or a version that has the module.',
    );
  }
  const abi = readdirSync(join(clone, 'abi'))
    .filter((name) => name.endsWith('.h'))
    .map((name) => `abi/${name}`);
  return [...kmod, ...abi].sort();
}

/** One number for the sources' names and contents. */
export function digestOf(folder: string, files: readonly string[]): string {
  const hash = createHash('sha256');
  for (const file of files)
    hash
      .update(`${file}\0`)
      .update(readFileSync(join(folder, file)))
      .update('\0');
  return hash.digest('hex');
}

const same = (a: string, b: string): boolean => existsSync(b) && readFileSync(a).equals(readFileSync(b));

/**
 * Brings a folder's copy up to date. What did not change is not touched, so that make builds only what has; sources
 * that are no more are removed, what was built stays.
 */
export function copySources(files: readonly string[], folder: string, clone: string = repository): boolean {
  let changed = false;
  for (const file of files) {
    const to = join(folder, file);
    if (same(join(clone, file), to)) continue;
    mkdirSync(dirname(to), { recursive: true });
    cpSync(join(clone, file), to);
    changed = true;
  }
  const kept = new Set(files);
  for (const part of ['kmod', 'abi']) {
    if (!existsSync(join(folder, part))) continue;
    for (const old of below(folder, part)) {
      if (kept.has(old)) continue;
      rmSync(join(folder, old));
      changed = true;
    }
  }
  return changed;
}

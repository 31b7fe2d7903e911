/**
 * Entries of the cache. An entry is named by what it was made of, is made under another
 * name and renamed when it is whole: whoever sees an entry sees all of it, and two labs that make
 * the same one at once cost time and nothing else. Entries that nobody used for long are removed.
 */
import { createHash } from 'node:crypto';
import type { Dirent } from 'node:fs';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  utimesSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';

const DAY_MS = 86_400_000;

/** A short name for any number of texts. The lengths are hashed too, so that no two lists give one text. */
export function keyOf(...parts: readonly (string | Buffer)[]): string {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(`${Buffer.byteLength(part)}:`).update(part);
  return hash.digest('hex').slice(0, 20);
}

/** One key over names, modes and contents of files; `base` is left out of their names. */
export function filesKey(base: string, files: readonly string[], extra: readonly string[] = []): string {
  const parts: (string | Buffer)[] = [...extra];
  for (const file of files) {
    const path = join(base, file);
    parts.push(file, String(lstatSync(path).mode & 0o111), readFileSync(path));
  }
  return keyOf(...parts);
}

/** The entry at `path`, made by `make` in a folder or at a file name of its own if it is not there yet. */
export async function entry(path: string, make: (partial: string) => Promise<void>): Promise<string> {
  if (existsSync(path)) {
    touch(path);
    return path;
  }
  const parent = dirname(path);
  mkdirSync(parent, { recursive: true });
  const folder = mkdtempSync(join(parent, '.partial-'));
  const partial = join(folder, basename(path));
  try {
    await make(partial);
    try {
      renameSync(partial, path);
      // What was unpacked has the package's time, and would be taken for long unused.
      touch(path);
    } catch (error) {
      // Another lab was faster, with the same contents.
      if (!existsSync(path)) throw error;
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  return path;
}

function touch(path: string): void {
  const now = new Date();
  try {
    utimesSync(path, now, now);
  } catch {
    // Only its age: a cache that this user may read and not write works as well.
  }
}

/** Every file and symlink under a folder, relative to it and sorted. */
export function listTree(
  base: string,
  skip: (name: string, path: string) => boolean = () => false,
): string[] {
  const found: string[] = [];
  const visit = (folder: string): void => {
    for (const item of readdirSync(join(base, folder), { withFileTypes: true })) {
      const path = join(folder, item.name);
      if (skip(item.name, path)) continue;
      if (item.isDirectory()) visit(path);
      else if (item.isFile() || item.isSymbolicLink()) found.push(path);
    }
  };
  visit('');
  return found.sort();
}

/**
 * Removes what was not used for `days` days from these folders of the cache, but for the newest of each, and what
 * a lab that was killed has left half made.
 */
export function prune(
  folders: readonly string[],
  days: number,
  { now = Date.now(), only = '' }: { now?: number; /** Beginning of the names. */ only?: string } = {},
): string[] {
  const removed: string[] = [];
  for (const folder of folders) {
    if (!existsSync(folder)) continue;
    const ages = readdirSync(folder, { withFileTypes: true })
      .map((item: Dirent) => ({ item, used: usedAt(join(folder, item.name)) }))
      .sort((a, b) => b.used - a.used);
    const whole = ages.filter(({ item }) => !item.name.startsWith('.partial-') && item.name.startsWith(only));
    const partial = ages.filter(({ item }) => item.name.startsWith('.partial-'));
    const old = [
      ...whole.slice(1).filter(({ used }) => now - used > days * DAY_MS),
      ...partial.filter(({ used }) => now - used > DAY_MS),
    ];
    for (const { item } of old) {
      rmSync(join(folder, item.name), { recursive: true, force: true });
      removed.push(join(folder, item.name));
    }
  }
  return removed;
}

function usedAt(path: string): number {
  try {
    return lstatSync(path).mtimeMs;
  } catch {
    // Removed by another lab at this moment.
    return Date.now();
  }
}

/** The cache: where downloads are kept, and how an entry appears in it whole or not at all. */
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';

const DAY_MS = 86_400_000;

/** The same folder as the lab's, by the same variables. */
export function cacheFolder(env: NodeJS.ProcessEnv = process.env): string {
  if (env.HYPERFLUX_LAB_CACHE) return env.HYPERFLUX_LAB_CACHE;
  // The XDG rules: a relative path is to be ignored.
  const base = env.XDG_CACHE_HOME?.startsWith('/') ? env.XDG_CACHE_HOME : join(homedir(), '.cache');
  return join(base, 'hyperflux/lab');
}

export const inCache = (...names: string[]): string => join(cacheFolder(), 'headers', ...names);

export const keyOf = (...parts: readonly string[]): string =>
  createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 12);

/** The entry at `path`; `make` fills a folder beside it, which is renamed when it is whole. */
export async function entry(path: string, make: (partial: string) => Promise<void>): Promise<string> {
  if (existsSync(path)) return touched(path);
  mkdirSync(dirname(path), { recursive: true });
  const partial = mkdtempSync(join(dirname(path), '.partial-'));
  try {
    await make(partial);
    renameSync(partial, path);
  } catch (error) {
    rmSync(partial, { recursive: true, force: true });
    // Somebody else has made the same entry meanwhile.
    if (!existsSync(path)) throw error;
  }
  return touched(path);
}

/** Its time says when it was used last; unpacking a package has given it the package's. */
function touched(path: string): string {
  const now = new Date();
  try {
    utimesSync(path, now, now);
  } catch (error) {
    // Only its age: a cache that this user may read and not write works as well.
    if (!['EPERM', 'EACCES', 'EROFS'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
  }
  return path;
}

/** Removes entries that nobody used for so long: each new kernel brings some hundred megabytes. */
export function prune(folder: string, days: number, now = Date.now()): string[] {
  if (!existsSync(folder)) return [];
  const old = readdirSync(folder)
    .map((name) => join(folder, name))
    .filter((path) => now - statSync(path).mtimeMs > days * DAY_MS);
  for (const path of old) rmSync(path, { recursive: true, force: true });
  return old;
}

/** Every regular file under a folder, as a full path. Symlinks are not followed. */
export function* filesUnder(folder: string): Generator<string> {
  for (const item of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, item.name);
    if (item.isDirectory()) yield* filesUnder(path);
    else if (item.isFile()) yield path;
  }
}

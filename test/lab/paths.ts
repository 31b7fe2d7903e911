/** Where the lab keeps what it has fetched and made, and where the product is that it tests. */
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const repository = fileURLToPath(new URL('../..', import.meta.url));
export const guestFiles = fileURLToPath(new URL('guest/', import.meta.url));

/** Where the product lies inside the lab. Suites name their files relative to it, as they do on the host. */
export const GUEST_ROOT = '/hyperflux';

export function cacheFolder(env: NodeJS.ProcessEnv = process.env): string {
  if (env.HYPERFLUX_LAB_CACHE) return env.HYPERFLUX_LAB_CACHE;
  // The XDG rules: a relative path is to be ignored.
  const base = env.XDG_CACHE_HOME?.startsWith('/') ? env.XDG_CACHE_HOME : join(homedir(), '.cache');
  return join(base, 'hyperflux/lab');
}

export const inCache = (...names: string[]): string => join(cacheFolder(), ...names);

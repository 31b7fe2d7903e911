/**
 * Go for a host that has none: Debian's packages, unpacked in the cache where the lab keeps its own. Nothing is
 * installed.
 */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { closure } from '../../test/lab/apt.ts';
import { entry } from '../../test/lab/cache.ts';
import { inCache } from '../../test/lab/paths.ts';
import { packagesKey, resolved, unpackLocked } from '../../test/lab/tools.ts';

/** The program's path. Rejects if Debian's packages cannot be had. */
export async function debianGo(): Promise<string> {
  const all = await resolved('go', false, () => closure(['golang-go']));
  // The rest of what it depends on is for programs with parts in C.
  const packages = all.filter(({ name }) => /^golang-[\d.]+-(go|src)$/.test(name));
  const root = await entry(inCache('go', packagesKey(packages)), (partial) =>
    unpackLocked(packages, partial),
  );
  const lib = join(root, 'usr/lib');
  const folder = readdirSync(lib).find((name) => existsSync(join(lib, name, 'bin/go')));
  if (folder === undefined) throw new Error(`there is no bin/go in ${packages.length} packages of Debian's`);
  return join(lib, folder, 'bin/go');
}

/** Headers of Debian kernels, unpacked in the cache and mended so that they can be used where they are. */
import { lstatSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Package } from './apt.ts';
import { unpack } from './apt.ts';
import { entry, filesUnder, inCache, keyOf } from './cache.ts';
import type { HeaderSet } from './kernels.ts';
import { adapt, isDynamicProgram } from './toolchain.ts';
import type { Toolchain } from './toolchain.ts';

/** Debian's makefiles name each other by the path at which they would be installed. */
export const relocate = (makefile: string, root: string): string =>
  makefile.replace(/^(KBUILD_OUTPUT\s*=\s*|include\s+)\/usr\/src\//gm, `$1${root}/usr/src/`);

/** Several flavours of one version share what they have in common: one folder for all of them. */
export async function prepareHeaders(
  sets: readonly HeaderSet[],
  toolchain: Toolchain,
): Promise<(set: HeaderSet) => string> {
  const packages = new Map<string, Package>();
  for (const found of sets.flatMap((set) => set.packages)) packages.set(found.name, found);
  const names = [...packages.values()].map(({ name, version }) => `${name}=${version}`).sort();
  const abi = sets[0].kernel.replace(/-(?:(?:cloud|rt)-)?amd64$/, '');
  const path = inCache('kernels', `${abi}-${keyOf(sets[0].version, toolchain.root, ...names)}`);
  await entry(path, async (partial) => {
    await unpack(sets[0].release, [...packages.values()], partial);
    const root = join(partial, 'root');
    for (const name of readdirSync(join(root, 'usr/src'))) {
      const makefile = join(root, 'usr/src', name, 'Makefile');
      if (!name.startsWith('linux-headers-') || !lstatSync(makefile, { throwIfNoEntry: false })?.isFile())
        continue;
      writeFileSync(makefile, relocate(readFileSync(makefile, 'utf8'), join(path, 'root')));
    }
    adapt([...filesUnder(join(root, 'usr/lib'))].filter(isDynamicProgram), toolchain.root);
  });
  return (set) => join(path, 'root/usr/src', `linux-headers-${set.kernel}`);
}

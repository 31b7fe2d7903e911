/** A kernel to boot: Debian's, or one that somebody has built and put into the cache. */
import {
  existsSync,
  lstatSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, isAbsolute, join, relative } from 'node:path';
import { closure } from './apt.ts';
import { entry, listTree } from './cache.ts';
import { buildDebugKernel } from './debug/build.ts';
import { labError } from './fail.ts';
import { cacheFolder, inCache } from './paths.ts';
import { say, step } from './progress.ts';
import { run } from './run.ts';
import type { Tools } from './tools.ts';
import { packagesKey, resolved, toolCommand, unpackLocked } from './tools.ts';

export interface Kernel {
  folder: string;
  release: string;
  image: string;
  /** The folder with modules.dep. */
  modules: string;
  /** Where modules are built against; undefined if this kernel came without. */
  build?: string;
}

/** The metapackages that lead to the newest of each. */
const DEBIAN: Readonly<Record<string, readonly string[]>> = {
  '6.1': ['linux-image-cloud-amd64', 'linux-headers-cloud-amd64'],
  '6.12': ['linux-image-6.12-cloud-amd64', 'linux-headers-6.12-cloud-amd64'],
};

export const kernelNames = (): string[] => Object.keys(DEBIAN);

/**
 * `name`: one of Debian's, `debug` (built here from Debian's source the first time), or a folder (or its name under kernels/ in the cache) that holds `vmlinuz` or
 * `bzImage`, `modules/` (as from make modules_install INSTALL_MOD_PATH=modules) and `build/` for modules.
 */
export async function prepareKernel(name: string, tools: Tools, refresh: boolean): Promise<Kernel> {
  if (name in DEBIAN) return debianKernel(name, tools, refresh);
  if (name === 'debug') await buildDebugKernel(cacheFolder(), say, refresh);
  const folder = isAbsolute(name) || name.includes('/') ? name : inCache('kernels', name);
  if (!existsSync(folder))
    throw labError(
      `there is no kernel ${name}: no folder ${folder}`,
      `Debian's are ${kernelNames().join(' and ')}; a kernel of your own is a folder with vmlinuz, modules/ and build/.`,
    );
  return openKernel(folder, tools);
}

async function debianKernel(name: string, tools: Tools, refresh: boolean): Promise<Kernel> {
  const packages = await resolved(`kernel-${name}`, refresh, async () =>
    // The closure has the compiler's and the initramfs's packages too, which are not needed here.
    (await closure(DEBIAN[name])).filter((found) => /^linux-(image|headers|kbuild)-/.test(found.name)),
  );
  const folder = await entry(inCache('kernels', `debian-${name}-${packagesKey(packages)}`), (partial) =>
    step(`fetch Debian's kernel ${name} and its headers`, async () => {
      await unpackLocked(packages, partial);
      arrange(partial);
    }),
  );
  return openKernel(folder, tools);
}

/** Gives an unpacked kernel package the layout of every kernel folder, and makes its headers movable. */
function arrange(folder: string): void {
  const boot = join(folder, 'boot');
  const image = readdirSync(boot).find((name) => name.startsWith('vmlinuz-'));
  if (image === undefined) throw labError(`the kernel package has no image in ${boot}`, 'Try: --refresh');
  renameSync(join(boot, image), join(folder, 'vmlinuz'));
  symlinkSync(existsSync(join(folder, 'lib/modules')) ? '.' : 'usr', join(folder, 'modules'));
  const headers = join(folder, 'usr/src');
  const own = readdirSync(headers).find((name) => /^linux-headers-.*-cloud-amd64$/.test(name));
  if (own === undefined) throw labError(`the kernel's headers are not in ${headers}`, 'Try: --refresh');
  symlinkSync(join('usr/src', own), join(folder, 'build'));
  // Debian's headers name each other by the path at which they would be installed.
  const makefile = join(headers, own, 'Makefile');
  const moved = readFileSync(makefile, 'utf8').replace(
    /^(include\s+)\/usr\/src\//m,
    '$1$(dir $(lastword $(MAKEFILE_LIST)))../',
  );
  writeFileSync(makefile, moved);
  for (const path of listTree(headers).filter((p) => lstatSync(join(headers, p)).isSymbolicLink()))
    relink(folder, join(headers, path));
}

/** An absolute symlink into /usr, made relative. */
function relink(folder: string, link: string): void {
  const target = readlinkSync(link);
  if (!isAbsolute(target)) return;
  rmSync(link);
  symlinkSync(relative(dirname(link), join(folder, target)), link);
}

async function openKernel(folder: string, tools: Tools): Promise<Kernel> {
  const image = ['vmlinuz', 'bzImage'].map((name) => join(folder, name)).find((path) => existsSync(path));
  if (image === undefined)
    throw labError(
      `${folder} is no kernel: neither vmlinuz nor bzImage is in it`,
      'See hyperflux lab --help.',
    );
  const releases = join(folder, 'modules/lib/modules');
  const names = existsSync(releases)
    ? readdirSync(releases).filter((name) => existsSync(join(releases, name, 'kernel')))
    : [];
  if (names.length !== 1)
    throw labError(
      `${releases} must hold the modules of one kernel; it holds ${names.join(', ') || 'none'}`,
      'Install them there: make modules_install INSTALL_MOD_PATH=<folder>/modules',
    );
  const modules = join(releases, names[0]);
  if (!existsSync(join(modules, 'modules.dep'))) {
    const base = join(folder, 'modules');
    await run([...toolCommand(tools, 'kmod', 'depmod'), '-b', base, names[0]], {
      hint: `Remove ${folder} and run the lab again.`,
    });
  }
  const build = join(folder, 'build');
  return { folder, release: names[0], image, modules, build: existsSync(build) ? build : undefined };
}

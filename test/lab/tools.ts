/**
 * QEMU and what else the lab runs that is not the product, from Debian packages unpacked in the cache. They are
 * started by their own dynamic linker with their own libraries, so that nothing of the host has to fit them.
 */
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Package } from './apt.ts';
import { closure, unpack, updateLists } from './apt.ts';
import { entry, keyOf } from './cache.ts';
import { labError } from './fail.ts';
import { withLock } from './lock.ts';
import { inCache } from './paths.ts';
import { step } from './progress.ts';
import { BACKPORTS } from './sources.ts';

/** From backports: the QEMU of the release itself, 7.2, sometimes hangs when KVM patches the kernel's code. */
const QEMU_PACKAGES = ['qemu-system-x86', 'qemu-system-common', 'qemu-system-data', 'seabios'];
const OTHER_PACKAGES = ['busybox-static', 'kmod'];

export interface Tools {
  root: string;
  busybox: string;
}

/** What was resolved is written down, so that a run neither asks apt nor changes under a user's feet. */
export async function resolved(
  name: string,
  refresh: boolean,
  resolve: () => Promise<Package[]>,
): Promise<Package[]> {
  const file = inCache('resolved', `${name}.json`);
  if (!refresh && existsSync(file)) return JSON.parse(readFileSync(file, 'utf8')) as Package[];
  return entryList(file, refresh, resolve);
}

async function entryList(
  file: string,
  refresh: boolean,
  resolve: () => Promise<Package[]>,
): Promise<Package[]> {
  const packages = await withLock(inCache('apt.lock'), 'asking apt', async () => {
    await updateLists(refresh);
    return resolve();
  });
  await entry(`${file}.new-${process.pid}`, async (partial) =>
    writeFileSync(partial, JSON.stringify(packages)),
  );
  renameSync(`${file}.new-${process.pid}`, file);
  return packages;
}

/** Unpacks under the lock of apt's state: apt would give up if another one were at work. */
export function unpackLocked(packages: readonly Package[], folder: string): Promise<void> {
  return withLock(inCache('apt.lock'), 'fetching packages', () => unpack(packages, folder));
}

export const packagesKey = (packages: readonly Package[]): string =>
  keyOf(...packages.map(({ name, version }) => `${name}=${version}`).sort());

export async function prepareTools(refresh: boolean): Promise<Tools> {
  const packages = await resolved('tools', refresh, () =>
    closure([...QEMU_PACKAGES, ...OTHER_PACKAGES], BACKPORTS),
  );
  const root = await entry(inCache('tools', packagesKey(packages)), (partial) =>
    step('fetch QEMU and busybox (Debian packages, nothing is installed)', () =>
      unpackLocked(packages, partial),
    ),
  );
  const busybox = ['bin/busybox', 'usr/bin/busybox'].map((p) => join(root, p)).find((p) => existsSync(p));
  if (busybox === undefined)
    throw labError(`there is no busybox in ${root}`, `Remove ${root} and run the lab again.`);
  return { root, busybox };
}

const LIBRARIES = ['lib/x86_64-linux-gnu', 'usr/lib/x86_64-linux-gnu', 'lib', 'usr/lib'];

/** The command that runs a program of the cache. */
export function toolCommand({ root }: Tools, program: string, name = program): string[] {
  const linkers = ['lib64/ld-linux-x86-64.so.2', 'lib/x86_64-linux-gnu/ld-linux-x86-64.so.2'];
  // The first is an absolute symlink in some packages and leads out of the cache.
  const linker = linkers
    .map((path) => join(root, path))
    .filter((path) => existsSync(path))
    .at(-1);
  const programs = ['usr/bin', 'usr/sbin', 'bin', 'sbin'].map((folder) => join(root, folder, program));
  const found = programs.find((path) => existsSync(path));
  if (linker === undefined || found === undefined)
    throw labError(`there is no ${program} in ${root}`, `Remove ${root} and run the lab again.`);
  const libraries = LIBRARIES.map((path) => join(root, path)).join(':');
  // depmod and the like are one program, kmod, that looks at its name.
  return [linker, '--argv0', name, '--library-path', libraries, found];
}

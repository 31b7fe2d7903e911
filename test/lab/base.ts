/** The image of what rarely changes: Node, the packages, the host's libraries, busybox and a small /etc. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { entry, keyOf, listTree } from './cache.ts';
import { makeImage, put } from './image.ts';
import type { Library } from './libraries.ts';
import { librariesKey } from './libraries.ts';
import type { LockFile } from './packages.ts';
import { neededPackages } from './packages.ts';
import { GUEST_ROOT, inCache, repository } from './paths.ts';
import { step } from './progress.ts';
import type { Tools } from './tools.ts';

/** Raise it when what is below changes what is in the image. */
const LAYOUT = '1';

const folders =
  'dev etc lab out proc root run sys tmp var/tmp usr/bin usr/sbin bin sbin lib/modules mnt'.split(' ');
const etc: Readonly<Record<string, string>> = {
  passwd:
    'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/tmp:/bin/sh\nguest:x:1000:1000:guest:/tmp:/bin/sh\n',
  group: 'root:x:0:\nkvm:x:104:\nhyperflux:x:105:\nnogroup:x:65534:\nguest:x:1000:\n',
  hosts: '127.0.0.1 localhost lab\n',
  hostname: 'lab\n',
  'nsswitch.conf': 'passwd: files\ngroup: files\nhosts: files\n',
  'os-release': 'PRETTY_NAME="HyperFlux lab"\nID=hyperflux-lab\n',
  profile: 'PS1="lab:\\w# "\n',
};

export async function baseImage(tools: Tools, libraries: readonly Library[]): Promise<string> {
  const lockFile = readFileSync(join(repository, 'package-lock.json'), 'utf8');
  const installed = statSync(join(repository, 'node_modules/.package-lock.json')).mtimeMs;
  const { size, mtimeMs } = statSync(tools.busybox);
  const key = keyOf(LAYOUT, lockFile, String(installed), librariesKey(libraries), `${size} ${mtimeMs}`);
  return entry(inCache('base', `${key}.img`), (partial) =>
    step('make the base image (Node, packages, libraries)', async () => {
      const stage = `${partial}.stage`;
      fill(stage, tools, libraries, JSON.parse(lockFile) as LockFile);
      await makeImage(stage, partial, 'lab-base');
      rmSync(stage, { recursive: true });
    }),
  );
}

function fill(stage: string, tools: Tools, libraries: readonly Library[], lock: LockFile): void {
  for (const folder of folders) mkdirSync(join(stage, folder), { recursive: true });
  for (const [name, text] of Object.entries(etc)) writeFileSync(join(stage, 'etc', name), text);
  put(tools.busybox, join(stage, 'bin/busybox'));
  // It is static: it runs on the host as well, and knows its own names.
  const names = execFileSync(tools.busybox, ['--list-full'], { encoding: 'utf8' }).split('\n');
  for (const name of names.filter((n) => n !== '' && n !== 'bin/busybox' && n !== 'linuxrc')) {
    mkdirSync(dirname(join(stage, name)), { recursive: true });
    symlinkSync('/bin/busybox', join(stage, name));
  }
  for (const { path, file } of libraries) put(file, join(stage, path));
  // Optional packages for other platforms are in the lock file, and not installed.
  for (const path of neededPackages(lock).filter((name) => existsSync(join(repository, name)))) {
    const folder = join(repository, path);
    // Packages inside of this one are listed by themselves, if they are needed.
    const files = listTree(folder, (name) => name === 'node_modules' || name === '.cache');
    for (const file of files) put(join(folder, file), join(stage, GUEST_ROOT, path, file));
  }
}

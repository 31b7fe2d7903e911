/**
 * The compiler that a kernel was built with, from the same Debian release, in the cache. Its programs may need a newer C
 * library than the host's: they are started by the dynamic linker and with the libraries of their own release, and so are
 * those of the kbuild packages.
 */
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readSync,
  readdirSync,
  realpathSync,
  renameSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import type { Package, Release } from './apt.ts';
import { closure, unpack } from './apt.ts';
import { entry, filesUnder, inCache, keyOf } from './cache.ts';
import { ToolError } from './run.ts';

export interface Toolchain {
  /** Everything unpacked, as if it were /. */
  root: string;
  /** To be put in front of PATH. */
  bin: string;
  compiler: string;
}

const PT_INTERP = 3;
const LIBRARIES = ['lib/x86_64-linux-gnu', 'usr/lib/x86_64-linux-gnu'];
const HINT = 'Remove that folder and run this again.';

/** Whether a file is a program (64-bit ELF) that asks for a dynamic linker; libraries and scripts are not. */
export function isDynamicProgram(path: string): boolean {
  const head = Buffer.alloc(4096);
  const file = openSync(path, 'r');
  const length = readSync(file, head, 0, head.length, 0);
  closeSync(file);
  if (length < 64 || head.toString('latin1', 0, 4) !== '\x7fELF' || head[4] !== 2) return false;
  const offset = Number(head.readBigUInt64LE(32));
  const [size, count] = [head.readUInt16LE(54), head.readUInt16LE(56)];
  for (let i = 0; i < count && offset + (i + 1) * size <= length; i++)
    if (head.readUInt32LE(offset + i * size) === PT_INTERP) return true;
  return false;
}

function linkerOf(root: string): string {
  const places = ['lib', 'usr/lib', 'usr/lib64', 'lib64'].flatMap((folder) => [
    join(root, folder, 'x86_64-linux-gnu/ld-linux-x86-64.so.2'),
    join(root, folder, 'ld-linux-x86-64.so.2'),
  ]);
  // One of them is a symlink to the host's in some packages.
  const found = places.find((path) => existsSync(path) && realpathSync(path).startsWith(realpathSync(root)));
  if (found === undefined) throw new ToolError(`there is no dynamic linker in ${root}`, HINT);
  return found;
}

/**
 * Puts a script in the place of each program, which starts it by the dynamic linker in `root` (at `final`, once the cache's
 * entry is whole). Rewriting the programs themselves would be shorter, but patchelf breaks cc1, which is not relocatable.
 */
export function adapt(programs: readonly string[], root: string, final = root): void {
  const linker = final + linkerOf(root).slice(root.length);
  const libraries = LIBRARIES.map((folder) => join(final, folder)).join(':');
  for (const path of programs) {
    const own = `.${basename(path)}.elf`;
    renameSync(path, join(dirname(path), own));
    // $0 may be a symlink to the script. The program sees it as its name: gcc finds its parts by it, modpost its variants.
    const lines = [
      '#!/bin/sh',
      'case $0 in */*) me=$0 ;; *) me=$(command -v -- "$0") ;; esac',
      `real=$(readlink -f -- "$me")`,
      `exec ${linker} --argv0 "$real" --library-path ${libraries} "\${real%/*}/${own}" "$@"`,
    ];
    writeFileSync(path, `${lines.join('\n')}\n`);
    chmodSync(path, 0o755);
  }
}

function ownPrograms(root: string): string[] {
  const bin = join(root, 'usr/bin');
  const direct = readdirSync(bin)
    .filter((name) => name.startsWith('x86_64-linux-gnu-') || name === 'pahole')
    .map((name) => join(bin, name));
  const inner = ['usr/lib/gcc', 'usr/libexec/gcc']
    .map((path) => join(root, path))
    .filter((path) => existsSync(path));
  const files = [...direct, ...inner.flatMap((path) => [...filesUnder(path)])];
  return [...new Set(files.filter((path) => existsSync(path)).map((path) => realpathSync(path)))].filter(
    isDynamicProgram,
  );
}

/** The names by which kbuild calls the tools: with the target in front, and without. */
function linkNames(root: string, bin: string): void {
  mkdirSync(bin);
  for (const name of readdirSync(join(root, 'usr/bin'))) {
    const plain = name.replace(/^x86_64-linux-gnu-/, '');
    if (plain === name && name !== 'pahole') continue;
    for (const alias of new Set([name, plain])) symlinkSync(join('../root/usr/bin', name), join(bin, alias));
  }
}

const keyOfPackages = (packages: readonly Package[]): string =>
  keyOf(...packages.map(({ name, version }) => `${name}=${version}`).sort());

/** The compiler, and the libraries that these kbuild packages need. */
export async function prepareToolchain(
  release: Release,
  compiler: string,
  kbuild: readonly string[],
): Promise<Toolchain> {
  const needed = await closure(release, [compiler, ...kbuild]);
  // The kbuild packages themselves belong to the headers: without them, kernels of one release share one toolchain.
  const packages = needed.filter(({ name }) => !/^linux-(kbuild|base|headers)/.test(name));
  const path = inCache('toolchains', `${release.name}-${compiler}-${keyOfPackages(packages)}`);
  await entry(path, async (partial) => {
    await unpack(release, packages, partial);
    const root = join(partial, 'root');
    adapt(ownPrograms(root), root, join(path, 'root'));
    linkNames(root, join(partial, 'bin'));
  });
  return { root: join(path, 'root'), bin: join(path, 'bin'), compiler };
}

/** What a boot begins with: busybox, the modules, the guest's scripts and small programs, and this run's orders. */
import { execFileSync } from 'node:child_process';
import { readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { entry, filesKey, keyOf } from './cache.ts';
import type { Node } from './cpio.ts';
import { cpio } from './cpio.ts';
import type { Kernel } from './kernel.ts';
import type { Kmod } from './kmod.ts';
import type { ModuleTable } from './modules.ts';
import { known, loadOrder, parseModules } from './modules.ts';
import { guestFiles, inCache } from './paths.ts';
import { step } from './progress.ts';
import { needProgram, run } from './run.ts';
import type { Tools } from './tools.ts';

const forDisks = ['virtio_pci', 'virtio_blk', 'virtio_console', 'ext4', 'overlay'];
/** Nice to have: entropy from the start, and the model-specific registers for tests that look at them. */
const ifThere = ['virtio_rng', 'msr'];
const forKvm = ['kvm_amd'];

const unpackers: Readonly<Record<string, string[]>> = {
  '.xz': ['xz', '-dc'],
  '.zst': ['zstd', '-dc'],
  '.gz': ['gzip', '-dc'],
};

/** A module's contents. They are unpacked here: busybox's insmod takes plain files only. */
function readModule(path: string): Buffer {
  const ending = Object.keys(unpackers).find((e) => path.endsWith(e));
  if (ending === undefined) return readFileSync(path);
  const [program, ...args] = unpackers[ending];
  needProgram(program, `The modules of this kernel are packed: install ${program}.`);
  return execFileSync(program, [...args, path], { maxBuffer: 1 << 28 });
}

const plain = (path: string): string => path.replace(/\.(xz|zst|gz)$/, '');

/** The guest's small programs, by the host's compiler; its libraries are in the base image. */
export async function guestPrograms(): Promise<string[]> {
  const sources = readdirSync(guestFiles).filter((name) => name.endsWith('.c'));
  const compiler = needProgram('cc', 'Install a C compiler: sudo apt-get install gcc libc6-dev');
  const key = filesKey(guestFiles, sources, [compiler, String(statSync(compiler).mtimeMs)]);
  const made: string[] = [];
  for (const source of sources) {
    const name = source.replace(/\.c$/, '');
    made.push(
      await entry(inCache('guest', `${key}-${name}`), async (partial) => {
        const hint = 'Install the C library to compile with: sudo apt-get install libc6-dev';
        const flags = ['-O2', '-Wall', '-Wextra', '-Werror'];
        await run([compiler, ...flags, '-o', partial, join(guestFiles, source)], { hint });
      }),
    );
  }
  return made;
}

function tableOf(kernel: Kernel): ModuleTable {
  const read = (name: string): string => readFileSync(join(kernel.modules, name), 'utf8');
  return parseModules(read('modules.dep'), read('modules.builtin'));
}

/** The part that is the same for every run with this kernel and this kFlux. */
export async function initramfs(
  tools: Tools,
  kernel: Kernel,
  programs: readonly string[],
  kmod?: Kmod,
): Promise<string> {
  const scripts = readdirSync(guestFiles).filter((name) => !name.includes('.'));
  const key = keyOf(
    filesKey(guestFiles, scripts),
    kernel.folder,
    String(statSync(join(kernel.modules, 'modules.dep')).mtimeMs),
    ...programs,
    kmod?.folder ?? 'none',
    tools.root,
  );
  return entry(inCache('initramfs', `${key}.cpio`), (partial) =>
    step('make the initramfs', () => {
      rmSync(partial, { force: true });
      writeFileSync(partial, cpio(nodes(tools, kernel, programs, scripts, kmod)));
    }),
  );
}

function nodes(
  tools: Tools,
  kernel: Kernel,
  programs: readonly string[],
  scripts: readonly string[],
  kmod?: Kmod,
): Node[] {
  const table = tableOf(kernel);
  const boot = loadOrder(table, [...forDisks, ...known(table, ifThere)]);
  const kvm = loadOrder(table, known(table, forKvm)).filter((path) => !boot.includes(path));
  const file = (path: string, from: string, mode = 0o755): Node => ({
    kind: 'file',
    path,
    mode,
    data: readFileSync(from),
  });
  const text = (path: string, lines: readonly string[]): Node => ({
    kind: 'file',
    path,
    mode: 0o644,
    data: Buffer.from(lines.map((line) => `${plain(line)}\n`).join('')),
  });
  return [
    file('bin/busybox', tools.busybox),
    file('init', join(guestFiles, 'init')),
    ...scripts.filter((name) => name !== 'init').map((name) => file(`lab/${name}`, join(guestFiles, name))),
    ...programs.map((path) => file(`lab/${path.slice(path.lastIndexOf('-') + 1)}`, path)),
    text('lab/modules.boot', boot),
    text('lab/modules.kvm', kvm),
    ...['modules.dep', 'modules.builtin', 'modules.alias', 'modules.symbols', 'modules.order']
      .filter((name) => statSync(join(kernel.modules, name), { throwIfNoEntry: false }) !== undefined)
      .map((name) => file(`modules/${name}`, join(kernel.modules, name), 0o644)),
    ...[...boot, ...kvm].map((path): Node => ({
      kind: 'file',
      path: `modules/${plain(path)}`,
      mode: 0o644,
      data: readModule(join(kernel.modules, path)),
    })),
    ...(kmod === undefined ? [] : [file('modules/extra/kflux.ko', kmod.module, 0o644)]),
    ...(kmod?.programs ?? []).map((path) => file(`product-extra/kmod/${path}`, join(kmod!.folder, path))),
  ];
}

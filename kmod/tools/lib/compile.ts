/** Compiles the module out of tree against one kernel's headers, as strictly as the project asks for. */
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { filesUnder, inCache, keyOf } from './cache.ts';
import { withLock } from './lock.ts';
import { attempt, ToolError } from './run.ts';
import type { Toolchain } from './toolchain.ts';

export const repository = fileURLToPath(new URL('../../..', import.meta.url));

export interface Compiled {
  ok: boolean;
  /** Why not: the first line that says so. */
  why: string;
  log: string;
  modules: { file: string; bytes: number; vermagic: string }[];
}

/**
 * Everything that -Wall and -Wextra have, but for one: callbacks have parameters that not every one of them needs (W=1 of the
 * kernel leaves it out too).
 */
const WARNINGS = ['-Wall', '-Wextra', '-Wno-unused-parameter', '-Werror'];

/**
 * A compiler that is strict with the module alone. The kernel's headers do not survive -Wextra: to the compiler they become
 * system headers, which it does not report on, while what is in the module's tree keeps -I and every warning. And the kernel's
 * makefiles switch many warnings off one by one, which would win over -Wextra: that is dropped.
 */
const wrapper = (own: string, compiler: string): string => `#!/bin/sh
own=0
case "$PWD/" in "${own}/"*) own=1 ;; esac
for arg; do
  shift
  case "$arg" in
    "-I${own}"*) ;;
    -I/*) set -- "$@" -isystem; arg=\${arg#-I} ;;
    -I?*) [ $own = 1 ] || { set -- "$@" -isystem; arg=\${arg#-I}; } ;;
    -Wno-*) continue ;;
  esac
  set -- "$@" "$arg"
done
exec ${compiler} "$@" ${WARNINGS.join(' ')}
`;

const isSource = (name: string): boolean => /\.(c|h|S)$|^(Makefile|Kbuild|Kconfig)$/.test(name);

/** The module's folder, as it was named. */
export function moduleFolder(named = join(repository, 'kmod')): string {
  const path = resolve(named);
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) return path;
  throw new ToolError(`there is no folder ${path}`, 'Name one with a kernel module: --module FOLDER');
}

const SKIPPED = ['tools', 'test', 'tests', 'model', 'node_modules'];

/** What is compiled: the module's sources and the ABI's headers beside it, by their names in the copy. */
function sourcesOf(module: string): Map<string, string> {
  const found = new Map<string, string>();
  const isOwn = (name: string): boolean => isSource(basename(name)) && !name.endsWith('.mod.c');
  const add = (folder: string, as: string, skipped: readonly string[]): void => {
    for (const path of existsSync(folder) ? filesUnder(folder) : []) {
      const name = relative(folder, path);
      if (isOwn(name) && !skipped.includes(name.split('/')[0])) found.set(join(as, name), path);
    }
  };
  add(module, 'kmod', SKIPPED);
  if (found.size === 0)
    throw new ToolError(
      `there is nothing to compile in ${module}`,
      'Name a folder with a kernel module: --module FOLDER',
    );
  add(join(dirname(module), 'abi'), 'abi', ['rust', 'gen', 'node_modules']);
  return found;
}

/** A copy of the sources, laid out as in the repository. */
export function copySources(module: string, folder: string): string {
  const sources = sourcesOf(module);
  rmSync(folder, { recursive: true, force: true });
  for (const [name, path] of sources) {
    const target = join(folder, name);
    mkdirSync(dirname(target), { recursive: true });
    copyFileSync(path, target);
  }
  return join(folder, 'kmod');
}

function vermagicOf(file: string): string {
  return /vermagic=([^\0]*)/.exec(readFileSync(file, 'latin1'))?.[1].trim() ?? '';
}

/** The first line that says what is wrong; warnings of the linker and of modpost count as much as the compiler's. */
export function complaint(output: string): string | undefined {
  const lines = output.split('\n').map((line) => line.trim());
  const isError = (line: string): boolean => /(^|\s)(fatal )?error:|^ERROR: |undefined!/i.test(line);
  const isWarning = (line: string): boolean => /(^|\s)warning:\s/i.test(line);
  const isMake = (line: string): boolean => /^make(\[\d+\])?: \*\*\* (?!Waiting)/.test(line);
  return lines.find(isError) ?? lines.find(isWarning) ?? lines.find(isMake);
}

/** How make is called for a copy of the module in `folder`. */
export function buildCommand(
  headers: string,
  source: string,
  folder: string,
  toolchain: Toolchain,
): { command: string[]; env: NodeJS.ProcessEnv } {
  const compiler = join(folder, 'cc');
  writeFileSync(compiler, wrapper(folder, join(toolchain.bin, toolchain.compiler)));
  chmodSync(compiler, 0o755);
  return {
    command: [...['nice', '-n', '10', 'make', '-C', headers, `M=${source}`, '-j2', '-k'], `CC=${compiler}`],
    env: { ...process.env, PATH: `${toolchain.bin}:${process.env.PATH}`, LC_ALL: 'C', MAKEFLAGS: '' },
  };
}

async function compileIn(
  folder: string,
  headers: string,
  toolchain: Toolchain,
  module: string,
): Promise<Compiled> {
  const source = copySources(module, folder);
  const { command, env } = buildCommand(headers, source, folder, toolchain);
  const { code, output } = await attempt([...command, 'modules'], { env });
  const log = join(folder, 'make.log');
  writeFileSync(log, output);
  const modules = [...filesUnder(source)]
    .filter((path) => path.endsWith('.ko'))
    .map((path) => ({ file: path, bytes: readFileSync(path).length, vermagic: vermagicOf(path) }));
  const ending = code !== 0 ? `make ended with code ${code}` : modules.length === 0 ? 'no .ko came out' : '';
  const why = complaint(output) ?? ending;
  return { ok: why === '', why: why.replaceAll(`${folder}/`, ''), log, modules };
}

/** Compiles, unless the same sources have compiled with the same headers and the same compiler before. */
export function compile(
  kernel: string,
  headers: string,
  toolchain: Toolchain,
  module: string,
): Promise<Compiled> {
  const folder = inCache('build', kernel);
  const contents = [...sourcesOf(module)].flatMap(([name, path]) => [name, readFileSync(path, 'utf8')]);
  const key = keyOf(wrapper('', ''), headers, toolchain.root, ...contents);
  const result = join(folder, 'result.json');
  return withLock(`${folder}.lock`, async () => {
    if (existsSync(result)) {
      const before = JSON.parse(readFileSync(result, 'utf8')) as { key: string; compiled: Compiled };
      if (before.key === key) return before.compiled;
    }
    const compiled = await compileIn(folder, headers, toolchain, module);
    if (compiled.ok) writeFileSync(result, JSON.stringify({ key, compiled }));
    return compiled;
  });
}

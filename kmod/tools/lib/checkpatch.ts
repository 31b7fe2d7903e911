/** The kernel's style checker over the module's files. It comes with Debian's kernel source. */
import { copyFileSync, existsSync, mkdirSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { RELEASES, describe, unpack, updateLists } from './apt.ts';
import { cacheFolder, entry, filesUnder, inCache } from './cache.ts';
import { attempt, need, tail, ToolError } from './run.ts';
import type { Finding } from '../lint.ts';

const SOURCE = 'linux-source-6.1';
const NEEDED = ['checkpatch.pl', 'spelling.txt', 'const_structs.checkpatch'];

/**
 * What does not hold for a module outside the kernel's tree: it compiles for many versions, so it has to ask which, and it has
 * no MAINTAINERS to update.
 */
const IGNORED = ['LINUX_VERSION_CODE', 'FILE_PATH_CHANGES'];

/** A trace header is laid out as every one in the kernel is, which checkpatch takes for calls and macros gone wrong. */
const TRACE_LAYOUT = /^(CHECK:(OPEN_ENDED_LINE|PARENTHESIS_ALIGNMENT)|ERROR:COMPLEX_MACRO):/;

/** Whether checkpatch is wrong here: it does not know trace headers, nor that the kernel's version is a constant on the left. */
export function isMistaken({ text, line }: Finding, source: string): boolean {
  if (TRACE_LAYOUT.test(text)) return source.includes('#include <trace/define_trace.h>');
  if (text.startsWith('WARNING:CONSTANT_COMPARISON:'))
    return /LINUX_VERSION_CODE [<>]=? KERNEL_VERSION/.test(source.split('\n')[line - 1] ?? '');
  return false;
}

export async function findCheckpatch(progress: (text: string) => void): Promise<string> {
  const [release] = RELEASES;
  const path = inCache('checkpatch', SOURCE);
  await entry(path, async (partial) => {
    const unpacked = join(cacheFolder(), 'kernels/debug/source/scripts');
    if (NEEDED.every((name) => existsSync(join(unpacked, name)))) {
      for (const name of NEEDED) copyFileSync(join(unpacked, name), join(partial, name));
      return;
    }
    progress('checkpatch comes with the kernel source: fetching it once (about 140 MB)');
    await updateLists(release, false);
    const source = join(partial, 'source');
    mkdirSync(source);
    await unpack(release, await describe(release, [SOURCE]), source);
    const archive = join(source, 'root/usr/src', `${SOURCE}.tar.xz`);
    const members = NEEDED.map((name) => `${SOURCE}/scripts/${name}`);
    await need(
      ['tar', '-xJf', archive, '-C', partial, '--strip-components=2', ...members],
      'Install xz-utils.',
    );
    await need(['rm', '-r', source], 'Is the cache writable?');
  });
  return join(path, 'checkpatch.pl');
}

/** Lines of --terse: file:line: LEVEL:TYPE: message */
export function parseCheckpatch(output: string): Finding[] {
  return output
    .split('\n')
    .map((line) => /^(\S+?):(\d+): ((?:ERROR|WARNING|CHECK):.*)$/.exec(line))
    .filter((parts) => parts !== null)
    .map(([, file, line, text]) => ({ file, line: Number(line), text }));
}

/** kbuild leaves a NAME.mod.c beside the module. */
const isSource = (path: string): boolean => /\.[ch]$/.test(path) && !path.endsWith('.mod.c');

export async function runCheckpatch(script: string, module: string): Promise<Finding[]> {
  // Below tests/ and model/ there are programs, which have other rules than the kernel.
  const direct = readdirSync(module, { withFileTypes: true }).filter((item) => item.isFile());
  const files = direct.map(({ name }) => join(module, name)).filter(isSource);
  for (const folder of ['src', 'include'].map((name) => join(module, name)))
    if (existsSync(folder)) files.push(...[...filesUnder(folder)].filter(isSource));
  if (files.length === 0)
    throw new ToolError(`there are no C files in ${module}`, 'Name the folder: --module FOLDER');
  const options = [
    '--strict',
    '--no-tree',
    '--terse',
    '--show-types',
    '--no-summary',
    '--max-line-length=100',
  ];
  const { code, output } = await attempt([
    'perl',
    script,
    ...options,
    `--ignore=${IGNORED.join(',')}`,
    '-f',
    ...files,
  ]);
  const findings = parseCheckpatch(output);
  if (code !== 0 && findings.length === 0)
    throw new ToolError(
      `checkpatch ended with code ${code}:\n  | ${tail(output)}`,
      'Is perl here? It belongs to every Debian.',
    );
  return findings.filter((finding) => !isMistaken(finding, readFileSync(finding.file, 'utf8')));
}

/** sparse over the module: it knows address spaces (__user, __rcu), lock contexts and endianness, which gcc does not. */
import { join, relative, resolve } from 'node:path';
import { RELEASES, closure, unpack, updateLists } from './apt.ts';
import { entry, inCache, keyOf } from './cache.ts';
import { buildCommand, copySources } from './compile.ts';
import { prepareHeaders } from './headers.ts';
import { choose, groupKey, offered } from './kernels.ts';
import { withLock } from './lock.ts';
import { attempt, tail, ToolError } from './run.ts';
import { adapt, prepareToolchain } from './toolchain.ts';
import type { Finding } from '../lint.ts';

/** All that the program needs; its package has others too, which want LLVM and a graphical toolkit. */
const NEEDED = /^(sparse|libc6)$/;

/** The findings in the module's own files and the ABI's headers beside it (`copy` holds both). What sparse says of the kernel's headers is not the module's to mend. */
export function parseSparse(output: string, copy: string, module: string): Finding[] {
  const found = new Map<string, Finding>();
  for (const line of output.split('\n')) {
    const parts = /^(\/\S+?):(\d+):\d+: ((?:warning|error): .*)$/.exec(line.trim());
    if (!parts?.[1].startsWith(`${copy}/`)) continue;
    const inside = relative(join(copy, 'kmod'), parts[1]);
    const file = resolve(module, inside);
    found.set(parts[0], { file, line: Number(parts[2]), text: parts[3] });
  }
  return [...found.values()];
}

export async function runSparse(
  module: string,
  wanted: string,
  progress: (text: string) => void,
): Promise<Finding[]> {
  for (const release of RELEASES) {
    await updateLists(release, false);
    const sets = choose(await offered(release), false);
    const set = sets.findLast(({ kernel, series }) => kernel.includes(wanted) && series.endsWith('generic'));
    if (set === undefined) continue;
    progress(`sparse of ${release.name} with the headers of ${set.kernel}`);
    const toolchain = await prepareToolchain(release, set.compiler, [set.packages[2].name]);
    const group = sets.filter((other) => groupKey(other) === groupKey(set));
    const headers = (await prepareHeaders(group, toolchain))(set);
    const packages = (await closure(release, ['sparse'])).filter(({ name }) => NEEDED.test(name));
    const path = inCache(
      'toolchains',
      `${release.name}-sparse-${keyOf(...packages.map(({ version }) => version))}`,
    );
    await entry(path, async (partial) => {
      await unpack(release, packages, partial);
      const root = join(partial, 'root');
      adapt([join(root, 'usr/bin/sparse')], root, join(path, 'root'));
    });
    const folder = inCache('build', 'sparse');
    const { code, output } = await withLock(`${folder}.lock`, () => {
      const copy = copySources(module, folder);
      const checker = ['C=2', `CHECK=${join(path, 'root/usr/bin/sparse')}`];
      const { command, env } = buildCommand(headers, copy, folder, toolchain);
      return attempt([...command, ...checker, 'modules'], { env });
    });
    const findings = parseSparse(output, folder, module);
    const checked = /^\s+CHECK\s/m.test(output);
    if (findings.length === 0 && (code !== 0 || !checked))
      throw new ToolError(
        `sparse did not run to its end:\n  | ${tail(output)}`,
        'Does the module compile? Try matrix.ts --only 6.1.',
      );
    return findings;
  }
  throw new ToolError(`Debian has no headers of a kernel "${wanted}"`, 'See what there is: matrix.ts --list');
}

/**
 * What it takes to build a kernel and a host may lack: Debian packages in the cache. The compiler, make and
 * perl are the host's.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { adapt, isDynamicProgram } from '../../../kmod/tools/lib/toolchain.ts';
import type { Package } from '../apt.ts';
import { closure } from '../apt.ts';
import { entry } from '../cache.ts';
import { needProgram } from '../run.ts';
import { packagesKey, resolved, unpackLocked } from '../tools.ts';

const SOURCE = 'linux-source-6.1';
const PROGRAMS = ['flex', 'bison', 'bc', 'm4', 'xz-utils', 'libelf-dev'];
/** The libraries that those need; what else their packages depend on is for compiling against them. */
const LIBRARIES = /^(libc6|libelf1|libfl2|libsigsegv2|libreadline8|libtinfo6|liblzma5|zlib1g)$/;
const HINT = 'Install the packages gcc, make and perl.';

export interface BuildTools {
  source: Package;
  /** The compiler that Debian builds 6.1 with where the host has it. */
  compiler: string;
  env: NodeJS.ProcessEnv;
  /** For make: where the programs that run on the host find libelf. */
  variables: string[];
}

/** They lie beside the kernel, not with the lab's tools: what was built goes on using them (objtool needs libelf). */
export async function prepareBuildTools(folder: string, refresh: boolean): Promise<BuildTools> {
  for (const name of ['make', 'gcc', 'perl', 'tar']) needProgram(name, HINT);
  const packages = await resolved('debug-kernel', refresh, async () => {
    const [source, tools] = [await closure([SOURCE]), await closure(PROGRAMS)];
    return [
      ...source.filter(({ name }) => name === SOURCE),
      ...tools.filter(({ name }) => PROGRAMS.includes(name) || LIBRARIES.test(name)),
    ];
  });
  const source = packages.find(({ name }) => name === SOURCE)!;
  const tools = packages.filter(({ name }) => name !== SOURCE);
  const path = join(folder, `tools-${packagesKey(tools)}`);
  await entry(path, async (partial) => {
    await unpackLocked(tools, partial);
    const programs = ['flex', 'bison', 'bc', 'm4', 'xz'].map((name) => join(partial, 'usr/bin', name));
    adapt(
      programs.filter((file) => existsSync(file) && isDynamicProgram(file)),
      partial,
      path,
    );
  });
  const libraries = join(path, 'usr/lib/x86_64-linux-gnu');
  return {
    source,
    compiler: existsSync('/usr/bin/gcc-12') ? 'gcc-12' : 'gcc',
    env: {
      PATH: `${join(path, 'usr/bin')}:${process.env.PATH}`,
      BISON_PKGDATADIR: join(path, 'usr/share/bison'),
      M4: join(path, 'usr/bin/m4'),
      LC_ALL: 'C',
      MAKEFLAGS: '',
    },
    variables: [
      `HOSTCFLAGS=-I${join(path, 'usr/include')}`,
      `HOSTLDFLAGS=-L${libraries} -Wl,-rpath,${libraries}`,
    ],
  };
}

/** Unpacks the kernel's source without what this kernel has no use for. */
export async function unpackSource(
  source: Package,
  folder: string,
  env: NodeJS.ProcessEnv,
): Promise<string[]> {
  const packed = `${folder}.package`;
  await unpackLocked([source], packed);
  const archive = join(packed, 'usr/src', `${SOURCE}.tar.xz`);
  const left = ['*/drivers/gpu/drm/amd/include/*', '*/tools/testing/*', '*.dts', '*.dtsi'];
  const xz = join(env.PATH!.split(':')[0], 'xz');
  return [
    ...['nice', '-n', '19', 'tar', '-x', '-f', archive, `--use-compress-program=${xz}`],
    ...['-C', folder, '--strip-components=1', ...left.map((pattern) => `--exclude=${pattern}`)],
  ];
}

/** The kernel that the module is built for: its release, its build folder, and whether it will do. */
import { existsSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { ControlError } from '../control/protocol.ts';
import type { Host } from './host.ts';
import { readFile, readText } from './host.ts';
import { OLDEST_KERNEL } from './names.ts';

export interface Kernel {
  release: string;
  /** The folder that make -C takes. */
  build: string;
  /** What make needs to be told so that the compiler is the kernel's. */
  makeArguments: string[];
  compiler: string;
}

const failed = (message: string, hint: string): ControlError => new ControlError('failed', message, hint);

const isFolder = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;

/** The package that brings the headers of a kernel, for the distribution that runs here. */
export function headersHint(host: Host, release: string): string {
  const os = readText(host, '/etc/os-release') ?? '';
  const field = (name: string): string => new RegExp(`^${name}="?([^"\n]*)"?$`, 'm').exec(os)?.[1] ?? '';
  const like = `${field('ID')} ${field('ID_LIKE')}`.split(/\s+/);
  const flavour = /-(lts|zen|hardened)$/.exec(release)?.[1];
  const own = `If there is none, the kernel is not the distribution's: give its build folder by --kernel DIR.`;
  if (like.includes('debian') || like.includes('ubuntu'))
    return `Install them: sudo apt-get install linux-headers-${release}\n${own}`;
  if (like.includes('fedora') || like.includes('rhel'))
    return `Install them: sudo dnf install kernel-devel-${release}\n${own}`;
  if (like.includes('arch'))
    return `Install them: sudo pacman -S linux-${flavour === undefined ? '' : `${flavour}-`}headers\n${own}`;
  if (like.some((name) => name.includes('suse')))
    return `Install them: sudo zypper install kernel-default-devel\n${own}`;
  return `Install the headers of ${release}: linux-headers-${release} (Debian), kernel-devel-${release} (Fedora), linux-headers (Arch).\n${own}`;
}

function checkVersion(release: string): void {
  const match = /^(\d+)\.(\d+)/.exec(release);
  if (match === null)
    throw failed(`${release} is no kernel release`, 'One looks like 6.1.0-56-amd64: see uname -r.');
  const [major, minor] = [Number(match[1]), Number(match[2])];
  const [oldMajor, oldMinor] = OLDEST_KERNEL;
  if (major > oldMajor || (major === oldMajor && minor >= oldMinor)) return;
  throw failed(
    `kernel ${release} is too old: kFlux needs ${oldMajor}.${oldMinor} or newer`,
    'Nothing else needs the module: without it cores are moved by affinity and futex.',
  );
}

/** The release that a build folder says it is of. */
function releaseOf(build: string): string | undefined {
  const generated = readFile(`${build}/include/generated/utsrelease.h`);
  return (
    /UTS_RELEASE\s+"([^"]+)"/.exec(generated ?? '')?.[1] ?? readFile(`${build}/include/config/kernel.release`)
  );
}

/** What --kernel names, or the running kernel. A folder may be the headers', a build tree, or /lib/modules/RELEASE. */
function locate(host: Host, wanted: string | undefined): { release: string; build: string } {
  if (wanted !== undefined && (wanted.includes('/') || isFolder(wanted))) {
    const folder = resolve(wanted);
    if (!isFolder(folder))
      throw failed(`there is no folder ${folder}`, 'Give --kernel a release or a build folder.');
    const inner = join(folder, 'build');
    const build =
      !existsSync(join(folder, 'Makefile')) && existsSync(join(inner, 'Makefile')) ? inner : folder;
    const release = existsSync(join(build, 'Makefile')) ? releaseOf(build) : undefined;
    if (release === undefined)
      throw failed(
        `${folder} is not the build folder of a configured kernel`,
        'It has to have a Makefile and include/generated/utsrelease.h: that of the headers package, or a tree after make modules_prepare.',
      );
    return { release, build };
  }
  const release = wanted ?? host.release;
  checkVersion(release);
  const build = `/lib/modules/${release}/build`;
  // A link into a package that was removed leads nowhere.
  if (readText(host, `${build}/Makefile`) === undefined)
    throw failed(
      `the headers of kernel ${release} are not installed: there is no ${build}`,
      headersHint(host, release),
    );
  return { release, build: host.at(build) };
}

/** Finds the kernel and checks it, the tools, and what its configuration lacks. Throws what to do. */
export function findKernel(host: Host, wanted?: string): Kernel {
  const { release, build } = locate(host, wanted);
  checkVersion(release);
  const config = readFile(join(build, 'include/config/auto.conf')) ?? '';
  const has = (option: string): boolean => config.includes(`${option}=y`) || config.includes(`${option}=m`);
  if (config !== '' && !has('CONFIG_MODULES'))
    throw failed(
      `kernel ${release} is built without modules (CONFIG_MODULES)`,
      'Use another kernel, or no module.',
    );
  if (config !== '' && !has('CONFIG_PREEMPT_NOTIFIERS'))
    throw failed(
      `kernel ${release} has no preemption notifiers (CONFIG_PREEMPT_NOTIFIERS)`,
      'They come with KVM (CONFIG_KVM): kFlux is for kernels that have it.',
    );
  if (host.find('make') === undefined)
    throw failed('make is missing', 'Install it: make (Debian, Fedora, Arch).');
  return { release, build, ...findCompiler(host, build, config) };
}

/** The kernel's own compiler, or the nearest that is here. */
function findCompiler(host: Host, build: string, config: string): Pick<Kernel, 'compiler' | 'makeArguments'> {
  if (config.includes('CONFIG_CC_IS_CLANG=y')) {
    const missing = ['clang', 'ld.lld'].filter((name) => host.find(name) === undefined);
    if (missing.length === 0) return { compiler: 'clang', makeArguments: ['LLVM=1'] };
    throw failed(
      `the kernel was built with clang, and ${missing.join(' and ')} is missing`,
      'Install clang and lld: kernel and module have to be built alike.',
    );
  }
  // Debian's headers name their compiler; others take what is called gcc.
  const named = [join(build, '.kernelvariables'), join(build, 'include/config/auto.conf')]
    .map((path) => /\bgcc-\d+\b/.exec(readFile(path) ?? '')?.[0])
    .find((name) => name !== undefined);
  if (named !== undefined && host.find(named) !== undefined)
    return { compiler: named, makeArguments: [`CC=${named}`] };
  if (host.find('gcc') !== undefined) return { compiler: 'gcc', makeArguments: ['CC=gcc'] };
  throw failed(
    `no C compiler: the kernel was built with ${named ?? 'gcc'}`,
    `Install it: ${named ?? 'gcc'} (Debian), gcc (Fedora, Arch).`,
  );
}

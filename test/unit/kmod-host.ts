/** A machine of files in a folder, with programs that are functions: for tests of `hyperflux kmod`. */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { expect } from 'vitest';
import type { Host, Ran } from '../../arbiter/kmod/host.ts';

export const RELEASE = '6.1.0-56-amd64';
const INITIAL = 'user:[4026531837]';
/** All capabilities, as root has them. */
const ROOT_CAPS = '000001ffffffffff';

export interface FakeHost extends Host {
  release: string;
  uid: number;
  root: string;
  /** Programs that are there, and what they do. */
  programs: Record<string, (args: string[]) => Ran>;
  /** Commands that were run, without the programs' folder. */
  ran: string[];
  /** What opening a device gives. */
  refused: string;
  write(path: string, text: string | Buffer): void;
  link(path: string, target: string): void;
  read(path: string): string | undefined;
  remove(path: string): void;
  end(): void;
}

export const ok = (output = ''): Ran => ({ code: 0, output });
export const fails = (output: string, code = 1): Ran => ({ code, output });

/** A Debian-like machine with modules, without kFlux, asked by root. */
export function fakeHost(): FakeHost {
  const root = mkdtempSync(join(tmpdir(), 'hf-kmod-'));
  const at = (path: string): string => join(root, path);
  const host: FakeHost = {
    ...{ root, release: RELEASE, uid: 0, programs: {}, ran: [], refused: '', at },
    find: (program) => (program in host.programs ? `/sbin/${program}` : undefined),
    run: async (command) => {
      const [program, ...args] = [command[0].replace('/sbin/', ''), ...command.slice(1)];
      host.ran.push([program, ...args].join(' '));
      return host.programs[program](args);
    },
    chown: (path, uid, gid) => void host.ran.push(`chown ${uid}:${gid} ${path.slice(root.length)}`),
    tryOpen: () => host.refused,
    write: (path, text) => {
      mkdirSync(dirname(at(path)), { recursive: true });
      writeFileSync(at(path), text);
    },
    link: (path, target) => {
      mkdirSync(dirname(at(path)), { recursive: true });
      symlinkSync(target, at(path));
    },
    read: (path) => (existsSync(at(path)) ? readFileSync(at(path), 'utf8') : undefined),
    remove: (path) => rmSync(at(path), { recursive: true, force: true }),
    end: () => rmSync(root, { recursive: true, force: true }),
  };
  host.write('/proc/modules', '');
  host.write('/proc/self/status', `Name:\tnode\nCapEff:\t${ROOT_CAPS}\n`);
  host.link('/proc/self/ns/user', INITIAL);
  host.write('/etc/os-release', 'ID=debian\nVERSION_ID="12"\n');
  host.write('/etc/group', 'root:x:0:\n');
  host.write('/etc/passwd', 'root:x:0:0::/root:/bin/sh\n');
  return host;
}

/** As the kernel shows a loaded module. */
export function showLoaded(host: FakeHost, { version = '0.1.0', abi = '1.0', refcount = 0 } = {}): void {
  host.write('/proc/modules', 'kflux 65536 0 - Live 0x0 (OE)\n');
  host.write('/sys/module/kflux/initstate', 'live\n');
  host.write('/sys/module/kflux/refcnt', `${refcount}\n`);
  host.write('/sys/module/kflux/version', `${version}\n`);
  host.write('/sys/class/misc/kflux/version', `${version}\n`);
  host.write('/sys/class/misc/kflux/abi', `${abi}\n`);
  host.write('/dev/kflux', '');
}

export function showUnloaded(host: FakeHost): void {
  for (const path of ['/sys/module/kflux', '/sys/class/misc/kflux', '/dev/kflux']) host.remove(path);
}

/** A process with something open. */
export function showProcess(
  host: FakeHost,
  pid: number,
  words: readonly string[],
  open: readonly string[],
): void {
  host.write(`/proc/${pid}/cmdline`, `${words.join('\0')}\0`);
  host.write(`/proc/${pid}/comm`, `${words[0].split('/').at(-1)}\n`);
  host.write(`/proc/${pid}/maps`, '');
  open.forEach((target, i) => host.link(`/proc/${pid}/fd/${i + 3}`, target));
}

/** What stands in a module file's .modinfo, with what may stand around it. */
export const moduleFile = (version = '0.1.0', release = RELEASE, signed = false): Buffer =>
  Buffer.from(
    `\x7fELF\0\0license=GPL\0srcversion=ABCDEF\0version=${version}\0vermagic=${release} SMP mod_unload \0rest` +
      (signed ? '~Module signature appended~\n' : ''),
    'latin1',
  );

/** A clone with a module of two files. */
export function fakeClone(host: FakeHost): string {
  const files: Record<string, string> = {
    'kmod/Makefile': 'obj-m := kflux.o\n',
    'kmod/main.c': '#include "../abi/kflux.h"\n',
    'kmod/main.mod.c': 'left by a build\n',
    'kmod/tests/fuzz.c': 'not part of it\n',
    'abi/kflux.h': '\n',
  };
  for (const [path, text] of Object.entries(files)) host.write(`/clone/${path}`, text);
  for (const name of ['dkms.conf', '60-hyperflux.rules', 'hyperflux.sysusers', 'hyperflux.modules-load'])
    host.write(`/clone/packaging/${name}`, `${name}\n`);
  return host.at('/clone');
}

/** The headers of a kernel, as a package puts them. Returns their folder. */
export function headers(
  host: FakeHost,
  release = RELEASE,
  config = 'CONFIG_MODULES=y\nCONFIG_PREEMPT_NOTIFIERS=y\n',
): string {
  const build = `/lib/modules/${release}/build`;
  host.write(`${build}/Makefile`, '');
  host.write(`${build}/include/generated/utsrelease.h`, `#define UTS_RELEASE "${release}"\n`);
  host.write(`${build}/include/config/auto.conf`, config);
  return build;
}

/** What was thrown; it has to say what to do next. */
export async function thrown(work: () => unknown): Promise<{ code: string; message: string; hint: string }> {
  try {
    await work();
  } catch (error) {
    const { code, message, hint } = error as { code: string; message: string; hint: string };
    expect(hint, message).toMatch(/./);
    return { code, message, hint };
  }
  throw new Error('nothing was thrown');
}

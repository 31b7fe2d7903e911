/** What `hyperflux doctor` looks at, one function a subject. Nothing here changes anything. */
import { accessSync, constants, existsSync, mkdirSync, statSync } from 'node:fs';
import { execFileSync } from 'node:child_process';
import type * as NativeModule from '../../native/index.ts';
import { ABI_MAJOR, ABI_MINOR } from '../abi/layout.gen.ts';
import { formatCores } from '../control/cores.ts';
import { runPaths } from '../control/paths.ts';
import { artifacts, imageAbi } from '../vm/artifacts.ts';
import { kvmFlavour, kvmTrouble, readText } from '../vm/host.ts';

export type Level = 'ok' | 'warn' | 'fail';

export interface Check {
  name: string;
  level: Level;
  text: string;
  /** What to do about it; empty if it is ok. */
  next: string;
}

export const check = (name: string, level: Level, text: string, next = ''): Check => ({
  name,
  level,
  text,
  next,
});
const abi = `${ABI_MAJOR}.${ABI_MINOR}`;

export function checkNode(): Check {
  const major = Number(process.versions.node.split('.')[0]);
  if (major >= 24) return check('node', 'ok', `Node ${process.versions.node}`);
  return check(
    'node',
    'fail',
    `Node ${process.versions.node} is too old`,
    'Run it by ./hyperflux, which uses the Node that set-up installed: npm run setup',
  );
}

export type Native = typeof NativeModule;

export async function loadNative(): Promise<{ native?: Native; check: Check }> {
  try {
    const native = await import('../../native/index.ts');
    return { native, check: check('addon', 'ok', `the native addon loads, ABI ${abi}`) };
  } catch (error) {
    return {
      check: check(
        'addon',
        'fail',
        `the native addon: ${(error as Error).message}`,
        'Build it: npm run setup',
      ),
    };
  }
}

export function checkCores(native: Native): Check {
  const cores = native.getAffinity(0);
  const list = `this process may use ${cores.length === 1 ? 'core' : 'cores'} ${formatCores(cores)}`;
  if (cores.length < 2)
    return check(
      'cores',
      'fail',
      `${list}; two are needed`,
      'See taskset and cpusets, or use a machine with more cores.',
    );
  if (cores.length === 2)
    return check(
      'cores',
      'warn',
      `${list}: one core moves, everything that is not a VM shares the arbiter's`,
      'More cores give more than one movable core.',
    );
  return check('cores', 'ok', `${list}: ${cores.length - 1} can move`);
}

export function checkKvm(): Check {
  const trouble = kvmTrouble();
  if (trouble === '') return check('kvm', 'ok', `/dev/kvm can be used (${kvmFlavour() || 'built in'})`);
  const next = trouble.includes('may not')
    ? 'Join the group that owns it: sudo usermod -aG kvm $USER, then log in again.'
    : 'Load the module (modprobe kvm_intel or kvm_amd), or switch virtualisation on in the firmware. Without it VMs run hosted.';
  return check('kvm', 'warn', trouble, next);
}

export function checkCpuset(): Check {
  const v2 = readText('/sys/fs/cgroup/cgroup.controllers')?.split(/\s+/).includes('cpuset') === true;
  const writable = (path: string): boolean => {
    try {
      accessSync(path, constants.W_OK);
      return true;
    } catch {
      return false;
    }
  };
  if (v2 && writable('/sys/fs/cgroup'))
    return check('cpuset', 'ok', 'cgroup v2 can make the managed cores a partition');
  if (v2)
    return check(
      'cpuset',
      'warn',
      'cgroup v2 is there but not writable for this user',
      'Start the daemon as root to have an exclusive partition.',
    );
  for (const path of ['/sys/fs/cgroup/cpuset', '/dev/cpuset']) {
    if (!existsSync(path)) continue;
    if (writable(path))
      return check(
        'cpuset',
        'warn',
        'cgroup v1 cpuset: other cpusets stay off the managed cores, tasks of the root cpuset do not',
        'cgroup v2 could exclude everybody.',
      );
    return check(
      'cpuset',
      'warn',
      'cgroup v1 cpuset is there but not writable for this user',
      'Start the daemon as root to use it.',
    );
  }
  return check(
    'cpuset',
    'warn',
    'no cpuset cgroup: affinity alone keeps vCPUs on their cores',
    'Nothing has to be done; other programs may run on the managed cores.',
  );
}

export function checkFifo(native: Native): Check {
  try {
    native.setSchedFifo(0, 1);
    native.setSchedOther(0);
    return check(
      'realtime',
      'ok',
      'SCHED_FIFO is permitted: the forced-park deadline is kept at real-time priority',
    );
  } catch {
    return check(
      'realtime',
      'warn',
      'SCHED_FIFO is not permitted: the forced-park deadline is kept by an ordinary thread',
      'Raise RLIMIT_RTPRIO, or give CAP_SYS_NICE.',
    );
  }
}

export function checkLatency(): Check {
  const driver = readText('/sys/devices/system/cpu/cpuidle/current_driver') ?? 'none';
  const governor =
    readText('/sys/devices/system/cpu/cpuidle/current_governor_ro') ??
    readText('/sys/devices/system/cpu/cpuidle/current_governor') ??
    'none';
  const idle = `idle driver ${driver}, governor ${governor}`;
  try {
    accessSync('/dev/cpu_dma_latency', constants.W_OK);
    return check('idle', 'ok', `${idle}; PM QoS can keep cores awake (hyperflux start --pm-qos)`);
  } catch {
    return check(
      'idle',
      'warn',
      `${idle}; /dev/cpu_dma_latency cannot be opened`,
      'Start the daemon as root to use --pm-qos.',
    );
  }
}

export function checkSmt(): Check {
  const active = readText('/sys/devices/system/cpu/smt/active');
  if (active !== '1')
    return check(
      'smt',
      'ok',
      active === '0' ? 'no SMT siblings are online' : 'this kernel says nothing about SMT',
    );
  return check(
    'smt',
    'warn',
    'SMT is on: this version hands out logical cores, so two VMs can share a physical one',
    'Where that matters, switch SMT off or leave siblings out with --cores.',
  );
}

export function checkMemfd(native: Native): Check {
  const limit = /Max locked memory\s+(\S+)/.exec(readText('/proc/self/limits') ?? '')?.[1] ?? 'unknown';
  try {
    native.closeFd(native.createSealedMemfd('hyperflux-doctor', 4096));
    return check('memory', 'ok', `sealed memory files work; limit of locked memory ${limit}`);
  } catch (error) {
    return check(
      'memory',
      'fail',
      `no sealed memory files: ${(error as Error).message}`,
      'A Linux kernel since 3.17 has them; a sandbox may forbid them.',
    );
  }
}

export function checkRunDirectory(native: Native): Check {
  const paths = runPaths();
  try {
    mkdirSync(paths.dir, { recursive: true, mode: 0o700 });
    if (statSync(paths.dir).uid !== process.getuid?.()) throw new Error('it belongs to somebody else');
    const lock = native.lockFile(paths.daemonLock);
    if (lock !== null) native.closeFd(lock);
    return check(
      'directory',
      'ok',
      `run directory ${paths.dir}${lock === null ? ', a daemon is running' : ''}`,
    );
  } catch (error) {
    return check(
      'directory',
      'fail',
      `the run directory ${paths.dir} cannot be used: ${(error as Error).message}`,
      'Set HYPERFLUX_RUN to a directory of yours.',
    );
  }
}

function version(program: string): string {
  return execFileSync(program, ['--version'], { encoding: 'utf8', timeout: 5000 }).trim();
}

function checkProgram(name: string, path: string, what: string): Check {
  if (!existsSync(path))
    return check(name, 'fail', `${what} is not built: there is no ${path}`, 'Build it: npm run setup');
  try {
    return check(name, 'ok', `${what}: ${version(path)}`);
  } catch (error) {
    return check(
      name,
      'fail',
      `${what} does not start: ${(error as Error).message.split('\n')[0]}`,
      'Build it again: npm run build',
    );
  }
}

export const checkFluxion = (): Check => checkProgram('fluxion', artifacts.fluxion, 'Fluxion');
export const checkHosted = (): Check => checkProgram('hosted', artifacts.hosted, 'the hosted FluxOS');

export function checkGuestImage(): Check {
  const path = artifacts.image;
  if (!existsSync(path))
    return check(
      'image',
      'fail',
      `the guest image is not built: there is no ${path}`,
      'Build it: npm run setup',
    );
  try {
    const found = imageAbi(path);
    if (found === undefined)
      return check('image', 'fail', 'the guest image has no HyperFlux note', 'Build it again: npm run build');
    const text = `the guest image has ABI ${found.major}.${found.minor}`;
    if (found.major === ABI_MAJOR) return check('image', 'ok', text);
    return check('image', 'fail', `${text}, this program ${abi}`, 'Build it again: npm run build');
  } catch (error) {
    return check('image', 'fail', (error as Error).message, (error as { hint?: string }).hint ?? '');
  }
}

/** What the lab fetches QEMU and its kernels with; it installs nothing. */
export function checkLab(): Check {
  const folders = [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/sbin'];
  const needed = ['apt-get', 'dpkg-deb', 'mke2fs', 'cc', 'make', 'ldd'];
  const missing = needed.filter((program) => !folders.some((dir) => existsSync(`${dir}/${program}`)));
  if (missing.length === 0)
    return check('qemu', 'ok', 'the lab can fetch its own QEMU and kernels: hyperflux lab -- doctor');
  return check(
    'qemu',
    'warn',
    `the lab needs ${missing.join(', ')}`,
    'Only the lab needs them: apt-get install apt dpkg e2fsprogs gcc libc6-dev make libc-bin',
  );
}

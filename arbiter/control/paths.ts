/** The run directory and what lies in it. */
import { existsSync, mkdirSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';

export interface RunPaths {
  dir: string;
  control: string;
  daemonLock: string;
  arbiterLock: string;
  vms: string;
  logs: string;
  /** A VM's own directory: it may remove files there, and only there. */
  vmDirectory(name: string): string;
  vmSocket(name: string): string;
  log(name: string): string;
}

export function runDirectory(env: NodeJS.ProcessEnv = process.env): string {
  if (env.HYPERFLUX_RUN) return env.HYPERFLUX_RUN;
  if (process.getuid?.() === 0) return '/run/hyperflux';
  return join(env.XDG_RUNTIME_DIR || `/tmp/hyperflux-${process.getuid?.() ?? 0}`, 'hyperflux');
}

/** The socket of a VM, given the directory that all VMs' directories are in. */
export const socketIn = (vms: string, name: string): string => join(vms, name, 'sock');

/** Names of the VMs that have a socket, alive or not. */
export function vmNames({ vms }: RunPaths): string[] {
  try {
    return readdirSync(vms).filter((name) => existsSync(socketIn(vms, name)));
  } catch {
    return [];
  }
}

export function runPaths(dir: string = runDirectory()): RunPaths {
  const vms = join(dir, 'vm');
  const logs = join(dir, 'log');
  return {
    dir,
    control: join(dir, 'control.sock'),
    daemonLock: join(dir, 'daemon.lock'),
    arbiterLock: join(dir, 'arbiter.lock'),
    vms,
    logs,
    vmDirectory: (name) => join(vms, name),
    vmSocket: (name) => socketIn(vms, name),
    log: (name) => join(logs, `${name}.log`),
  };
}

/** Longest path that a Unix socket can have, with room for the VM's name. */
const SOCKET_PATH_MAX = 107;

/** Makes the directories, readable by this user only. Throws with what to do if they cannot be used. */
export function prepareRun(paths: RunPaths): void {
  const longest = paths.vmSocket('x'.repeat(31)).length;
  if (longest > SOCKET_PATH_MAX) {
    throw Object.assign(
      new Error(
        `the run directory ${paths.dir} has too long a name: sockets in it would be ${longest} bytes, ${SOCKET_PATH_MAX} are possible`,
      ),
      { code: 'usage', hint: 'Set HYPERFLUX_RUN to a shorter path.' },
    );
  }
  for (const dir of [paths.dir, paths.vms, paths.logs]) mkdirSync(dir, { recursive: true, mode: 0o700 });
  const { uid, mode } = statSync(paths.dir);
  if (uid !== process.getuid?.() || (mode & 0o022) !== 0) {
    throw Object.assign(new Error(`the run directory ${paths.dir} is not only this user's`), {
      code: 'permission',
      hint: `Others could put sockets into it. Fix it with: chmod 700 ${paths.dir}, or set HYPERFLUX_RUN to another one.`,
    });
  }
}

/** A VM's process: what it is started with, whether it lives, what its log says. */
import { closeSync, existsSync, openSync, readFileSync, readSync, statSync } from 'node:fs';
import { kill } from '../../native/index.ts';
import type { RunRequest } from '../control/protocol.ts';

export interface Launch {
  program: string;
  args: string[];
}

export interface LaunchOptions {
  request: RunRequest;
  hosted: boolean;
  program: string;
  image: string;
  slot: number;
  /** Descriptor 4 will be its VM of kFlux. */
  kflux?: boolean;
  maxCores: number;
  socket: string;
  /** The cores that it may use while nobody manages it. */
  cpus: string;
}

/** The command line of a Fluxion, or of the hosted FluxOS, which takes the same. */
export function launch({
  request,
  hosted,
  program,
  image,
  slot,
  kflux,
  maxCores,
  socket,
  cpus,
}: LaunchOptions): Launch {
  const args = ['--name', request.name];
  if (!hosted) args.push('--image', image);
  args.push('--vcpus', String(request.vcpus), '--mem', String(request.mem_mib), '--class', request.class);
  args.push('--min-cores', String(request.min_cores), '--max-cores', String(maxCores));
  args.push('--socket', socket, '--cpus', request.cpus ?? cpus);
  args.push('--cmdline', [request.workload, ...request.args].join(' '));
  // An unmanaged VM has a table of its own: the arbiter does not even see it.
  if (request.unmanaged) args.push('--unmanaged');
  else args.push('--table-fd', '3', '--slot', String(slot));
  if (kflux) args.push('--kflux-fd', '4');
  if (request.idle_spin_ns !== undefined) args.push('--idle-spin-ns', String(request.idle_spin_ns));
  if (request.stats) args.push('--stats');
  return { program, args };
}

/** Whether this process is the VM's: numbers of processes are used again. */
export function isVmProcess(pid: number, name: string): boolean {
  if (pid < 2) return false;
  try {
    const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
    const at = words.indexOf('--name');
    return at >= 0 && words[at + 1] === name;
  } catch {
    return false;
  }
}

export function signalVm(pid: number, name: string, signal: number): void {
  if (!isVmProcess(pid, name)) return;
  try {
    kill(pid, signal);
  } catch {
    // It went meanwhile.
  }
}

/** Bytes that a log has now; what is written later begins there. */
export const logSize = (path: string): number => (existsSync(path) ? statSync(path).size : 0);

/** The last lines of a log from an offset on, for an error message. */
export function logTail(path: string, from = 0, lines = 12): string {
  if (!existsSync(path)) return '';
  const size = statSync(path).size;
  const start = Math.max(from, size - 16384);
  const buffer = Buffer.alloc(Math.max(0, size - start));
  const fd = openSync(path, 'r');
  try {
    readSync(fd, buffer, 0, buffer.length, start);
  } finally {
    closeSync(fd);
  }
  return buffer.toString('utf8').trimEnd().split('\n').slice(-lines).join('\n');
}

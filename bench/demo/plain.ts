/**
 * The stage of the plain phases: the VMs run unmanaged under the ordinary scheduler,
 * with the affinity that the phase gives them, and nobody moves anything. Requests
 * are released by a native thread of this process.
 */
import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { formatCores } from '../../arbiter/control/cores.ts';
import { launch, logTail } from '../../arbiter/vm/process.ts';
import { Releaser } from '../../native/index.ts';
import { attach } from './attach.ts';
import type { AttachedVm } from './attach.ts';
import type { Cleanup, KnownProcess } from './cleanup.ts';
import { endProcess, knownProcess, until } from './cleanup.ts';
import { batch, requestFor, serve } from './guests.ts';
import type { Backend } from './guests.ts';
import { noCounters } from './phases.ts';
import type { Phase, Stage } from './phases.ts';

const START_MS = 15_000;

export interface StageOptions {
  backend: Backend;
  /** A directory of this run's own. */
  directory: string;
  cleanup: Cleanup;
  /** Starts a process or a thread that is to have all cores and not only this process's. */
  readonly unpinned: <T>(start: () => T) => T;
}

export interface PlainOptions extends StageOptions {
  /** Spinning on a core of its own, or sleeping between arrivals wherever there is room. */
  releaser: { core: number } | { fifo: number };
}

interface RunningVm {
  name: string;
  process: KnownProcess;
  attached: AttachedVm;
  log: string;
  stop(): Promise<void>;
}

/** The end of a VM's log: why it did not start, most likely. */
export function lastWords(log: string): string {
  const tail = logTail(log, 0, 3).replaceAll('\n', '; ');
  return tail === '' ? 'its log is empty' : tail;
}

async function startVm(guest: typeof serve, phase: Phase, options: PlainOptions): Promise<RunningVm> {
  const { backend, directory, cleanup, unpinned } = options;
  const name = guest.name;
  const socket = join(directory, `${phase.id}-${name}.sock`);
  const log = join(directory, `${phase.id}-${name}.log`);
  const vcpus = phase.cores.length;
  const command = launch({
    // An idle guest blocks at once: under the ordinary scheduler a core that spins is a core that is lost.
    request: requestFor(guest, vcpus, backend, { unmanaged: true, idle_spin_ns: 0 }),
    ...{ hosted: backend.hosted, program: backend.program, image: backend.image },
    ...{ slot: 0, maxCores: vcpus, socket, cpus: formatCores(phase.cores) },
  });
  const logFd = openSync(log, 'w', 0o600);
  const child = unpinned(() =>
    spawn(command.program, command.args, { stdio: ['ignore', logFd, logFd], detached: true }),
  );
  closeSync(logFd);
  let over = '';
  child.on('error', (error) => (over = error.message));
  child.on('exit', (code, signal) => (over = signal === null ? `exit code ${code}` : `signal ${signal}`));
  const process = knownProcess(child.pid ?? 0);
  let attached: AttachedVm | undefined;
  const stop = cleanup.add(
    `the VM ${name}`,
    async () => {
      attached?.close();
      await endProcess(process);
    },
    () => process.kill('SIGKILL'),
  );
  const booted = (): boolean => {
    cleanup.check();
    if (over !== '') return true;
    attached ??= tryAttach(socket);
    return attached?.figures.booted() ?? false;
  };
  const up = await until(booted, START_MS);
  if (attached === undefined || over !== '' || !up) {
    await stop();
    const what = over === '' ? `not up after ${START_MS} ms` : over;
    throw new Error(`the VM ${name} did not start (${what}): ${lastWords(log)}`);
  }
  return { name, process, attached, log, stop };
}

/** Undefined as long as the socket is not there, or nobody listens yet. */
function tryAttach(socket: string): AttachedVm | undefined {
  try {
    return attach(socket);
  } catch (error) {
    const { code } = error as { code?: string };
    if (code === 'ENOENT' || code === 'ECONNREFUSED') return undefined;
    throw error;
  }
}

export interface PlainStage extends Stage {
  /** Whether the releaser's thread got the real-time priority that it was to have. */
  readonly fifo: boolean;
}

export async function startPlain(phase: Phase, options: PlainOptions): Promise<PlainStage> {
  const { releaser: how, unpinned } = options;
  const vms: RunningVm[] = [];
  let releaser: Releaser | undefined;
  async function stop(): Promise<void> {
    releaser?.stop();
    for (const vm of vms.splice(0)) await vm.stop();
  }
  try {
    const served = await startVm(serve, phase, options);
    vms.push(served);
    if (phase.batch) vms.push(await startVm(batch, phase, options));
    const { slot, tableBuffer, pageFd } = served.attached;
    const thread = Releaser.open(tableBuffer);
    releaser = thread;
    const fifo =
      'core' in how
        ? thread.runThread({ core: how.core, spin: 'busy' })
        : unpinned(() => thread.runThread({ fifo: how.fifo, spin: 'hybrid' }));
    return {
      fifo,
      async release(area): Promise<void> {
        thread.remove(slot);
        thread.add(slot, pageFd, area.fd);
      },
      blocks: () => vms.find((vm) => vm.name === batch.name)?.attached.figures.done(),
      integrityErrors: () => vms.reduce((sum, vm) => sum + vm.attached.figures.integrityErrors(), 0),
      counters: () => noCounters,
      check(): void {
        for (const { name, process, attached, log } of vms) {
          const trouble = process.alive() ? attached.figures.trouble() : 'has died';
          if (trouble !== undefined) throw new Error(`the VM ${name} ${trouble}: ${lastWords(log)}`);
        }
      },
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

/**
 * The stage of the HyperFlux phase: a daemon of the demo's own, in a run directory of
 * its own, with its arbiter on the arbiter's core. What may run on this machine under
 * another daemon is not touched. Requests are released by the arbiter's loop at the
 * end of each turn.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { join } from 'node:path';
import { ControlClient } from '../../arbiter/control/client.ts';
import type { RunPaths } from '../../arbiter/control/paths.ts';
import { runPaths } from '../../arbiter/control/paths.ts';
import type { StatusInfo } from '../../arbiter/control/protocol.ts';
import type { Stats } from '../../arbiter/loop/stats.ts';
import { counter, STATS_BYTES, statsOver } from '../../arbiter/loop/stats.ts';
import { calibrateTsc, closeFd, mapShared, openAt, tscNow, unmap } from '../../native/index.ts';
import { summarize } from '../lib/stats.ts';
import { attach } from './attach.ts';
import type { AttachedVm } from './attach.ts';
import type { KnownProcess } from './cleanup.ts';
import { endProcess, knownProcess, until } from './cleanup.ts';
import { batch, requestFor, serve } from './guests.ts';
import type { Phase, Stage } from './phases.ts';
import type { StageOptions } from './plain.ts';
import { lastWords } from './plain.ts';
import type { MoveLatency } from './report.ts';
import { makeSampler } from './sampler.ts';

export interface ManagedOptions extends StageOptions {
  arbiterCore: number;
  /** The daemon's policy; delay unless it is named. */
  policy?: string;
}

export interface ManagedStage extends Stage {
  moveLatency(): MoveLatency;
  /** What a reader should know of how it went. */
  remarks(): string[];
}

const daemonMain = fileURLToPath(new URL('../../arbiter/control/main.ts', import.meta.url));
const STOP_MS = 10_000;

interface Daemon {
  client: ControlClient;
  paths: RunPaths;
  /** Everything that the daemon has started and that has to be gone in the end. */
  processes: KnownProcess[];
  stop(): Promise<void>;
}

/** The one line that the daemon writes when it is ready, or why it is not. */
async function readiness(child: ChildProcess, log: string, arbiterLog: string): Promise<void> {
  const lines = createInterface({ input: child.stdio[3] as Readable });
  const ended = new Promise<never>((_, reject) => {
    child.once('error', (error) => reject(new Error(`the daemon could not be started: ${error.message}`)));
    child.once('exit', (code) => reject(new Error(`the daemon ended with ${code}: ${lastWords(log)}`)));
  });
  ended.catch(() => undefined);
  const first = new Promise<string>((resolve) => lines.once('line', resolve));
  try {
    const answer = JSON.parse(await Promise.race([first, ended])) as { ready: boolean; message?: string };
    if (answer.ready) return;
    const why = answer.message ?? lastWords(log);
    throw new Error(`the daemon is not ready: ${why}; the arbiter's log ends with: ${lastWords(arbiterLog)}`);
  } finally {
    lines.close();
  }
}

async function startDaemon(phase: Phase, options: ManagedOptions): Promise<Daemon> {
  const { directory, cleanup, unpinned, arbiterCore } = options;
  const paths = runPaths(join(directory, 'run'));
  const log = join(directory, 'daemon.log');
  const config = {
    ...{ run: paths.dir, arbiter_core: arbiterCore, cores: phase.cores, policy: options.policy ?? 'delay' },
    // The plain phases have no cpuset either, and a running system's must stay as it is.
    cpuset: 'off',
  };
  const logFd = openSync(log, 'w', 0o600);
  const child = unpinned(() =>
    spawn(process.execPath, [daemonMain, JSON.stringify(config)], {
      detached: true,
      stdio: ['ignore', logFd, logFd, 'pipe'],
    }),
  );
  closeSync(logFd);
  // The daemon comes first among those to be killed, because it would start the others again.
  const processes = [knownProcess(child.pid ?? 0)];
  const connection: { client?: ControlClient } = {};
  const stop = cleanup.add(
    'the daemon, its arbiter and its VMs',
    async () => {
      const { client } = connection;
      await client?.ask('shutdown', { vms: true }).catch(() => undefined);
      client?.close();
      const gone = (): boolean => processes.every((known) => !known.alive());
      if (client !== undefined && (await until(gone, STOP_MS))) return;
      for (const known of processes) await endProcess(known, STOP_MS);
    },
    () => processes.forEach((known) => known.kill('SIGKILL')),
  );
  await Promise.race([readiness(child, log, paths.log('arbiter')), whenClosed(cleanup)]);
  const client = await ControlClient.connect(paths);
  connection.client = client;
  const { arbiter } = await client.ask<StatusInfo>('status');
  processes.push(knownProcess(arbiter.pid));
  return { client, paths, processes, stop };
}

/** Rejects once the run is to end. */
async function whenClosed(cleanup: StageOptions['cleanup']): Promise<never> {
  for (;;) {
    cleanup.check();
    await new Promise((resolve) => setTimeout(resolve, 50).unref());
  }
}

/** The loop's statistics, where the arbiter has them: descriptor 4, as the supervisor gave it. */
function mapStats(arbiterPid: number): { buffer: ArrayBuffer; stats: Stats } {
  const fd = openAt(null, `/proc/${arbiterPid}/fd/4`);
  try {
    const buffer = mapShared(fd, STATS_BYTES);
    return { buffer, stats: statsOver(buffer) };
  } finally {
    closeFd(fd);
  }
}

const GRANTS = counter('grants');
const MOVES = counter('moves');

export async function startManaged(phase: Phase, options: ManagedOptions): Promise<ManagedStage> {
  const { backend } = options;
  const daemon = await startDaemon(phase, options);
  const { client, paths, processes } = daemon;
  const vms: AttachedVm[] = [];
  const remarks: string[] = [];
  let statistics: ReturnType<typeof mapStats> | undefined;

  async function stop(): Promise<void> {
    for (const vm of vms.splice(0)) vm.close();
    if (statistics !== undefined) unmap(statistics.buffer);
    statistics = undefined;
    await remarkRestarts();
    await daemon.stop();
  }

  async function remarkRestarts(): Promise<void> {
    const status = await client.ask<StatusInfo>('status').catch(() => undefined);
    if (status === undefined) return;
    const { restarts, last_fault: fault } = status.arbiter;
    if (restarts > 0) remarks.push(`The arbiter was restarted ${restarts} times under HyperFlux: ${fault}.`);
  }

  async function startVm(guest: typeof serve): Promise<AttachedVm> {
    const { pid, managed } = await client.ask<{ pid: number; managed: boolean }>(
      'run',
      requestFor(guest, phase.cores.length, backend),
    );
    processes.push(knownProcess(pid));
    if (!managed)
      throw new Error(`the arbiter does not manage the VM ${guest.name}: ${lastWords(paths.log('arbiter'))}`);
    const vm = attach(paths.vmSocket(guest.name));
    vms.push(vm);
    return vm;
  }

  try {
    const [served, batching] = [await startVm(serve), await startVm(batch)];
    const { table } = served;
    statistics = mapStats(processes[1].pid);
    const { counters } = statistics.stats;
    const watched = [...served.figures.vcpus, ...batching.figures.vcpus];
    const { stats } = statistics;
    let sampler = makeSampler(table, stats, watched, calibrateTsc().khz);
    const now = new Int32Array(2);
    const sum = (of: (vm: AttachedVm) => number): number => vms.reduce((total, vm) => total + of(vm), 0);
    return {
      async release(area): Promise<void> {
        await client.ask('load', { name: serve.name, pid: process.pid, fd: area.fd });
        sampler = makeSampler(table, stats, watched, calibrateTsc().khz);
      },
      sample(): void {
        tscNow(now);
        sampler.look((now[1] >>> 0) * 4294967296 + (now[0] >>> 0));
      },
      blocks: () => batching.figures.done(),
      integrityErrors: () => sum((vm) => vm.figures.integrityErrors()),
      counters: () => ({
        moves: sum((vm) => vm.figures.grants()),
        decided: counters[GRANTS] + counters[MOVES],
        forced: sum((vm) => vm.figures.forced()),
        forcedDescheduled: sum((vm) => vm.figures.forcedDescheduled()),
      }),
      check(): void {
        if (!processes[0].alive()) throw new Error(`the daemon has died: ${lastWords(paths.log('daemon'))}`);
        for (const [vm, { name }] of [[served, serve] as const, [batching, batch] as const]) {
          const trouble = vm.figures.trouble();
          if (trouble !== undefined)
            throw new Error(`the VM ${name} ${trouble}: ${lastWords(paths.log(name))}`);
        }
      },
      stop,
      remarks: () => remarks,
      moveLatency(): MoveLatency {
        const { samples, inherited } = sampler.outcome();
        const summary = summarize(samples);
        const rest = `${inherited} with grants to heirs among them were left out`;
        const source = `the latest decided grant of each vCPU, looked at in each pause of the load; ${rest}`;
        return { summary, source };
      },
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

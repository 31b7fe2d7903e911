/** What hyperfluxd does for each request. */
import { existsSync } from 'node:fs';
import { tscNow } from '../../native/index.ts';
import { readRecords } from '../observe/explain.ts';
import { findPolicy } from '../policy/registry.ts';
import type { Cpuset } from '../vm/cpuset.ts';
import type { Fleet } from '../vm/fleet.ts';
import type { Pool } from '../vm/host.ts';
import type { Section } from '../vm/section.ts';
import { reconfigure, sections, setLoad } from '../vm/section.ts';
import type { Moving } from './bridge.ts';
import type { DaemonConfig } from './config.ts';
import type { RunPaths } from './paths.ts';
import type { ControlOp, RunRequest, StatusInfo, VmInfo } from './protocol.ts';
import { ControlError, VERSION } from './protocol.ts';
import { abiVersion, arbiterInfo, isAdopted, listVms, loopStats } from './report.ts';
import type { Handler } from './server.ts';
import type { Shared } from './shared.ts';
import type { Supervisor } from './supervisor.ts';

export interface Daemon {
  paths: RunPaths;
  config: DaemonConfig;
  pool: Pool;
  shared: Shared;
  moving: Moving;
  supervisor: Supervisor;
  fleet: Fleet;
  cpuset: Cpuset;
  startedAt: number;
  /** Ends the daemon, after the answer to the request is out. */
  shutdown(): void;
}

/** How long the arbiter may take to see a change in the table. */
const ARBITER_MS = 2000;

export function makeHandler(daemon: Daemon): Handler {
  const { paths, shared, fleet } = daemon;
  const list = (): Promise<VmInfo[]> => listVms(shared, fleet, paths, daemon.supervisor.live);
  /** Requests that start or stop VMs are carried out one after the other, whoever sends them. */
  let turn: Promise<unknown> = Promise.resolve();
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const result = turn.then(work);
    turn = result.catch(() => {});
    return result;
  };

  async function loadState(slot: number, wanted: (state: number) => boolean): Promise<number> {
    const end = performance.now() + ARBITER_MS;
    while (!wanted(shared.stats.loads[slot]) && performance.now() < end) {
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    return shared.stats.loads[slot];
  }

  const sectionOf = (name: string): Section => {
    const section = fleet.section(name);
    if (section !== undefined) return section;
    throw new ControlError(
      'not-found',
      `there is no managed VM called ${name}`,
      'hyperflux ps shows the VMs.',
    );
  };

  /** Announces need; the arbiter reads it from the table within a millisecond or so. */
  function hint(name: string, wanted: number, us: number): object {
    const { slot, maxCores } = sectionOf(name);
    const now = new Int32Array(2);
    tscNow(now);
    const ticks = (us * shared.tscKhz) / 1000;
    const untilTsc = (now[0] >>> 0) + (now[1] >>> 0) * 2 ** 32 + Math.round(ticks);
    const cores = Math.min(wanted, maxCores);
    reconfigure(shared.table, slot, { hint: { cores, untilTsc } });
    return { slot, cores, us, heeded: daemon.config.policy === 'proactive' };
  }

  /** Arms a load area: the arbiter's releaser opens it and publishes its requests when they are due. */
  async function load(name: string, pid: number, fd: number): Promise<object> {
    const section = sectionOf(name);
    if (pid !== 0 && !existsSync(`/proc/${pid}/fd/${fd}`)) {
      throw new ControlError(
        'request',
        `process ${pid} has no descriptor ${fd}`,
        'The load area has to stay open until it is armed.',
      );
    }
    // Taken away first, so that the same area can be armed again.
    setLoad(shared.table, section.slot, 0, 0);
    if ((await loadState(section.slot, (state) => state === 0)) !== 0) throw unseen(name);
    if (pid === 0) return { slot: section.slot };
    setLoad(shared.table, section.slot, pid, fd);
    const state = await loadState(section.slot, (seen) => seen !== 0);
    if (state === 0) throw unseen(name);
    if (state < 0)
      throw new ControlError(
        'request',
        `the arbiter refused the load area for ${name}`,
        `Its log says why: ${paths.log('arbiter')}`,
      );
    return { slot: section.slot };
  }

  const unseen = (name: string): ControlError =>
    new ControlError(
      'failed',
      `the arbiter did not look at ${name} in time`,
      'hyperflux status tells whether the arbiter is live.',
    );

  function status(): StatusInfo {
    const { pool, config, moving, supervisor, cpuset } = daemon;
    const all = sections(shared.table);
    const { state, epoch, warm_up_us, deadline_thread, time } = arbiterInfo(shared);
    return {
      version: VERSION,
      abi: abiVersion,
      pid: process.pid,
      uptime_s: Math.round((performance.now() - daemon.startedAt) / 1000),
      run_dir: paths.dir,
      bridge: moving.kind,
      bridge_why: moving.why,
      policy: { name: config.policy, params: findPolicy(config.policy)?.params.parse(config.params) ?? {} },
      pool: { arbiter_core: pool.arbiterCore, cores: pool.cores, cpuset: cpuset.text },
      arbiter: {
        pid: supervisor.arbiterPid,
        state: supervisor.live
          ? 'live'
          : supervisor.arbiterPid === 0
            ? 'restarting'
            : state === 'live'
              ? 'starting'
              : state,
        epoch,
        restarts: supervisor.restarts,
        last_fault: supervisor.lastFault,
        warm_up_us,
        deadline_thread,
        time,
      },
      vms: {
        managed: supervisor.live ? all.filter((section) => isAdopted(shared, section)).length : 0,
        all: all.length + fleet.unmanaged().length,
      },
    };
  }

  async function stopAll(): Promise<{ stopped: string[]; failed: { name: string; message: string }[] }> {
    const stopped: string[] = [];
    const failed: { name: string; message: string }[] = [];
    for (const { name } of await list()) {
      try {
        await fleet.stop(name);
        stopped.push(name);
      } catch (error) {
        failed.push({ name, message: (error as Error).message });
      }
    }
    return { stopped, failed };
  }

  type Answer = (fields: Record<string, never>) => Promise<object> | object;
  const answers: Record<ControlOp, Answer> = {
    status,
    ps: async () => ({ vms: await list() }),
    run: (fields: unknown) => inTurn(() => fleet.run(fields as RunRequest)),
    stop: ({ name }) => inTurn(async () => (await fleet.stop(name), { name })),
    'stop-all': () => inTurn(stopAll),
    shutdown: ({ vms }) =>
      inTurn(async () => {
        const result = vms ? await stopAll() : { stopped: [], failed: [] };
        daemon.shutdown();
        return result;
      }),
    load: ({ name, pid, fd }) => load(name, pid, fd),
    unload: ({ name }) => load(name, 0, 0),
    hint: ({ name, cores, us }) => hint(name, cores, us),
    decisions: ({ count }) => ({ decisions: readRecords(shared.stats, count) }),
    stats: () => loopStats(shared),
  };
  return async (op, fields) => answers[op](fields as Record<string, never>);
}

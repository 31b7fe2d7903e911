/**
 * hyperfluxd: the control socket, the arbiter's supervision, and the parent of every
 * Fluxion. It can end and start again without the VMs or the arbiter noticing.
 *
 * Started by `hyperflux start` with its configuration as one JSON argument. Prints
 * one line of JSON on descriptor 3 if that is open: ready, or why not. With
 * --foreground it runs in the process of the command itself, which is what a service
 * manager watches.
 */
import { fstatSync, ftruncateSync, readFileSync, writeSync } from 'node:fs';
import pino from 'pino';
import {
  closeFd,
  getAffinity,
  holdCpuDmaLatency,
  kill,
  lockFile,
  notify,
  pinProcess,
} from '../../native/index.ts';
import { W_TABLE_ARBITER_CORE, W_TABLE_MANAGED } from '../abi/layout.gen.ts';
import { findPolicy } from '../policy/registry.ts';
import { readRules, RulesError, type RuleSet } from '../policy/rules/file.ts';
import { makeCpuset } from '../vm/cpuset.ts';
import { Fleet } from '../vm/fleet.ts';
import { choosePool } from '../vm/host.ts';
import type { Moving } from './bridge.ts';
import { choose, situation, useBridge } from './bridge.ts';
import { formatCores } from './cores.ts';
import type { Pool } from '../vm/host.ts';
import type { DaemonConfig } from './config.ts';
import { daemonConfig } from './config.ts';
import { makeHandler } from './handlers.ts';
import { Notifier, takeTarget } from './notify.ts';
import { prepareRun, runPaths } from './paths.ts';
import { ControlError, describeIssues, toError } from './protocol.ts';
import { serve } from './server.ts';
import type { Shared } from './shared.ts';
import { openShared } from './shared.ts';
import { loopProgress } from './report.ts';
import { START_MS, Supervisor } from './supervisor.ts';

const READY_FD = 3;

/** Tells whoever started the daemon; it may have gone. */
function report(message: object): void {
  try {
    if (!fstatSync(READY_FD).isFIFO() && !fstatSync(READY_FD).isSocket()) return;
    writeSync(READY_FD, `${JSON.stringify(message)}\n`);
    closeFd(READY_FD);
  } catch {
    // Not given, or nobody reads it.
  }
}

/** Whether the arbiter that runs already has the pool that was asked for. */
function samePool(shared: Shared, pool: Pool): boolean {
  if (shared.table[W_TABLE_ARBITER_CORE] !== pool.arbiterCore) return false;
  const mask = new Int32Array(8);
  for (const core of pool.cores) mask[core >> 5] |= 1 << (core & 31);
  return mask.every((word, i) => shared.table[W_TABLE_MANAGED + i] === word);
}

type Log = pino.Logger;

/** Ends the arbiter of an earlier daemon; its VMs go on unmanaged until the next one adopts them. */
async function replaceArbiter(shared: Shared, why: string, log: Log): Promise<void> {
  const { arbiterPid } = shared;
  log.warn({ arbiter: arbiterPid }, `the running arbiter is replaced: ${why}`);
  for (let tries = 0; isAlive(arbiterPid) && tries < 200; tries++) {
    if (tries === 0 || tries === 150) process.kill(arbiterPid, tries === 0 ? 'SIGTERM' : 'SIGKILL');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  shared.arbiterPid = 0;
}

function isAlive(pid: number): boolean {
  try {
    kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** Settles who moves the cores of this table, and says so. */
async function settleBridge(shared: Shared, config: DaemonConfig, log: Log): Promise<Moving> {
  const found = situation(shared, config.bridge);
  const choice = choose(found);
  if (choice.kind !== found.present && shared.arbiterPid !== 0)
    await replaceArbiter(shared, `cores are moved by ${choice.kind} now`, log);
  const moving = useBridge(shared, choice, found);
  log[moving.against ? 'warn' : 'info'](
    { bridge: moving.kind, asked: config.bridge },
    `bridge: ${moving.why}`,
  );
  return moving;
}

/** The rules of `classes`, whose numbers become the policy's parameters; other policies have none. */
function takeRules(config: DaemonConfig): RuleSet | undefined {
  const { policy, rules: path } = config;
  if ((path !== undefined) !== (policy === 'classes')) {
    const hint =
      'hyperflux start --policy classes --policy-params rules=FILE; docs/policies.md describes the file.';
    throw new ControlError(
      'usage',
      path === undefined ? 'the policy classes needs a file of rules' : `the policy ${policy} has no rules`,
      hint,
    );
  }
  if (path === undefined) return undefined;
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw new ControlError('usage', `the rules cannot be read: ${(error as Error).message}`);
  }
  let set: RuleSet;
  try {
    set = readRules(text, path);
  } catch (error) {
    if (!(error instanceof RulesError)) throw error;
    throw new ControlError('usage', error.message, error.hint);
  }
  config.params = { ...set.params, ...config.params };
  return set;
}

/** The policy's own parameters, before anything is begun: the arbiter takes them as they are. */
function checkParams({ policy, params }: DaemonConfig): void {
  const schema = findPolicy(policy)!.params;
  const parsed = schema.safeParse(params);
  if (parsed.success) return;
  const known = Object.entries(schema.parse({})).map(([name, value]) => `${name} (${value})`);
  throw new ControlError(
    'usage',
    `the policy ${policy} does not take these parameters: ${describeIssues(parsed.error)}`,
    `It has, with their defaults: ${known.join(', ')}.`,
  );
}

export interface Ready {
  pid: number;
  pool: Pool;
  cpuset: string;
  bridge: string;
  bridge_why: string;
}

/** Becomes the daemon; returns when the arbiter is live. Throws why not, before anything is left behind but an arbiter. */
export async function runDaemon(argument: string): Promise<Ready> {
  const target = takeTarget(process.env, process.pid);
  const config = daemonConfig.parse(JSON.parse(argument));
  const rules = takeRules(config);
  checkParams(config);
  const paths = runPaths(config.run);
  prepareRun(paths);
  const lock = lockFile(paths.daemonLock);
  if (lock === null) {
    const pid = readFileSync(paths.daemonLock, 'utf8').trim();
    throw new ControlError(
      'running',
      `a daemon is running already in ${paths.dir} (process ${pid})`,
      'One run directory has one daemon and one arbiter. Use it, stop it with: hyperflux stop --daemon, or set HYPERFLUX_RUN to another directory.',
    );
  }
  ftruncateSync(lock);
  writeSync(lock, `${process.pid}\n`);
  const log = pino(
    { level: config.log_level, base: { pid: process.pid } },
    pino.destination({ dest: paths.log('daemon'), append: true, mode: 0o600, sync: true }),
  );
  process.on('uncaughtException', (error) => {
    log.fatal({ err: error }, 'uncaught exception');
    process.exit(1);
  });

  const allowed = getAffinity(0);
  const pool = choosePool(allowed, config.arbiter_core, config.cores);
  // The managed cores are for VMs: this process and what it starts stay off them.
  const housekeeping = allowed.filter((core) => !pool.cores.includes(core));
  pinProcess(housekeeping.length > 0 ? housekeeping : [pool.arbiterCore]);
  const latency = config.pm_qos ? holdCpuDmaLatency(0) : null;

  const shared = openShared(paths, config);
  log.info({ origin: shared.origin, arbiter: shared.arbiterPid }, 'hand-off table');
  if (shared.arbiterPid !== 0 && !samePool(shared, pool)) {
    await replaceArbiter(shared, 'it has another pool', log);
  }
  const moving = await settleBridge(shared, config, log);
  const cpuset = makeCpusetFor(config.cpuset, pool);
  const supervisor = new Supervisor(paths, config, pool, shared, log);
  const fleet = new Fleet({
    ...{ paths, config, pool, shared, moving, cpuset, rules, allowed: formatCores(allowed), log },
  });
  fleet.confineAll();
  fleet.classifyAll();
  const startedAt = performance.now();

  const notifier = new Notifier({
    target,
    send: notify,
    progress: () => loopProgress(shared, supervisor.live),
    status: () => `arbiter live on core ${pool.arbiterCore}, managed cores ${formatCores(pool.cores)}`,
    warn: (fields, text) => log.warn(fields, text),
  });

  async function end(): Promise<never> {
    notifier.stopping();
    server.close();
    await supervisor.stop();
    // VMs that go on are nobody's: they get all cores back.
    cpuset.undo();
    if (latency !== null) closeFd(latency);
    log.info('daemon ends');
    process.exit(0);
  }
  // A moment for the answer to get out.
  const shutdown = (): void => void setTimeout(() => void end(), 50);
  const handler = makeHandler({
    paths,
    config,
    pool,
    shared,
    moving,
    supervisor,
    fleet,
    cpuset,
    startedAt,
    shutdown,
  });
  const server = await serve({ path: paths.control, handler });
  // VMs outlive the daemon: a signal ends it and the arbiter, and they go on unmanaged.
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => void end());
  await supervisor.untilLive(config.start_timeout_ms + START_MS);
  const bridge = { bridge: moving.kind, bridge_why: moving.why };
  log.info({ pool, cpuset: cpuset.text, ...bridge }, 'daemon is ready');
  notifier.ready();
  return { pid: process.pid, pool, cpuset: cpuset.text, ...bridge };
}

function makeCpusetFor(wanted: 'auto' | 'off', pool: Pool): ReturnType<typeof makeCpuset> {
  if (wanted === 'auto') return makeCpuset(pool.cores);
  return {
    isolation: 'none',
    text: 'switched off; affinity alone keeps vCPUs on their cores',
    add: () => {},
    undo: () => {},
  };
}

if (import.meta.main) {
  try {
    report({ ready: true, ...(await runDaemon(process.argv[2] ?? '{}')) });
  } catch (error) {
    const told = toError(error);
    report({ ready: false, ...told });
    process.stderr.write(`hyperfluxd: ${told.message}${told.hint === '' ? '' : `\n${told.hint}`}\n`);
    process.exit(1);
  }
}

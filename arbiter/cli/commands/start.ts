import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync } from 'node:fs';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { Option } from 'commander';
import { formatCores, parseCores } from '../../control/cores.ts';
import { prepareRun, runPaths } from '../../control/paths.ts';
import type { RunPaths } from '../../control/paths.ts';
import type { ErrorCode } from '../../control/protocol.ts';
import { ControlError } from '../../control/protocol.ts';
import { collect, integer, subcommand } from '../common.ts';
import { print, printJson, reportError, usage } from '../output.ts';

interface StartOptions {
  foreground?: boolean;
  arbiterCore?: number;
  cores?: string;
  policy: string;
  param: string[];
  policyParams: string[];
  guard: string[];
  leaseMs?: number;
  deadlineUs?: number;
  bridge: string;
  kickAfterUs?: number;
  cpuset: boolean;
  pmQos?: boolean;
  idle: string;
  idleMaxUs?: number;
  logLevel: string;
  json?: boolean;
}

interface Ready {
  ready: boolean;
  pid?: number;
  pool?: { arbiterCore: number; cores: number[] };
  cpuset?: string;
  bridge?: string;
  bridge_why?: string;
  code?: string;
  message?: string;
  hint?: string;
}

const main = fileURLToPath(new URL('../../control/main.ts', import.meta.url));
/** The daemon gives up earlier, and says why. */
const START_MS = 300_000;
/** When to say that it takes longer than usual, and how often. */
const SAY_MS = 10_000;

const after = `
Examples:
  $ hyperflux start
  $ hyperflux start --arbiter-core 0 --cores 1-3
  $ hyperflux start --policy-params threshold_us=20,quantum_us=5000
  $ hyperflux start --policy fair-share
  $ hyperflux start --policy classes --policy-params rules=classes.toml
  $ hyperflux start --guard moves_per_s=5000 --guard back_us=200
  $ hyperflux start --foreground       ends with Ctrl-C; VMs go on unmanaged

Logs: log/daemon.log and log/arbiter.log in the run directory.`;

export function addStart(program: Command): void {
  const command = subcommand('start', 'start the daemon and the arbiter')
    .option('--foreground', 'stay in the foreground')
    .option(
      '--arbiter-core <n>',
      "the core on which the arbiter's loop spins (default: the lowest allowed)",
      integer(0, 1023),
    )
    .option('--cores <list>', "the cores that are managed, for example 1-3 (default: all but the arbiter's)")
    .option('--policy <name>', 'who decides', 'delay')
    .option(
      '--policy-params <name=number,...>',
      'its parameters; hyperflux policy list shows them',
      collect,
      [],
    )
    .option('--param <name=number>', 'one of them; may be repeated', collect, [])
    .option(
      '--guard <name=number>',
      'how often cores may be taken: moves_per_s, vm_moves_per_s, back_us; may be repeated',
      collect,
      [],
    )
    .option('--lease-ms <n>', 'how long the arbiter may be silent before it is replaced', integer(50, 60_000))
    .option(
      '--deadline-us <n>',
      'a core that is not given up for so long is taken by force',
      integer(100, 10_000_000),
    )
    .option(
      '--kick-after-us <n>',
      'how long a vCPU inside FluxOS may take before it is kicked',
      integer(0, 1_000_000),
    )
    .addOption(
      new Option('--bridge <kind>', 'who moves the cores; auto: kFlux where it can be used')
        .choices(['auto', 'kflux', 'affinity'])
        .default('auto'),
    )
    .option('--no-cpuset', 'do not make a cpuset of the managed cores')
    .option('--pm-qos', 'keep all cores out of deep idle states')
    .addOption(
      new Option('--idle <mode>', 'what the loop does while nothing is active: spin, or rest in between')
        .choices(['busy', 'adaptive'])
        .default('busy'),
    )
    .option(
      '--idle-max-us <n>',
      'with --idle adaptive: the longest rest, so the latest that new work is seen (default: 500)',
      integer(50, 100_000),
    )
    .addOption(new Option('--log-level <level>').choices(['debug', 'info', 'warn', 'error']).default('info'))
    .addHelpText('after', after)
    .action(async (options: StartOptions) => {
      const paths = runPaths();
      prepareRun(paths);
      const config = JSON.stringify(daemonConfig(paths, options));
      const ready = options.foreground ? await foreground(config, options) : await background(paths, config);
      if (ready === undefined) return;
      if (options.json) printJson({ run_dir: paths.dir, ...asJson(ready) });
      else print(`${asText(ready)}\n${ready.cpuset}`);
    });
  program.addCommand(command);
}

const asJson = ({ pid, pool, cpuset, bridge, bridge_why }: Ready): object => ({
  ...{ pid, arbiter_core: pool!.arbiterCore, cores: pool!.cores, cpuset, bridge, bridge_why },
});

const asText = ({ pid, pool, bridge, bridge_why }: Ready): string =>
  `the daemon runs (process ${pid}): arbiter on core ${pool!.arbiterCore}, managed cores ${formatCores(pool!.cores)}\n` +
  `bridge: ${bridge} (${bridge_why})`;

function parseNumber(option: string, text: string): [string, number] {
  const [name, value] = [text.slice(0, text.indexOf('=')), text.slice(text.indexOf('=') + 1)];
  if (!text.includes('=') || name === '' || value === '' || !Number.isFinite(Number(value))) {
    throw usage(
      `${option} ${text}: give name=number, for example ${option === '--guard' ? 'back_us=200' : 'threshold_us=20'}`,
    );
  }
  return [name, Number(value)];
}

/** Numbers, and the one parameter that is a file. */
function policyParams({ param, policyParams }: StartOptions): object {
  const all = [
    ...param.map((text) => ['--param', text] as const),
    ...policyParams.flatMap((list) => list.split(',').map((text) => ['--policy-params', text] as const)),
  ];
  const isFile = ([, text]: readonly [string, string]): boolean => text.startsWith('rules=');
  const file = all.filter(isFile).at(-1)?.[1].slice('rules='.length);
  if (file === '') throw usage('--policy-params rules=: the name of a file is missing');
  return {
    params: Object.fromEntries(
      all.filter((one) => !isFile(one)).map(([option, text]) => parseNumber(option, text)),
    ),
    // The daemon has another working directory.
    ...(file === undefined ? {} : { rules: resolve(file) }),
  };
}

function daemonConfig(paths: RunPaths, options: StartOptions): object {
  const optional = {
    arbiter_core: options.arbiterCore,
    cores: options.cores === undefined ? undefined : parseCores(options.cores, '--cores'),
    lease_ms: options.leaseMs,
    deadline_us: options.deadlineUs,
    kick_after_us: options.kickAfterUs,
    idle_max_us: options.idleMaxUs,
  };
  return {
    run: paths.dir,
    policy: options.policy,
    ...policyParams(options),
    guard: Object.fromEntries(options.guard.map((text) => parseNumber('--guard', text))),
    bridge: options.bridge,
    cpuset: options.cpuset ? 'auto' : 'off',
    pm_qos: options.pmQos === true,
    idle: options.idle,
    log_level: options.logLevel,
    ...Object.fromEntries(Object.entries(optional).filter(([, value]) => value !== undefined)),
  };
}

/** The daemon's one line: that it is ready, or why not. */
function untilReady(child: ChildProcess): Promise<Ready> {
  return new Promise((resolve, reject) => {
    const failed = (why: string): void =>
      reject(
        new ControlError(
          'failed',
          `the daemon did not start: ${why}`,
          'Its log is log/daemon.log in the run directory; hyperflux doctor looks at this host.',
        ),
      );
    const began = performance.now();
    const timer = setTimeout(() => failed(`no word from it in ${START_MS / 1000} s`), START_MS);
    const said = setInterval(() => {
      const seconds = Math.round((performance.now() - began) / 1000);
      process.stderr.write(`the daemon is still starting, after ${seconds} s\n`);
    }, SAY_MS);
    const stopWaiting = (): void => {
      clearTimeout(timer);
      clearInterval(said);
    };
    let text = '';
    const pipe = child.stdio[3] as NodeJS.ReadableStream;
    pipe.on('data', (data: Buffer) => {
      text += data.toString();
      if (!text.includes('\n')) return;
      stopWaiting();
      const ready = JSON.parse(text) as Ready;
      if (ready.ready) resolve(ready);
      else
        reject(
          new ControlError(
            (ready.code ?? 'failed') as ErrorCode,
            ready.message ?? 'the daemon did not start',
            ready.hint,
          ),
        );
    });
    child.on('error', (error) => {
      stopWaiting();
      failed(error.message);
    });
    child.on('exit', (code, signal) => {
      stopWaiting();
      // What it said before it ended may still be in the pipe.
      setTimeout(() => failed(signal === null ? `it ended with ${code}` : `it was ended by ${signal}`), 200);
    });
  });
}

async function background(paths: RunPaths, config: string): Promise<Ready> {
  mkdirSync(paths.logs, { recursive: true, mode: 0o700 });
  const log = openSync(paths.log('daemon'), 'a', 0o600);
  const child = spawn(process.execPath, [main, config], {
    detached: true,
    cwd: '/',
    stdio: ['ignore', log, log, 'pipe'],
  });
  closeSync(log);
  const ready = await untilReady(child);
  child.removeAllListeners();
  child.unref();
  (child.stdio[3] as unknown as { destroy(): void }).destroy();
  return ready;
}

/**
 * Becomes the daemon: a service manager signals and watches the process that it started. It ends by a signal or a
 * request. Returns undefined: everything was said.
 */
async function foreground(config: string, options: StartOptions): Promise<undefined> {
  // Only here: the addon is loaded with it.
  const { runDaemon } = await import('../../control/main.ts');
  let ready: Ready;
  try {
    ready = { ready: true, ...(await runDaemon(config)) };
  } catch (error) {
    // Something of it may be running already.
    process.exit(reportError(error, options.json === true));
  }
  if (options.json) printJson(asJson(ready));
  else print(`${asText(ready)}\nCtrl-C ends it`);
}

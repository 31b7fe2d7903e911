/**
 * `hyperflux demo`: the same arrivals served alone, beside a best-effort VM under
 * plain Linux, and beside it under HyperFlux.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ControlClient } from '../../arbiter/control/client.ts';
import type { StatusInfo } from '../../arbiter/control/protocol.ts';
import { getAffinity, pinProcess, setAffinity } from '../../native/index.ts';
import { describeEnv } from '../lib/env.ts';
import { formatReport } from '../lib/schema.ts';
import type { Env } from '../lib/schema.ts';
import { createLoad } from '../load/area.ts';
import type { Schedule } from '../load/schedule.ts';
import { makeSchedule } from '../load/schedule.ts';
import { cpuTicks } from './busy.ts';
import type { Cleanup } from './cleanup.ts';
import { Interrupted, killAll, processesOf, withCleanup } from './cleanup.ts';
import { makeFloor } from './floor.ts';
import type { Floor } from './floor.ts';
import { chooseBackend } from './guests.ts';
import type { Backend } from './guests.ts';
import { makeLive } from './live.ts';
import type { Live } from './live.ts';
import { startManaged } from './managed.ts';
import type { ManagedStage } from './managed.ts';
import { runPhase } from './phases.ts';
import type { Phase, PhaseDeps, PhaseResult, Stage } from './phases.ts';
import { startPlain } from './plain.ts';
import type { PlainStage } from './plain.ts';
import { makeReport, renderFindings } from './report.ts';
import type { Findings } from './report.ts';

export interface DemoOptions {
  /** The report as JSON on stdout, and nothing else there. */
  json?: boolean;
  /** Length of each phase's schedule. */
  seconds?: number;
  /** Run the guests as ordinary processes even where KVM is usable. */
  hosted?: boolean;
  /** Another seed, another schedule. */
  seed?: number;
}

const SECONDS = 8;
const SECONDS_MAX = 3600;
const SEED = 20;
const WARM_UP_SECONDS = 0.4;
/** Few looks: each is time taken from the arbiter's core. */
const TIMES = { lookMs: 500, patienceMs: 3000 };
/** The demo's releaser and its policy are tried on a few cores, not on whole racks. */
const MOVABLE_MAX = 8;
/** Where real-time priorities are allowed: high enough to get in, not above the kernel's own threads. */
const FIFO = 10;
/** Others may use so much of the cores before the reader is told. */
const FOREIGN_SHARE = 0.03;

export interface Cores {
  arbiter: number;
  movable: number[];
}

/** The first usable core is the arbiter's, as it is the daemon's choice too; the rest can move. */
export function divideCores(usable: readonly number[]): Cores {
  const [arbiter, ...rest] = usable;
  if (rest.length === 0) {
    throw new Error(
      `two cores are needed, one for the arbiter and one that moves; this process may use ${usable.length} ` +
        '(see taskset and cpusets)',
    );
  }
  return { arbiter, movable: rest.slice(0, MOVABLE_MAX) };
}

/**
 * Bursts that keep most of the movable cores busy for a few milliseconds, and pauses
 * of tens of milliseconds in which the best-effort VM has them. In units of work and
 * cores: nothing here is known of the machine.
 */
export function demoSchedule(cores: number, seconds: number, seed: number): Schedule {
  return makeSchedule({
    seed,
    seconds,
    arrivals: { kind: 'bursty', perSecond: 12_000 * cores, onMs: 4, offMs: 20 },
    service: { kind: 'exponential', meanNs: 50_000 },
  });
}

export function makePhases({ arbiter, movable }: Cores): Phase[] {
  const both = movable.length === 1 ? `core ${movable[0]}` : `cores ${movable.join(',')}`;
  return [
    { id: 'alone', title: `serve alone, ${both}`, cores: movable, batch: false },
    { id: 'linux-movable', title: `both, Linux, ${both}`, cores: movable, batch: true },
    { id: 'linux-all', title: 'both, Linux, all cores', cores: [arbiter, ...movable], batch: true },
    { id: 'hyperflux', title: `both, HyperFlux, ${both}`, cores: movable, batch: true },
  ];
}

interface Run {
  env: Env;
  backend: Backend;
  cores: Cores;
  usable: readonly number[];
  directory: string;
  cleanup: Cleanup;
  live: Live;
  floor: Floor;
  notes: string[];
}

/** A child starts with the affinity of the thread that made it; VMs and daemon are to have all cores. */
function unpinned<T>({ cores, usable }: Run, start: () => T): T {
  setAffinity(0, usable);
  try {
    return start();
  } finally {
    setAffinity(0, [cores.arbiter]);
  }
}

type AnyStage = Stage & Partial<ManagedStage> & Partial<PlainStage>;

async function startStage(run: Run, phase: Phase): Promise<AnyStage> {
  const { backend, cores, directory, cleanup } = run;
  const common = { backend, directory, cleanup, unpinned: <T>(start: () => T) => unpinned(run, start) };
  if (phase.id === 'hyperflux') {
    return startManaged(phase, { ...common, arbiterCore: cores.arbiter });
  }
  if (phase.id !== 'linux-all') {
    // The arbiter's core is free, so the releaser may spin there; its priority would only starve this process.
    return startPlain(phase, { ...common, releaser: { core: cores.arbiter } });
  }
  return startPlain(phase, { ...common, releaser: { fifo: FIFO } });
}

/** What the releaser cost the VMs where it had no core of its own. */
function releaserNote({ fifo }: Partial<PlainStage>, { phase, driver }: PhaseResult): string {
  const how =
    fifo === true ? 'at real-time priority' : 'at ordinary priority, as a real-time one was not allowed,';
  const share = `${(driver * 100).toFixed(0)} % of one core`;
  return `In "${phase.title}" the releaser slept between arrivals, woke ${how} and took ${share} from the VMs.`;
}

function foreignNote({ phase, foreign }: PhaseResult): string {
  const share = `${(foreign * 100).toFixed(0)} %`;
  return `Other programs used ${share} of the cores' time in the phase "${phase.title}", which is in its figures.`;
}

async function runAll(run: Run, options: DemoOptions, stopped: Promise<never>): Promise<Findings> {
  const { cores, live, floor, backend } = run;
  const seconds = options.seconds ?? SECONDS;
  const seed = options.seed ?? SEED;
  const schedules = {
    warmUp: demoSchedule(cores.movable.length, WARM_UP_SECONDS, seed + 1),
    measured: demoSchedule(cores.movable.length, seconds, seed),
  };
  const phases: PhaseResult[] = [];
  let stage: AnyStage | undefined;
  const deps: PhaseDeps = {
    async start(phase) {
      stage = await startStage(run, phase);
      return stage;
    },
    newArea: (schedule) => createLoad(schedule),
    now: () => performance.now(),
    sleep: (ms) => Promise.race([new Promise<void>((resolve) => setTimeout(resolve, ms)), stopped]),
    cpu: () =>
      cpuTicks(
        run.usable,
        processesOf(run.directory).map(({ pid }) => pid),
      ),
    cores: run.usable.length,
    glance: live.glance,
  };
  for (const phase of makePhases(cores)) {
    floor.measure();
    const result = await runPhase(phase, schedules, TIMES, deps);
    phases.push(result);
    if (phase.id === 'linux-all') run.notes.push(releaserNote(stage ?? {}, result));
    if (result.foreign > FOREIGN_SHARE) run.notes.push(foreignNote(result));
  }
  floor.measure();
  return {
    env: run.env,
    how: backend.how,
    arbiterCore: cores.arbiter,
    movable: cores.movable,
    schedule: schedules.measured,
    phases,
    moveLatency: stage?.moveLatency?.() ?? { summary: undefined, source: 'the phase did not run' },
    floor: floor.summary(),
    notes: [...run.notes, ...(stage?.remarks?.() ?? [])],
  };
}

function validate({ seconds = SECONDS, seed = SEED }: DemoOptions): void {
  if (!(seconds >= 0.5 && seconds <= SECONDS_MAX)) {
    throw new RangeError(`the seconds of a phase must be 0.5 to ${SECONDS_MAX}, not ${seconds}`);
  }
  if (!Number.isInteger(seed)) throw new RangeError(`the seed must be an integer, not ${seed}`);
}

/** A system that runs on this machine goes on, and takes its part of the cores. */
async function neighbours(): Promise<string[]> {
  try {
    const client = await ControlClient.connect();
    const { vms } = await client.ask<StatusInfo>('status');
    client.close();
    return [
      `A HyperFlux daemon with ${vms.all} VMs runs on this machine; it shares the cores with the demo.`,
    ];
  } catch {
    // None that this user could speak to.
    return [];
  }
}

const SIGNAL_NUMBERS: Readonly<Partial<Record<NodeJS.Signals, number>>> = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGTERM: 15,
};

/** Returns the exit code: 0, 1 for a failure, 128 and the signal's number if one ended it. */
export async function demo(options: DemoOptions = {}): Promise<number> {
  const live = makeLive(process.stderr, 4);
  const usable = getAffinity(0);
  try {
    validate(options);
    const cores = divideCores(usable);
    const backend = chooseBackend(options.hosted === true);
    live.say(backend.how);
    const notes = await neighbours();
    for (const note of notes) live.say(note);
    // Before this process is pinned, because it counts the cores that there are.
    const env = describeEnv(backend.mode);
    const { value: findings, failures } = await withCleanup(async (cleanup, stopped) => {
      const directory = mkdtempSync(join(tmpdir(), 'hyperflux-demo-'));
      const remove = (): void => rmSync(directory, { recursive: true, force: true });
      cleanup.add(`the directory ${directory}`, remove, remove);
      // What was being started at the moment when the run was broken off is known by nothing but its arguments.
      const sweep = (): void => killAll(directory);
      cleanup.add('the processes of this run', sweep, sweep);
      pinProcess([cores.arbiter]);
      cleanup.add('the affinity of this process', () => pinProcess(usable));
      const floor = makeFloor(cores.movable[0], 5);
      return runAll(
        { env, backend, cores, usable, directory, cleanup, live, floor, notes },
        options,
        stopped,
      );
    });
    live.end();
    for (const failure of failures) live.say(`could not be undone: ${failure}`);
    process.stdout.write(
      options.json === true ? formatReport(makeReport(findings)) : renderFindings(findings),
    );
    return failures.length === 0 ? 0 : 1;
  } catch (error) {
    live.end();
    if (error instanceof Interrupted) {
      live.say(`hyperflux demo: ${error.message}; everything that it had started has been stopped`);
      return 128 + (SIGNAL_NUMBERS[error.signal] ?? 0);
    }
    live.say(`hyperflux demo: ${error instanceof Error ? error.message : String(error)}`);
    return 1;
  }
}

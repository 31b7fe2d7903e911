/**
 * One phase of the demo, step by step: start the VMs, warm them up with a short load
 * of its own, run the schedule, wait for the stragglers, stop. What a phase runs on
 * is behind an interface, so that the steps are the same under plain Linux and under
 * HyperFlux, and can be tried without VMs.
 */
import { LOAD_DONE, LOAD_RUNNING } from '../../arbiter/abi/layout.gen.ts';
import { foreignShare, selfShare } from './busy.ts';
import type { CpuTicks } from './busy.ts';
import type { LoadProgress } from '../load/layout.ts';
import type { LoadResults } from '../load/results.ts';
import { lookTimes } from '../load/pauses.ts';
import type { Schedule } from '../load/schedule.ts';

export type PhaseId = 'alone' | 'linux-movable' | 'linux-all' | 'hyperflux';

export interface Phase {
  readonly id: PhaseId;
  readonly title: string;
  /** Cores on which the VMs may run. */
  readonly cores: readonly number[];
  /** Whether the batch VM runs as well. */
  readonly batch: boolean;
}

/** Free-running counters of a phase, for differences. */
export interface Counters {
  /** Times that a vCPU got a core. */
  moves: number;
  /** Of those, by a decision of the arbiter; in the others an heir got it because the owner had left. */
  decided: number;
  forced: number;
  /** Counted apart: forced parks whose victim the host had descheduled. */
  forcedDescheduled: number;
}

export const noCounters: Counters = { moves: 0, decided: 0, forced: 0, forcedDescheduled: 0 };

/** VMs that are up, and a releaser for the serve VM. */
export interface Stage {
  /** Hands a load area to the releaser, in place of an earlier one. */
  release(area: Area): Promise<void>;
  /** Units of work that the batch VM has completed so far; undefined if there is no such VM. */
  blocks(): number | undefined;
  integrityErrors(): number;
  counters(): Counters;
  /** Called in each pause of the load, for what has to be sampled while it runs. */
  sample?(): void;
  /** Throws if a VM or a process that the phase needs has died, and says why. */
  check(): void;
  stop(): Promise<void>;
}

/** What phases need of a load area. */
export interface Area {
  readonly fd: number;
  look(): LoadProgress;
  /** Milliseconds since the load began. */
  elapsedMs(): number;
  requestStop(): void;
  results(): LoadResults;
  close(): void;
}

export type Step = 'start' | 'warm up' | 'measure' | 'drain' | 'stop';

/** What a live line shows. */
export interface Glance {
  phase: Phase;
  step: Step;
  /** Of the measured load: seconds since it began, and planned. */
  elapsedS: number;
  seconds: number;
  released: number;
  finished: number;
  blocksPerSecond: number | undefined;
  moves: number;
}

export interface PhaseResult {
  phase: Phase;
  load: LoadResults;
  /** Blocks in each interval between two looks, per second; undefined without a batch VM. */
  blocksPerSecond: Float64Array | undefined;
  /** Over the whole schedule. */
  meanBlocksPerSecond: number | undefined;
  counters: Counters;
  integrityErrors: number;
  /** Share of the cores' time that processes of others used meanwhile. */
  foreign: number;
  /** What the demo itself used meanwhile, its releaser most of all: a share of one core. */
  driver: number;
}

export interface PhaseDeps {
  start(phase: Phase): Promise<Stage>;
  newArea(schedule: Schedule): Area;
  /** Milliseconds of a steady clock. */
  now(): number;
  sleep(ms: number): Promise<void>;
  /** Of all usable cores. */
  cpu(): CpuTicks;
  cores: number;
  glance(glance: Glance): void;
}

export interface PhaseTimes {
  /** Between two glances at a running load: each costs the arbiter's core a little. */
  lookMs: number;
  /** How much longer than planned a load may take before it is given up. */
  patienceMs: number;
}

const DRAIN_LOOK_MS = 20;
/** For the releaser to see that it is to stop. */
const STOP_MS = 500;
/** A rate over less time than this says little. */
const INTERVAL_MIN_MS = 100;

const difference = (after: Counters, before: Counters): Counters => ({
  moves: after.moves - before.moves,
  decided: after.decided - before.decided,
  forced: after.forced - before.forced,
  forcedDescheduled: after.forcedDescheduled - before.forcedDescheduled,
});

/** Waits for a state of the load. Returns false if it does not come in time. */
async function reach(
  area: Area,
  state: number,
  stage: Stage,
  deps: PhaseDeps,
  timeoutMs: number,
): Promise<boolean> {
  const end = deps.now() + timeoutMs;
  while (area.look().state < state) {
    stage.check();
    if (deps.now() > end) return false;
    await deps.sleep(DRAIN_LOOK_MS);
  }
  return true;
}

/** Waits for the load's end. One that does not come is brought about: what is unfinished then counts as such. */
async function finish(area: Area, stage: Stage, deps: PhaseDeps, timeoutMs: number): Promise<void> {
  if (await reach(area, LOAD_DONE, stage, deps, timeoutMs)) return;
  area.requestStop();
  const end = deps.now() + STOP_MS;
  while (area.look().state !== LOAD_DONE && deps.now() < end) await deps.sleep(DRAIN_LOOK_MS);
}

/** Runs one phase to its end; the VMs are stopped whatever happens. */
export async function runPhase(
  phase: Phase,
  schedules: { warmUp: Schedule; measured: Schedule },
  times: PhaseTimes,
  deps: PhaseDeps,
): Promise<PhaseResult> {
  const seconds = schedules.measured.spec.seconds;
  const idle = {
    phase,
    elapsedS: 0,
    seconds,
    released: 0,
    finished: 0,
    blocksPerSecond: undefined,
    moves: 0,
  };
  deps.glance({ ...idle, step: 'start' });
  const stage = await deps.start(phase);
  const areas: Area[] = [];
  const begin = async (schedule: Schedule): Promise<Area> => {
    const area = deps.newArea(schedule);
    areas.push(area);
    await stage.release(area);
    if (!(await reach(area, LOAD_RUNNING, stage, deps, times.patienceMs))) {
      throw new Error('the releaser did not begin to release requests; its thread may not get a core');
    }
    return area;
  };
  try {
    deps.glance({ ...idle, step: 'warm up' });
    const warmUp = await begin(schedules.warmUp);
    await finish(warmUp, stage, deps, schedules.warmUp.spec.seconds * 1000 + times.patienceMs);

    const cpu = deps.cpu();
    const area = await begin(schedules.measured);
    const measured = await watch(phase, stage, area, schedules.measured, times, deps);
    deps.glance({ ...idle, ...measured.last, step: 'drain' });
    await finish(area, stage, deps, times.patienceMs);
    const { blocksPerSecond, meanBlocksPerSecond, before } = measured;
    const counters = difference(stage.counters(), before);
    const after = deps.cpu();
    const load = area.results();
    deps.glance({ ...idle, ...measured.last, step: 'stop' });
    return {
      phase,
      load,
      blocksPerSecond,
      meanBlocksPerSecond,
      counters,
      integrityErrors: stage.integrityErrors(),
      foreign: foreignShare(cpu, after),
      driver: selfShare(cpu, after, deps.cores),
    };
  } finally {
    await stage.stop();
    for (const area of areas) area.close();
  }
}

/** Blocks over time: a rate for each interval, and one for all of them. */
function makeMeter(
  stage: Stage,
  now: () => number,
): {
  mark(): number | undefined;
  rates: number[];
  mean(): number | undefined;
} {
  const first = { at: now(), blocks: stage.blocks() };
  let last = first;
  const rates: number[] = [];
  const rate = (from: typeof first, to: typeof first): number | undefined =>
    from.blocks === undefined || to.blocks === undefined || to.at <= from.at
      ? undefined
      : ((to.blocks - from.blocks) * 1000) / (to.at - from.at);
  return {
    rates,
    mark(): number | undefined {
      const present = { at: now(), blocks: stage.blocks() };
      const found = rate(last, present);
      if (found === undefined || present.at - last.at < INTERVAL_MIN_MS) return rates.at(-1);
      rates.push(found);
      last = present;
      return found;
    },
    mean: () => rate(first, { at: now(), blocks: stage.blocks() }),
  };
}

interface Watched {
  blocksPerSecond: Float64Array | undefined;
  meanBlocksPerSecond: number | undefined;
  before: Counters;
  last: Partial<Glance>;
}

/** Looks at the running load, in its pauses if it has any, until its schedule is over. */
async function watch(
  phase: Phase,
  stage: Stage,
  area: Area,
  schedule: Schedule,
  times: PhaseTimes,
  deps: PhaseDeps,
): Promise<Watched> {
  const { seconds } = schedule.spec;
  const before = stage.counters();
  const meter = makeMeter(stage, () => deps.now());
  let last: Partial<Glance> = {};
  let glanced = 0;
  for (const time of lookTimes(schedule, times.lookMs)) {
    const left = time - area.elapsedMs();
    // Late: the next look is as good.
    if (left < 0 && time < seconds * 1000) continue;
    await deps.sleep(Math.max(0, left));
    stage.sample?.();
    if (time - glanced < times.lookMs && time < seconds * 1000) continue;
    glanced = time;
    stage.check();
    const { released, finished } = area.look();
    const blocksPerSecond = meter.mark();
    const moves = stage.counters().moves - before.moves;
    last = { elapsedS: time / 1000, released, finished, blocksPerSecond, moves };
    deps.glance({
      ...{
        phase,
        step: 'measure',
        seconds,
        elapsedS: 0,
        released: 0,
        finished: 0,
        moves: 0,
        blocksPerSecond,
      },
      ...last,
    });
  }
  const mean = meter.mean();
  return {
    blocksPerSecond: mean === undefined ? undefined : Float64Array.from(meter.rates),
    meanBlocksPerSecond: mean,
    before,
    last,
  };
}

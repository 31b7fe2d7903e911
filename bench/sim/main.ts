/**
 * `hyperflux bench sim`: how fast the simulator is, and whether it predicts what a
 * real run on this machine gives. The times of moves are measured just before, as by
 * bench realloc, those of turns by the loop in the real run itself; nothing else is
 * taken from it.
 */
import { Listed } from '../../arbiter/sim/load/arrivals.ts';
import type { Latencies } from '../../arbiter/sim/latency.ts';
import { evenTurns, guestTimes, machineOf, quantilesOf, readMachine } from '../../arbiter/sim/machine.ts';
import type { Machine } from '../../arbiter/sim/machine.ts';
import { choosePolicy } from '../../arbiter/sim/choose.ts';
import type { MakeArrivals } from '../../arbiter/sim/run.ts';
import { DEFAULT_MACHINE, readLoads, simulate } from '../../arbiter/sim/run.ts';
import { parseScenario } from '../../arbiter/sim/scenario.ts';
import { demoSchedule } from '../demo/demo.ts';
import { chooseBackend } from '../demo/guests.ts';
import { describeEnv } from '../lib/env.ts';
import { makeProgress } from '../lib/progress.ts';
import type { Progress } from '../lib/progress.ts';
import type { Goal, Report, Row } from '../lib/schema.ts';
import { allMet, formatReport, goal, notMeasured, row, writeReport } from '../lib/schema.ts';
import { summarize } from '../lib/stats.ts';
import { renderReport } from '../lib/table.ts';
import type { Schedule } from '../load/schedule.ts';
import { measureMoves } from './moves.ts';
import type { RealRun } from './real.ts';
import { runServe } from './real.ts';

export interface Options {
  json?: boolean;
  quick?: boolean;
  out?: string;
}

const SPEED_LIMIT_S = 10;
const PREDICTION_LIMIT = 0.25;
const SEED = 21;
const WARM_UP_S = 0.4;
/** After the last arrival, for what is still under way. */
const GRACE_S = 0.2;

/** A host as the goal names it: most of its cores busy, and more than it has wanted at times. */
export const bigHost = (seconds: number): ReturnType<typeof parseScenario> =>
  parseScenario(
    {
      ...{ name: '128 cores, 1,000 VMs', seconds, cores: 128 },
      vms: [
        {
          ...{ name: 'web', count: 800, class: 'lc', vcpus: 4 },
          arrivals: { kind: 'bursty', per_second: 6000, on_ms: 5, off_ms: 20 },
          service: { kind: 'exponential', mean_us: 50 },
        },
        { name: 'bulk', count: 200, class: 'be', vcpus: 4, threads: 4 },
      ],
    },
    'the host of bench sim',
    '.',
  );

function speed(seconds: number, progress: Progress): { row: Row; goal: Goal } {
  const scenario = bigHost(seconds);
  progress.stage(`simulating ${scenario.name}`);
  const before = process.cpuUsage().user;
  const result = simulate(
    scenario,
    choosePolicy('delay'),
    readLoads(scenario),
    readMachine(DEFAULT_MACHINE),
    (share) => progress.step(share, 1),
  );
  const wall = result.wallSeconds / seconds;
  const [web] = result.groups;
  const cpu = (process.cpuUsage().user - before) / 1e6 / seconds;
  const note = `${web.arrived} requests, ${result.turns} turns, ${result.commands} commands; ${cpu.toFixed(1)} s of processor time`;
  const figures = { p50: wall, p90: wall, p99: wall, p999: wall, max: wall, ratio: null };
  return {
    row: { name: `a second of ${scenario.name}`, unit: 's', n: 1, ...figures, note },
    goal: goal(`a second of ${scenario.name}, s`, SPEED_LIMIT_S, wall),
  };
}

/** The same requests as in the real run, and the same two VMs. */
function predict(policy: string, schedule: Schedule, real: RealRun, machine: Machine): Latencies {
  const { cores } = real;
  const scenario = parseScenario(
    {
      ...{ name: 'serve beside batch', seconds: schedule.spec.seconds + GRACE_S, cores, release: 'loop' },
      vms: [
        // What its requests are stands in the schedule; this says only that it has some.
        {
          ...{ name: 'serve', class: 'lc', vcpus: cores },
          arrivals: { kind: 'poisson', per_second: 1 },
          service: { kind: 'constant', us: 1 },
        },
        { name: 'batch', class: 'be', vcpus: cores, threads: 2 * cores },
      ],
    },
    'the prediction of bench sim',
    '.',
  );
  const service = Float64Array.from(schedule.serviceNs);
  const loads: MakeArrivals[] = [() => new Listed(schedule.dueNs, service, 1), () => undefined];
  return simulate(scenario, choosePolicy(policy), loads, machine).groups[0].latency;
}

function latencyRow(name: string, latencies: Latencies): Row {
  const us = (share: number): number | null => {
    const ns = latencies.at(share);
    return ns === undefined ? null : ns / 1000;
  };
  const { n } = latencies;
  return {
    ...{ name, unit: 'us', n, p50: us(0.5), p90: us(0.9), p99: us(0.99), p999: us(0.999) },
    ...{ max: us(1), ratio: null },
  };
}

interface Prediction {
  rows: Row[];
  goals: Goal[];
}

async function prediction(
  policies: readonly string[],
  quick: boolean,
  progress: Progress,
): Promise<Prediction> {
  progress.stage('measuring moves');
  const rows = await measureMoves(quick ? 200 : 1000, progress);
  const goals: Goal[] = [];
  const moves = machineOf(rows, 'this machine');
  const seconds = quick ? 2 : 8;
  const backend = chooseBackend(false);
  for (const policy of policies) {
    progress.stage(`serve beside batch under ${policy}`);
    const measured = demoSchedule(1, seconds, SEED);
    const schedules = { warmUp: demoSchedule(1, WARM_UP_S, SEED + 1), measured };
    const real = await runServe(policy, backend, schedules, (share) => progress.step(share, 1));
    progress.stage(`predicting ${policy}`);
    const turn = { ...evenTurns(1), measured: quantilesOf(real.turns) };
    const machine: Machine = { ...moves, guest: guestTimes, turn };
    const predicted = latencyRow(
      `serve under ${policy}, predicted`,
      predict(policy, measured, real, machine),
    );
    const found = row(`serve under ${policy}, measured`, 'us', summarize(real.result.load.latencyUs));
    const { foreign, load } = real.result;
    const others = `other programs had ${(foreign * 100).toFixed(0)} % of the cores`;
    rows.push(
      { ...found, note: `${load.unfinished} unfinished; ${others}` },
      { ...predicted, ratio: found.p50 === null ? null : predicted.p50! / found.p50 },
      { ...real.turns, name: `turns under ${policy}` },
    );
    const known = found.p99 !== null && predicted.p99 !== null;
    const off = known ? Math.abs(predicted.p99! / found.p99! - 1) : null;
    const text = known
      ? `predicted ${predicted.p99!.toFixed(0)} us, measured ${found.p99!.toFixed(0)} us`
      : undefined;
    goals.push(
      goal(`serve's p99 under ${policy}: predicted over measured, off by`, PREDICTION_LIMIT, off, text),
    );
  }
  return { rows, goals };
}

export async function bench(options: Options = {}): Promise<number> {
  const quick = options.quick === true;
  const env = { ...describeEnv('simulated, and unprivileged'), quick };
  const progress = makeProgress();
  const rows: Row[] = [];
  const goals: Goal[] = [];
  try {
    const fast = speed(quick ? 0.1 : 1, progress);
    rows.push(fast.row);
    goals.push(fast.goal);
    try {
      const predicted = await prediction(['delay'], quick, progress);
      rows.push(...predicted.rows);
      goals.push(...predicted.goals);
    } catch (error) {
      // What has been measured is worth printing, whatever becomes of the rest.
      rows.push(notMeasured('serve, measured and predicted', 'us', (error as Error).message));
      goals.push(
        goal(
          "serve's p99: predicted over measured, off by",
          PREDICTION_LIMIT,
          null,
          (error as Error).message,
        ),
      );
    }
  } finally {
    progress.end();
  }
  const report: Report = { schema: 1, bench: 'sim', env, rows, goals };
  if (options.out !== undefined) writeReport(options.out, report);
  process.stdout.write(options.json === true ? formatReport(report) : renderReport(report));
  return allMet(report) ? 0 : 1;
}

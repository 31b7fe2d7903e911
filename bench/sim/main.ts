/**
 * `hyperflux bench sim`: how fast the simulator is, and whether it predicts what a
 * real run on this machine gives. The times of moves are measured by bench realloc
 * just before, those of turns by the loop in the real run itself; nothing else is
 * taken from it.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Listed } from '../../arbiter/sim/load/arrivals.ts';
import type { Latencies } from '../../arbiter/sim/latency.ts';
import { evenTurns, guestTimes, quantilesOf, readMachine } from '../../arbiter/sim/machine.ts';
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

const main = fileURLToPath(new URL('../../arbiter/cli/main.ts', import.meta.url));

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
  const result = simulate(
    scenario,
    choosePolicy('delay'),
    readLoads(scenario),
    readMachine(DEFAULT_MACHINE),
    (share) => progress.step(share, 1),
  );
  const wall = result.wallSeconds / seconds;
  const [web] = result.groups;
  const note = `${web.arrived} requests, ${result.turns} turns, ${result.commands} commands`;
  const figures = { p50: wall, p90: wall, p99: wall, p999: wall, max: wall, ratio: null };
  return {
    row: { name: `a second of ${scenario.name}`, unit: 's', n: 1, ...figures, note },
    goal: goal(`a second of ${scenario.name}, s`, SPEED_LIMIT_S, wall),
  };
}

/** Measures the times of moves here, in a process of its own, because it takes the cores. */
async function calibrate(quick: boolean, file: string, progress: Progress): Promise<void> {
  progress.stage('measuring moves: bench realloc');
  const args = [main, 'bench', 'realloc', '--out', file, '--moves', quick ? '300' : '1000'];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr.on('data', (data: Buffer) => (said = (said + data.toString()).slice(-400)));
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', resolve);
  });
  // Its goals may be missed, which is 1 too; what counts is the report.
  if (code !== 0 && code !== 1) throw new Error(`bench realloc ended with ${code}: ${said}`);
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
  const directory = mkdtempSync(join(tmpdir(), 'hyperflux-bench-sim-'));
  const rows: Row[] = [];
  const goals: Goal[] = [];
  try {
    const file = join(directory, 'realloc.json');
    await calibrate(quick, file, progress);
    const moves = readMachine(file);
    const seconds = quick ? 2 : 8;
    const backend = chooseBackend(false);
    for (const policy of policies) {
      progress.stage(`serve beside batch under ${policy}`);
      const measured = demoSchedule(1, seconds, SEED);
      const schedules = { warmUp: demoSchedule(1, WARM_UP_S, SEED + 1), measured };
      const real = await runServe(policy, backend, schedules, (share) => progress.step(share, 1));
      progress.stage(`predicting ${policy}`);
      const machine: Machine = {
        ...moves,
        guest: guestTimes,
        turn: { ...evenTurns(1), measured: quantilesOf(real.turns) },
      };
      const predicted = latencyRow(
        `serve under ${policy}, predicted`,
        predict(policy, measured, real, machine),
      );
      const found = row(`serve under ${policy}, measured`, 'us', summarize(real.result.load.latencyUs));
      const { foreign, load } = real.result;
      rows.push(
        {
          ...found,
          note: `${load.unfinished} unfinished; other programs had ${(foreign * 100).toFixed(0)} % of the cores`,
        },
        { ...predicted, ratio: found.p50 === null ? null : predicted.p50! / found.p50 },
        { ...real.turns, name: `turns under ${policy}` },
      );
      const off =
        found.p99 === null || predicted.p99 === null ? null : Math.abs(predicted.p99 / found.p99 - 1);
      const text =
        off === null
          ? undefined
          : `predicted ${predicted.p99!.toFixed(0)} us, measured ${found.p99!.toFixed(0)} us`;
      goals.push(
        goal(`serve's p99 under ${policy}: predicted over measured, off by`, PREDICTION_LIMIT, off, text),
      );
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
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

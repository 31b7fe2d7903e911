/**
 * `hyperflux bench loop`: the arbiter's turn in TypeScript against the same turn in C.
 * See bench/README.md for what is compared and how.
 */
import { parseArgs } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { Worker } from 'node:worker_threads';
import { getAffinity } from '../../native/index.ts';
import { describeEnv } from '../lib/env.ts';
import { LOOP_FLAGS } from '../../arbiter/process/flags.ts';
import { oneFile } from '../../arbiter/process/onefile.ts';
import { makeProgress, silent, type Progress } from '../lib/progress.ts';
import { allMet, formatReport, goal, type Goal, type Report, writeReport } from '../lib/schema.ts';
import { renderReport } from '../lib/table.ts';
import { memoryName } from './memory.ts';
import { turnName, type TurnFigures } from './turns.ts';
import { USER_RATIO, USER_WORLDS, userName } from './user.ts';
import type { Agreement } from './agree.ts';
import type { FromWorker, Outcome, Results, Task } from './worker.ts';
import { KINDS, SIZES } from './worlds.ts';

export interface LoopBenchOptions {
  /** Print the report as JSON instead of a table. */
  json?: boolean;
  /** A tenth of the samples: to see whether it works, not to judge by. */
  quick?: boolean;
  /** Write the report as JSON to this file, too. */
  out?: string;
  /** Say nothing on stderr. */
  quiet?: boolean;
  /** Load the loop as modules and not as one script: what that costs is a row of bench/README.md. */
  modules?: boolean;
}

/** How many times C a turn may take. */
const RATIO = 2;

function taskOf(what: Task['what'], options: LoopBenchOptions): Task {
  const cores = getAffinity(0);
  const quick = options.quick === true;
  return {
    what,
    core: cores[cores.length - 1],
    signalCore: cores.length > 1 ? cores[0] : null,
    turnRounds: quick ? 4 : 24,
    signalRounds: quick ? 2 : 10,
    signalEvents: quick ? 500 : 1500,
    memoryRuns: 5,
    memoryTurns: quick ? 20_480 : 102_400,
    agreeWorlds: quick ? 10 : 100,
  };
}

/** What a worker comes to with this task; rejects if it fails or ends without. */
function run<W extends Task['what']>(
  what: W,
  options: LoopBenchOptions,
  progress: Progress,
): Promise<Results[W]> {
  return new Promise((resolve, reject) => {
    const entry = new URL('./worker.ts', import.meta.url);
    const workerData = taskOf(what, options);
    // As hyperfluxd starts the arbiter; code that is compiled from now on is compiled by them.
    for (const flag of LOOP_FLAGS) setFlagsFromString(flag);
    const worker =
      options.modules === true
        ? new Worker(entry, { workerData })
        : new Worker(oneFile(entry), { eval: true, workerData });
    worker.on('message', (message: FromWorker) => {
      if (message.op === 'stage') progress.stage(message.name);
      else if (message.op === 'step') progress.step(message.done, message.total, message.detail);
      else resolve(message.result as Results[W]);
    });
    worker.on('error', reject);
    worker.on('exit', (code) => reject(new Error(`the measuring thread ended early, with code ${code}`)));
  });
}

function goalsOf(agreement: Agreement, { turns, memory }: Outcome, user: TurnFigures): Goal[] {
  const goals: Goal[] = [];
  const wrong = agreement.difference === undefined ? 0 : 1;
  goals.push(
    goal(
      'decisions in which the loops differ',
      0,
      wrong,
      agreement.difference ?? `${agreement.turns} random turns compared`,
    ),
  );
  for (const kind of KINDS) {
    for (const vms of SIZES) {
      const name = turnName(kind, vms);
      goals.push(goal(`${name}, p50 over C`, RATIO, turns.ratios.get(name)));
    }
  }
  for (const world of USER_WORLDS) {
    const name = turnName(world.kind, world.vms);
    const [theirs, ours] = [user.ratios.get(name), turns.ratios.get(name)];
    const over = theirs === undefined || ours === undefined ? undefined : theirs / ours;
    goals.push(
      goal(`${userName(world)}, over the built-in one`, USER_RATIO, over, 'each p50 over C in its thread'),
    );
  }
  for (const kind of KINDS)
    goals.push(
      goal(
        `${memoryName(kind)}, bytes a turn`,
        0,
        memory.typical.get(kind),
        'the median run; the row has the most',
      ),
    );
  goals.push(
    goal('garbage collections while turning', 0, memory.collections, `in ${memory.turns} turns of each kind`),
  );
  return goals;
}

/** Measures and prints. Returns 0 if all goals are met, and 1 if one is not. Throws if it cannot measure. */
export async function bench(options: LoopBenchOptions = {}): Promise<number> {
  const env = describeEnv('loop only, no guests');
  const progress = options.quiet === true ? silent : makeProgress();
  let agreement: Agreement;
  let outcome: Outcome;
  let user: TurnFigures;
  try {
    agreement = await run('agree', options, progress);
    outcome = await run('measure', options, progress);
    user = await run('user', options, progress);
  } finally {
    progress.end();
  }
  const report: Report = {
    schema: 1,
    bench: 'loop',
    env: {
      ...env,
      twin: `${outcome.level}, g++ ${outcome.compiler}`,
      loaded_as: options.modules === true ? 'modules' : 'one script',
      quick: options.quick === true,
    },
    rows: [...outcome.turns.rows, ...user.rows, ...outcome.signal, ...outcome.memory.rows],
    goals: goalsOf(agreement, outcome, user),
  };
  if (options.out !== undefined) writeReport(options.out, report);
  process.stdout.write(options.json === true ? formatReport(report) : renderReport(report));
  return allMet(report) ? 0 : 1;
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      json: { type: 'boolean' },
      quick: { type: 'boolean' },
      modules: { type: 'boolean' },
      out: { type: 'string' },
    },
  });
  process.exitCode = await bench(values);
}

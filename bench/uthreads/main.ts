/**
 * `hyperflux bench uthreads`: what FluxOS's threads cost, against pthreads, Go and tokio, in one run on the same
 * cores. See bench/uthreads/README.md for what each contestant does.
 */
import { rmSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { availableParallelism, loadavg } from 'node:os';
import { needBuilt, artifacts } from '../../arbiter/vm/artifacts.ts';
import { kvmTrouble } from '../../arbiter/vm/host.ts';
import { getAffinity } from '../../native/index.ts';
import { describeEnv } from '../lib/env.ts';
import { makeProgress, silent, type Progress } from '../lib/progress.ts';
import { Rig } from '../lib/rig.ts';
import { rotate, type Block } from '../lib/rotate.ts';
import { allMet, formatReport, notMeasured, row, writeReport, type Report, type Row } from '../lib/schema.ts';
import { renderReport } from '../lib/table.ts';
import { buildRivals, cacheFolder, type Where as RivalsFrom } from './build.ts';
import { goalsOf, HOSTED, KVM, PTHREADS, type Measured } from './goals.ts';
import { lanesOf, type Entrant, type Lane } from './lane.ts';
import { FluxosGuest } from './guest.ts';
import { Rival } from './rival.ts';
import { rowName, rowsOf, SORT, sortRow, type Where } from './rows.ts';

export interface Options {
  json?: boolean;
  /** A tenth of the samples, and a tenth of the numbers to be sorted: to see that it works, not to quote. */
  quick?: boolean;
  out?: string;
  rounds?: number;
  /** Only the rows of these keys, with commas between them. */
  row?: string;
  /** Say nothing on stderr. */
  quiet?: boolean;
  /** Numbers to be sorted, for tests. */
  numbers?: number;
  /** How rivals are come by, if not in the usual way. */
  rivals?: Partial<RivalsFrom>;
}

const ROUNDS = { full: 40, quick: 4 } as const;
const SORT_ROUNDS = { full: 10, quick: 2 } as const;
/** More vCPUs than that would say more about the machine than about the scheduler. */
const CORES_MAX = 8;
const SORT_MIB = 512;
const SORT_STACKS = 4096;
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
/** As a shell has it for what was interrupted. */
const INTERRUPTED = 130;

type Starting = Promise<Entrant['contestant']>;

/** Whoever can be started, and why the others cannot. */
async function enter(
  rig: Rig,
  cores: readonly number[],
  from: RivalsFrom,
  entrants: Entrant[],
  progress: Progress,
): Promise<void> {
  const last = cores.slice(-1);
  const places: readonly [Where, readonly number[]][] = [
    ['one', last],
    ['all', cores],
  ];
  const add = async (
    name: string,
    start: (where: Where, on: readonly number[]) => Starting,
  ): Promise<void> => {
    for (const [where, on] of places) {
      const contestant = await start(where, on).catch((error: Error) => ({ missing: error.message }));
      entrants.push({ name, where, cores: on.length, contestant });
    }
  };
  progress.stage('starting VMs');
  for (const hosted of [false, true]) {
    await add(hosted ? HOSTED : KVM, async (where, on) => {
      const trouble = hosted ? '' : kvmTrouble();
      if (trouble !== '') return { missing: trouble };
      needBuilt(
        hosted ? artifacts.hosted : artifacts.image,
        hosted ? 'the hosted FluxOS' : 'the guest image',
      );
      const many = where === 'all' ? { memoryMib: SORT_MIB, stacks: SORT_STACKS } : {};
      return FluxosGuest.start(hosted ? HOSTED : KVM, rig, {
        ...{ name: `${hosted ? 'hosted' : 'kvm'}-${where}`, hosted, vcpus: on.length },
        ...{ unmanaged: { cpus: on.join(',') }, ...many },
      });
    });
  }
  progress.stage('building and starting rivals');
  for (const { name, program } of await buildRivals(from)) {
    await add(name, async (_, on) =>
      typeof program === 'string' ? Rival.start(name, [program], on) : program,
    );
  }
}

/** Blocks of all lanes take turns, row by row: contestants in the same row are neighbours. */
async function measure(lanes: readonly Lane[], rounds: number, progress: Progress): Promise<void> {
  for (const lane of lanes) {
    progress.step(lanes.indexOf(lane), lanes.length, lane.name);
    await lane.prepare();
  }
  const blocks: Block[] = lanes.map((lane) => ({ name: lane.name, run: () => lane.block() }));
  await rotate(blocks, { rounds, progress: (done, total, name) => progress.step(done, total, name) });
}

/** A row of the report for each contestant, the medians for the goals. */
function results(lanes: readonly Lane[], cores: number): { rows: Row[]; measured: Measured[] } {
  const floor = lanes.find((lane) => lane.row.key === 'floor' && lane.contestant === PTHREADS);
  const base = floor?.summary()?.p50;
  const measured = new Map<string, { of: Lane; p50: Map<string, number> }>();
  const rows = lanes.map((lane): Row => {
    const name = rowName(lane.row, lane.contestant, cores);
    const title = rowName(lane.row, '', cores).replace(/: $/, '');
    const group = measured.get(title) ?? { of: lane, p50: new Map<string, number>() };
    measured.set(title, group);
    const summary = lane.summary();
    if (summary === undefined) return notMeasured(name, lane.unit, lane.missing ?? 'no samples');
    group.p50.set(lane.contestant, summary.p50);
    return row(name, lane.unit, summary, lane.unit === 'ns' ? base : undefined);
  });
  return { rows, measured: [...measured].map(([title, { of, p50 }]) => ({ row: of.row, title, p50 })) };
}

export async function bench(options: Options = {}): Promise<number> {
  const cores = getAffinity(0).slice(0, Math.min(CORES_MAX, availableParallelism()));
  const size = options.quick === true ? 'quick' : 'full';
  const rounds = options.rounds ?? ROUNDS[size];
  const sort = sortRow(options.numbers ?? SORT[size]);
  const chosen = rowsOf(options.row?.split(','), sort);
  const micro = chosen.filter((spec) => spec !== sort);
  const sortRounds = Math.min(options.rounds ?? Infinity, SORT_ROUNDS[size]);
  // Whoever else is at work takes cores from whoever is measured, and from rows with all cores most of all.
  const env = { ...describeEnv('unmanaged: on KVM and hosted'), load_before: loadavg()[0] };
  const progress = options.quiet === true ? silent : makeProgress();
  // A rig must have a core that it could move; the VMs are unmanaged, so it moves none.
  const rig = new Rig(cores[0], cores.slice(-1));
  const entrants: Entrant[] = [];
  const killAll = (): void => {
    for (const { contestant } of entrants) if (!('missing' in contestant)) contestant.kill();
    rmSync(rig.dir, { recursive: true, force: true });
  };
  // VMs that nobody manages would go on without us.
  const stop = (): void => process.exit(INTERRUPTED);
  process.once('exit', killAll);
  for (const signal of SIGNALS) process.once(signal, stop);
  try {
    await enter(rig, cores, { cache: cacheFolder(), fetch: true, ...options.rivals }, entrants, progress);
    const lanes = micro.flatMap((spec) => lanesOf(spec, entrants, rounds));
    const sorts = chosen.includes(sort) ? lanesOf(sort, entrants, sortRounds, 'ms') : [];
    progress.stage(`${micro.length} rows, ${rounds} blocks each, in turns`);
    await measure(lanes, rounds, progress);
    progress.stage(`quicksort, ${sortRounds} times each, in turns`);
    await measure(sorts, sortRounds, progress);
    progress.end();
    const { rows, measured } = results([...lanes, ...sorts], cores.length);
    const contestants: Record<string, string> = {};
    for (const { name, where, contestant } of entrants) {
      if ('missing' in contestant) continue;
      contestants[`${name}, ${where === 'one' ? '1 core' : 'all'}`] = contestant.version;
    }
    const report: Report = {
      schema: 1,
      bench: 'uthreads',
      env: { ...env, cores_used: cores.length, rounds, contestants },
      rows,
      goals: goalsOf(measured),
    };
    if (options.out !== undefined) writeReport(options.out, report);
    process.stdout.write(options.json === true ? formatReport(report) : renderReport(report));
    return allMet(report) ? 0 : 1;
  } finally {
    progress.end();
    for (const { contestant } of entrants) if (!('missing' in contestant)) await contestant.close();
    await rig.close();
    process.off('exit', killAll);
    for (const signal of SIGNALS) process.off(signal, stop);
  }
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      json: { type: 'boolean' },
      quick: { type: 'boolean' },
      out: { type: 'string' },
      rounds: { type: 'string' },
      row: { type: 'string' },
    },
  });
  const rounds = values.rounds === undefined ? undefined : Number(values.rounds);
  process.exitCode = await bench({ ...values, rounds });
}

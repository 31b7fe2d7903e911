/**
 * `hyperflux bench park`: what it costs a guest to be parked. How long it takes from the kick to a context that
 * is whole, by what the guest was doing; and what becomes of the queue of the vCPU that was parked.
 */
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { artifacts, needBuilt } from '../../arbiter/vm/artifacts.ts';
import { kvmTrouble } from '../../arbiter/vm/host.ts';
import { futexWakeFloor, getAffinity, pinProcess, pinThread } from '../../native/index.ts';
import { describeEnv } from '../lib/env.ts';
import { makeProgress, silent } from '../lib/progress.ts';
import { Rig } from '../lib/rig.ts';
import { rotate, type Block } from '../lib/rotate.ts';
import { allMet, formatReport, row, writeReport, type Report, type Row } from '../lib/schema.ts';
import { Samples } from '../lib/stats.ts';
import { renderReport } from '../lib/table.ts';
import { QueueLane } from './queues.ts';
import { DOINGS, SafePark, safeGoals } from './safe.ts';

export interface Options {
  json?: boolean;
  /** A tenth of the parks: to see that it works, not to quote. */
  quick?: boolean;
  out?: string;
  /** Parks of each row by what the guest was doing. */
  moves?: number;
  /** Blocks of each row about queues. */
  rounds?: number;
  /** Say nothing on stderr. */
  quiet?: boolean;
}

const BLOCK = 50;
const MOVES = { full: 3000, quick: 300 } as const;
const ROUNDS = { full: 40, quick: 4 } as const;
const FLOOR = 'floor: idle grant (futex wake of a sleeper)';
const QUEUES = 'queue of a vCPU that is parked: stay, hand';

function floorBlock(core: number, samples: Samples): Block {
  const out = new Float64Array(BLOCK);
  return {
    name: FLOOR,
    run() {
      futexWakeFloor(core, BLOCK, out, { gapUs: 60 });
      for (const ns of out) samples.push(ns / 1000);
    },
  };
}

export async function bench(options: Options = {}): Promise<number> {
  const cores = getAffinity(0);
  if (cores.length < 2 || availableParallelism() < 2) {
    process.stderr.write('bench park needs two cores: one for the driver, one that is granted and taken.\n');
    return 1;
  }
  const [driver, core] = cores;
  const size = options.quick === true ? 'quick' : 'full';
  const rounds = Math.ceil((options.moves ?? MOVES[size]) / BLOCK);
  const queueRounds = options.rounds ?? ROUNDS[size];
  const progress = options.quiet === true ? silent : makeProgress();
  const trouble = kvmTrouble();
  if (trouble === '') needBuilt(artifacts.image, 'the guest image');
  needBuilt(artifacts.hosted, 'the hosted FluxOS');
  const wheres = [
    { name: 'KVM', hosted: false, trouble },
    { name: 'hosted', hosted: true, trouble: '' },
  ];
  pinProcess([driver]);
  pinThread(driver);
  progress.stage('starting VMs');
  const rig = new Rig(driver, [core]);
  // The VM whose queues are looked at has this process's core as well.
  let wide: Rig | undefined;
  try {
    const parks: { where: string; rows: SafePark[] }[] = [];
    for (const where of wheres) {
      const rows: SafePark[] = [];
      for (const doing of DOINGS) rows.push(await SafePark.start(rig, core, where, doing, rounds * BLOCK));
      parks.push({ where: where.name, rows });
    }
    const floor = new Samples(rounds * BLOCK);
    const blocks = parks
      .flatMap(({ rows }) => rows)
      .map((of): Block => ({ name: of.name, run: () => of.block(BLOCK) }));
    progress.stage(`${blocks.length} rows, ${rounds * BLOCK} parks each, in turns`);
    await rotate([floorBlock(core, floor), ...blocks], {
      rounds,
      progress: (done, total, name) => progress.step(done, total, name),
    });
    const base = floor.summary()?.p50;
    const rows: Row[] = [
      row(FLOOR, 'us', floor.summary(), base),
      ...parks.flatMap((of) => of.rows.map((safe) => safe.row(base))),
    ];

    wide = new Rig(driver, [driver, core]);
    const lanes = await QueueLane.all(wide, [driver, core], trouble !== '', queueRounds);
    progress.stage(`${QUEUES}: ${lanes.length} VMs, ${queueRounds} blocks each, in turns`);
    await rotate(
      lanes.map((lane): Block => ({ name: lane.name, run: () => lane.block() })),
      { rounds: queueRounds, progress: (done, total, name) => progress.step(done, total, name) },
    );
    progress.end();
    rows.push(...lanes.flatMap((lane) => lane.rows()));
    const report: Report = {
      schema: 1,
      bench: 'park',
      env: { ...describeEnv('unprivileged'), parks_per_row: rounds * BLOCK, queue_blocks: queueRounds },
      rows,
      goals: parks.flatMap((of) => safeGoals(of.where, of.rows)),
    };
    if (options.out !== undefined) writeReport(options.out, report);
    process.stdout.write(options.json === true ? formatReport(report) : renderReport(report));
    return allMet(report) ? 0 : 1;
  } finally {
    progress.end();
    await wide?.close();
    await rig.close();
  }
}

if (import.meta.main) {
  const { values } = parseArgs({ options: { json: { type: 'boolean' }, quick: { type: 'boolean' } } });
  process.exitCode = await bench(values);
}

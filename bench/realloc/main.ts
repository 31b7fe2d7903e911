/**
 * `hyperflux bench realloc`: how long it takes to get a core from one busy VM to
 * another, by HyperFlux and by the strongest alternatives, in one run.
 *
 * All rows take turns in short blocks. Every sample is the time from the decision (a
 * TSC read just before the command) to the first instruction of the guest that got the
 * core, by the guest's own stamp. The driver is TypeScript, as the arbiter is; what it
 * costs is in every row alike.
 */
import { availableParallelism } from 'node:os';
import { W_SUMMARY_INTEGRITY_ERRORS, HOT_BYTES } from '../../arbiter/abi/layout.gen.ts';
import { summaryOffset } from '../../arbiter/abi/words.ts';
import {
  futexWakeFloor,
  getAffinity,
  holdCpuDmaLatency,
  closeFd,
  pinProcess,
  pinThread,
} from '../../native/index.ts';
import { kfluxUsable } from '../../arbiter/kmod/usable.ts';
import { describeEnv } from '../lib/env.ts';
import { makeProgress } from '../lib/progress.ts';
import { rotate, type Block } from '../lib/rotate.ts';
import {
  allMet,
  formatReport,
  goal,
  notMeasured,
  row,
  writeReport,
  type Goal,
  type Report,
  type Row,
} from '../lib/schema.ts';
import { Samples } from '../lib/stats.ts';
import { renderReport } from '../lib/table.ts';
import { bridgeGoals, countRows, managedRows, type ManagedRows } from './bridges.ts';
import { Rig, type RigVm } from '../lib/rig.ts';
import { RowError, type Measured } from './row.ts';
import { stranded, type Stranded } from './strand.ts';
import { cpusetRow, freezerRow, type Undoable } from './cgroups.ts';
import { affinityRow, freeze, stopRow } from './swap.ts';
import { wakeRows } from './wake.ts';

export interface Options {
  json?: boolean;
  /** A tenth of the moves: to see that it works, not to quote. */
  quick?: boolean;
  out?: string;
  moves?: number;
}

const BLOCK = 50;
export const FLOOR = 'floor: idle grant (futex wake of a sleeper)';
const FLOOR_AWAKE = 'floor: idle grant, cpu_dma_latency 0';
const STRAND = 'lock stranded by a park';

export function floorRow(core: number, name: string, capacity: number, awake: boolean): Measured {
  const samples = new Samples(capacity);
  const out = new Float64Array(BLOCK);
  const probe = awake ? holdCpuDmaLatency(0) : undefined;
  const missing = probe === null ? 'this host has no /dev/cpu_dma_latency' : undefined;
  if (typeof probe === 'number') closeFd(probe);
  return {
    name,
    samples,
    missing,
    block(moves) {
      const hold = awake ? holdCpuDmaLatency(0) : null;
      futexWakeFloor(core, Math.min(moves, BLOCK), out, { gapUs: 60 });
      for (let i = 0; i < Math.min(moves, BLOCK); i++) samples.push(out[i] / 1000);
      if (hold !== null) closeFd(hold);
    },
  };
}

const p50 = (of: Measured): number | undefined => of.samples.summary()?.p50;
const p99 = (of: Measured): number | undefined => of.samples.summary()?.p99;

function smallest(rows: readonly Measured[], of: (row: Measured) => number | undefined): [number, string] {
  const values = rows.map((r): [number, string] => [of(r) ?? Infinity, r.name]);
  return values.reduce((a, b) => (b[0] < a[0] ? b : a));
}

function goals(
  asked: Measured,
  kicked: Measured,
  rivals: readonly Measured[],
  strand: Samples | undefined,
  errors: number,
): Goal[] {
  const [median, medianName] = smallest(rivals, p50);
  const [tail, tailName] = smallest(rivals, p99);
  return [
    goal('asked p50, us: below every alternative', median, p50(asked), `fastest: ${medianName}`),
    goal('kicked p50, us: 1.1 x the fastest alternative', 1.1 * median, p50(kicked), medianName),
    goal('kicked p99, us: 1.5 x the best alternative', 1.5 * tail, p99(kicked), tailName),
    goal('lock stranded p99, us: one whole move (kicked p99)', p99(kicked) ?? 0, strand?.summary()?.p99),
    goal('guest integrity errors', 0, errors),
  ];
}

export async function bench(options: Options = {}): Promise<number> {
  const cores = getAffinity(0);
  if (cores.length < 2 || availableParallelism() < 2) {
    process.stderr.write('bench realloc needs two cores: one for the driver, one that moves.\n');
    return 1;
  }
  const [driver, core] = cores;
  const moves = options.moves ?? (options.quick ? 300 : 3000);
  const rounds = Math.ceil(moves / BLOCK);
  const capacity = rounds * BLOCK;
  const progress = makeProgress();
  pinProcess([driver]);
  pinThread(driver);

  progress.stage('starting VMs');
  const rig = new Rig(driver, [core]);
  const usable = kfluxUsable();
  const kfluxRig = usable.usable ? new Rig(driver, [core], { bridge: 'kflux' }) : null;
  const managed: ManagedRows[] = [];
  const undo: Undoable[] = [];
  try {
    const affinity = await managedRows(rig, core, '', capacity);
    const kflux = kfluxRig === null ? null : await managedRows(kfluxRig, core, 'kFlux ', capacity);
    const bridges = [affinity, ...(kflux === null ? [] : [kflux])];
    managed.push(...bridges);
    const free = { cpus: String(core) };
    const unmanaged = (name: string, cmdline: string): Promise<RigVm> =>
      rig.start({ name, cmdline, unmanaged: free, idleSpinNs: 1000 });
    const donor = await unmanaged('donor', 'probe mode=spin');
    const server = await unmanaged('server', 'serve');
    const swapped: [RigVm, RigVm] = [
      await unmanaged('swap-a', 'probe mode=spin'),
      await unmanaged('swap-b', 'probe mode=spin'),
    ];
    const frozen: [RigVm, RigVm] = [
      await unmanaged('frozen-a', 'probe mode=spin'),
      await unmanaged('frozen-b', 'probe mode=spin'),
    ];
    const inSets: [RigVm, RigVm] = [
      await unmanaged('set-a', 'probe mode=spin'),
      await unmanaged('set-b', 'probe mode=spin'),
    ];
    // Calibration in the server's guest takes a moment; then everyone stands still.
    await new Promise((done) => setTimeout(done, 500));
    freeze([donor, server, ...swapped, ...frozen, ...inSets]);

    const { asked, kicked } = affinity;
    const freezer = freezerRow(rig, frozen, capacity);
    const cpuset = cpusetRow(rig, driver, core, inSets, capacity);
    undo.push(freezer, cpuset);
    const rivals = [
      ...wakeRows(rig, donor, server, capacity),
      affinityRow(rig, driver, core, swapped, capacity),
      stopRow(rig, swapped, capacity),
      freezer.row,
      cpuset.row,
    ];
    const floor = floorRow(core, FLOOR, capacity, false);
    const awake = floorRow(core, FLOOR_AWAKE, capacity, true);
    const all = [floor, awake, ...bridges.flatMap((rows) => rows.all), ...rivals];

    progress.stage(`${all.length} rows, ${capacity} moves each, in turns`);
    const blocks: Block[] = all
      .filter((measured) => measured.missing === undefined)
      .map((measured) => ({ name: measured.name, run: () => measured.block(BLOCK) }));
    await rotate(blocks, { rounds, progress: (done, total, name) => progress.step(done, total, name) });

    const plainVms = [donor, ...swapped, ...frozen, ...inSets];
    const errors =
      integrity(rig, [...affinity.vms, ...plainVms]) +
      (kfluxRig === null || kflux === null ? 0 : integrity(kfluxRig, kflux.vms));
    progress.stage('how long a park strands a lock');
    const strand = await strandedOrWhyNot(driver, core, options.quick ? 100 : 1000, progress);
    progress.end();

    const base = p50(floor);
    const rows: Row[] = all.map((measured) =>
      measured.missing === undefined
        ? row(measured.name, 'us', measured.samples.summary(), base)
        : notMeasured(measured.name, 'us', measured.missing),
    );
    for (const measured of bridges.flatMap((of) => [of.asked, of.kicked])) {
      for (const [stage, samples] of measured.stages ?? []) {
        rows.push(row(`${measured.name.split(':')[0]}, decision to ${stage}`, 'us', samples.summary(), base));
      }
    }
    rows.push(...bridges.flatMap((of) => [...countRows(of.asked), ...countRows(of.kicked)]));
    if (kflux === null) rows.push(notMeasured('kFlux: asked, kicked and yielded moves', 'us', usable.why));
    rows.push(
      strand instanceof RowError
        ? notMeasured(STRAND, 'us', strand.message)
        : {
            ...row(STRAND, 'us', strand.samples.summary(), base),
            note: `${strand.samples.length} of ${strand.rounds} moves hit the holder; the driver shares the core of the vCPU that takes over`,
          },
    );
    if (cores.length < 3) {
      rows.push(notMeasured('cross-core move', 'us', 'needs two movable cores beside the driver'));
      rows.push(
        notMeasured('k-th of n moves in a batch', 'us', 'needs more movable cores than this host has'),
      );
    }
    const report: Report = {
      schema: 1,
      bench: 'realloc',
      env: { ...describeEnv(kflux === null ? 'unprivileged' : 'full'), moves_per_row: capacity },
      rows,
      goals: [
        ...goals(asked, kicked, rivals, strand instanceof RowError ? undefined : strand.samples, errors),
        ...(kflux === null ? [] : bridgeGoals(kflux, affinity, comparable(cores.length))),
      ],
    };
    if (options.out) writeReport(options.out, report);
    process.stdout.write(options.json ? formatReport(report) : renderReport(report));
    return allMet(report) ? 0 : 1;
  } finally {
    progress.end();
    for (const of of undo) of.undo();
    for (const rows of managed) for (const measured of rows.all) measured.close?.();
    await kfluxRig?.close();
    await rig.close();
  }
}

/** What has been measured so far is worth printing, whatever becomes of the last row. */
async function strandedOrWhyNot(...args: Parameters<typeof stranded>): Promise<Stranded | RowError> {
  try {
    return await stranded(...args);
  } catch (error) {
    if (error instanceof RowError) return error;
    throw error;
  }
}

/** Errors that the guests themselves have found. */
function integrity(rig: Rig, vms: readonly RigVm[]): number {
  const errors = (vm: RigVm): number =>
    rig.pages[(vm.slot * HOT_BYTES + summaryOffset(vm.slot)) / 4 + W_SUMMARY_INTEGRITY_ERRORS];
  return vms.reduce((sum, vm) => sum + errors(vm), 0);
}

/** Whether the bridges' times may be compared here, or why not. */
function comparable(cores: number): string | true {
  if (cores === 2) return true;
  return 'compared where driver and guests have exactly two cores to themselves: hyperflux lab --cpus 2';
}

if (import.meta.main) {
  const has = (flag: string): boolean => process.argv.includes(flag);
  process.exitCode = await bench({ json: has('--json'), quick: has('--quick') });
}

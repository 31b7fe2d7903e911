/** The same managed rows over a bridge: asked, kicked and yielded moves between pairs of VMs of one rig. */
import { FLAG_ASK_ONLY, FLAG_KICK_NOW } from '../../native/index.ts';
import type { Rig, RigVm } from '../lib/rig.ts';
import { goal, row, type Goal, type Row } from '../lib/schema.ts';
import { moveRow, STAMPS, yieldRow } from './managed.ts';
import type { Measured } from './row.ts';

export interface ManagedRows {
  readonly asked: Measured;
  readonly kicked: Measured;
  readonly yielded: Measured;
  readonly all: readonly Measured[];
  readonly vms: readonly RigVm[];
}

/** Starts the VMs. `label` goes before the rows' names: '' for the affinity bridge. */
export async function managedRows(
  rig: Rig,
  core: number,
  label: string,
  capacity: number,
): Promise<ManagedRows> {
  const pair = async (name: string, cmdline: string): Promise<[RigVm, RigVm]> => [
    await rig.start({ name: `${name}-a`, cmdline }),
    await rig.start({ name: `${name}-b`, cmdline }),
  ];
  const polls = await pair('poll', 'probe mode=poll');
  const spins = await pair('spin', 'probe mode=spin');
  const yields = await pair('yield', 'probe mode=yield work_ns=100000');
  const name = (text: string): string => `${label}${text}`;
  const asked = moveRow(
    rig,
    core,
    name('asked: MOVE, the guest leaves by itself'),
    polls,
    STAMPS,
    FLAG_ASK_ONLY,
    capacity,
  );
  const kicked = moveRow(
    rig,
    core,
    name('kicked: MOVE, parked host-side'),
    spins,
    STAMPS,
    FLAG_KICK_NOW,
    capacity,
  );
  const yielded = yieldRow(rig, core, name('yield: the heir gets the core'), yields, capacity);
  const all = [asked, kicked, yielded];
  return { asked, kicked, yielded, all, vms: [...polls, ...spins, ...yields] };
}

/** What a move of a row is made of, or nothing where it cannot be counted. */
export function countRows(measured: Measured): Row[] {
  const what = measured.name.split(':')[0];
  return [...(measured.counts ?? [])].map(([kind, samples]) =>
    row(`${what}, ${kind} a move`, 'count', samples.summary()),
  );
}

const median = (measured: Measured): number | undefined => measured.samples.summary()?.p50;
const counted = (measured: Measured, kind: string): number | undefined =>
  measured.counts?.get(kind)?.summary()?.p50;

/**
 * kFlux against the affinity bridge, like for like. Times are a goal only where both had the same two cores to
 * themselves (`comparable`); counts hold anywhere.
 */
export function bridgeGoals(kflux: ManagedRows, affinity: ManagedRows, comparable: string | true): Goal[] {
  const calls = (rows: ManagedRows): number | undefined => {
    const [arbiter, vcpus] = ['arbiter calls', 'vCPU calls'].map((kind) => counted(rows.kicked, kind));
    return arbiter === undefined || vcpus === undefined ? undefined : arbiter + vcpus;
  };
  const less = (name: string, ours: number | undefined, theirs: number | undefined): Goal =>
    // Fewer, not as many: anything below the other's count meets it.
    goal(
      `kFlux kicked, ${name} a move: fewer than affinity`,
      (theirs ?? 0) - 0.01,
      ours,
      theirs === undefined ? 'cannot be counted here' : `affinity: ${theirs.toFixed(2)}`,
    );
  const time = (name: string, factor: number, row: 'asked' | 'kicked'): Goal =>
    goal(
      name,
      factor * (median(affinity[row]) ?? 0),
      comparable === true ? median(kflux[row]) : undefined,
      comparable === true ? `affinity: ${median(affinity[row])?.toFixed(1)} us` : comparable,
    );
  return [
    less('system calls', calls(kflux), calls(affinity)),
    less(
      'context switches',
      counted(kflux.kicked, 'context switches'),
      counted(affinity.kicked, 'context switches'),
    ),
    less('interrupts', counted(kflux.kicked, 'interrupts'), counted(affinity.kicked, 'interrupts')),
    goal('kFlux kicked, native calls a move', 1, counted(kflux.kicked, 'arbiter calls')),
    time('kFlux kicked p50, us: at least 8 % below affinity', 0.92, 'kicked'),
    time('kFlux asked p50, us: a tie with affinity (5 %)', 1.05, 'asked'),
  ];
}

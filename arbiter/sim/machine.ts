/**
 * What moving a core and running FluxOS cost on some machine. The times of moves are
 * distributions that `hyperflux bench realloc` measured there; a file that it wrote
 * with --out can be given, and one comes with HyperFlux, named after its machine.
 */
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import type { Row } from '../../bench/lib/schema.ts';
import { parseReport } from '../../bench/lib/schema.ts';
import { ControlError } from '../control/protocol.ts';

/** Maps a number from 0 to 1, drawn evenly, to nanoseconds. */
export type Quantiles = (share: number) => number;

export interface MoveTimes {
  /** From the decision to when the core is handed over. */
  readonly handed: Quantiles;
  /** From the decision to the successor's first instruction. The same draw belongs to both. */
  readonly first: Quantiles;
}

export interface TurnTimes {
  /** A turn that only looks: for the loop itself, each managed core, each VM. */
  readonly baseNs: number;
  readonly perCoreNs: number;
  readonly perVmNs: number;
  /** What a turn that decides takes beyond: at least, for each managed core, each VM that wants something. */
  readonly decideNs: number;
  readonly decideCoreNs: number;
  readonly perHotNs: number;
  /** For each command that it carries out: a grant wakes a thread, a move or a park kicks one, an heir is a word. */
  readonly perGrantNs: number;
  readonly perMoveNs: number;
  readonly perHeirNs: number;
  /** Instead of all of it, if a distribution of whole turns was measured. */
  readonly measured?: Quantiles;
}

export interface GuestTimes {
  /** From one uThread to the next. */
  readonly switchNs: number;
  /** A request from the ring to its first instruction, and its completion. */
  readonly requestNs: number;
  /** Until an idle vCPU has noticed new work. */
  readonly noticeNs: number;
  readonly spawnNs: number;
  readonly stealNs: number;
  /** A held context: through the door, exported by the host, taken over. */
  readonly takeOverNs: number;
}

export interface Machine {
  /** What it was measured on, for people. */
  readonly name: string;
  readonly asked: MoveTimes;
  readonly kicked: MoveTimes;
  /** From the yield to the heir's first instruction. */
  readonly yielded: Quantiles;
  /** An idle core: from the decision to the first instruction. */
  readonly granted: Quantiles;
  readonly turn: TurnTimes;
  readonly guest: GuestTimes;
}

/** FluxOS by its own benchmarks (bench uthreads), rounded up: a hundred nanoseconds here or there decide nothing. */
export const guestTimes: GuestTimes = {
  ...{ switchNs: 60, requestNs: 250, noticeNs: 100, spawnNs: 100, stealNs: 150 },
  takeOverNs: 12_000,
};

/**
 * Estimated, by hand, from a report of `bench loop` (its idle, busy and moving rows from 1 to 1,024 VMs). What the
 * kernel takes for a wake or a signal from a thread under KVM is not in those rows and is added here.
 */
export const turnTimes: TurnTimes = {
  ...{ baseNs: 30, perCoreNs: 4, perVmNs: 1.4 },
  ...{ decideNs: 300, decideCoreNs: 15, perHotNs: 45 },
  ...{ perGrantNs: 7000, perMoveNs: 2500, perHeirNs: 60 },
};

/**
 * A quantile function through a row's percentiles: logarithms of the times, straight between them over the logarithm
 * of 1/(1-p), which is how tails are read. Rows have no minimum; what lies below the median mirrors what is above it.
 */
export function quantilesOf(row: Row): Quantiles {
  const { p50, p90, p99, p999, max, n } = row;
  if (p50 === null || p90 === null || p99 === null || p999 === null || max === null || n < 2)
    throw new Error(`the row "${row.name}" has no percentiles`);
  const scale = { ns: 1, us: 1000, ms: 1e6 }[row.unit];
  if (scale === undefined) throw new Error(`the row "${row.name}" is in ${row.unit}, not in a unit of time`);
  const below = Math.max(p50 * 0.5, 2 * p50 - p90);
  // A percentile beyond the last sample is the maximum: then the curve ends there.
  const points = [
    { share: 0, value: below },
    { share: 0.5, value: p50 },
    { share: 0.9, value: p90 },
    { share: 0.99, value: p99 },
    { share: 0.999, value: p999 },
    { share: 1 - 1 / n, value: max },
  ].filter(({ share }, i, all) => i === all.length - 1 || share < 1 - 1 / n);
  const depth = points.map(({ share }) => -Math.log(1 - share));
  const level = points.map(({ value }, i) =>
    // Rising, whatever the row says.
    Math.log(Math.max(1e-3, ...points.slice(0, i + 1).map((point) => point.value), value) * scale),
  );
  const last = depth.length - 1;
  return (share) => {
    const x = -Math.log(1 - share);
    if (x >= depth[last]) return Math.exp(level[last]);
    let i = 1;
    while (depth[i] < x) i++;
    const part = (x - depth[i - 1]) / (depth[i] - depth[i - 1]);
    return Math.exp(level[i - 1] + part * (level[i] - level[i - 1]));
  };
}

export const always =
  (ns: number): Quantiles =>
  () =>
    ns;

export const evenTurns = (us: number): TurnTimes => ({
  ...{ baseNs: us * 1000, perCoreNs: 0, perVmNs: 0 },
  ...{ decideNs: 0, decideCoreNs: 0, perHotNs: 0, perGrantNs: 0, perMoveNs: 0, perHeirNs: 0 },
});

/** Every move, grant and turn takes the same: for tests, and for theory. */
export function evenMachine(moveUs: number, turnUs: number): Machine {
  const move = { handed: always(moveUs * 500), first: always(moveUs * 1000) };
  return {
    name: `made up: every move takes ${moveUs} us`,
    ...{ asked: move, kicked: move, yielded: move.first, granted: move.first },
    turn: evenTurns(turnUs),
    guest: { switchNs: 0, requestNs: 0, noticeNs: 0, spawnNs: 0, stealNs: 0, takeOverNs: 0 },
  };
}

/** From rows of bench realloc, whatever else is among them. */
export function machineOf(rows: readonly Row[], name: string): Machine {
  const find = (start: string): Row => {
    const found = rows.find((row) => row.name.startsWith(start) && row.n > 0);
    if (found === undefined) throw new Error(`it has no measured row "${start}"`);
    return found;
  };
  // kFlux's rows where it was measured: it is what moves the cores then.
  const kflux = rows.some((row) => row.name.startsWith('kFlux kicked:') && row.n > 0) ? 'kFlux ' : '';
  const move = (how: string): MoveTimes => ({
    handed: quantilesOf(find(`${kflux}${how}, decision to handed over`)),
    first: quantilesOf(find(`${kflux}${how}:`)),
  });
  return {
    name,
    asked: move('asked'),
    kicked: move('kicked'),
    yielded: quantilesOf(find(`${kflux}yield:`)),
    granted: quantilesOf(find('floor: idle grant')),
    turn: turnTimes,
    guest: guestTimes,
  };
}

/** A report of `bench realloc`, or of `bench sim`. Throws what is wrong with it and how to get one. */
export function readMachine(path: string): Machine {
  try {
    const report = parseReport(JSON.parse(readFileSync(path, 'utf8')));
    const { cpu, kernel, kvm } = report.env;
    const on = [cpu, kvm, typeof kernel === 'string' ? `Linux ${kernel}` : null].filter(
      (part) => typeof part === 'string',
    );
    return machineOf(report.rows, `${basename(path)}: ${on.join(', ')}`);
  } catch (cause) {
    throw new ControlError(
      'request',
      `cannot take the times of moves from ${path}: ${(cause as Error).message}`,
      'It has to be a report of: hyperflux bench realloc --out FILE, or of bench sim',
    );
  }
}

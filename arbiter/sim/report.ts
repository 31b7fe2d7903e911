/** Results of several policies side by side, as a table and as JSON. */
import { columns, figure } from '../../bench/lib/table.ts';
import type { Latencies } from './latency.ts';
import type { GroupResult, SimResult } from './run.ts';
import type { Scenario } from './scenario.ts';

export const PERCENTILES = [
  ['p50', 0.5],
  ['p90', 0.9],
  ['p99', 0.99],
  ['p999', 0.999],
] as const;

const us = (ns: number | undefined): number | null => (ns === undefined ? null : ns / 1000);

export function percentiles(latencies: Latencies): Record<string, number | null> {
  const all = PERCENTILES.map(([name, share]) => [name, us(latencies.at(share))] as const);
  return {
    n: latencies.n,
    ...Object.fromEntries(all),
    max: latencies.n === 0 ? null : latencies.max / 1000,
    mean: latencies.n === 0 ? null : latencies.mean / 1000,
  };
}

export const held = ({ coreTime: { useful, spinning, arriving } }: GroupResult): number =>
  useful + spinning + arriving;

export const movesOf = ({ handovers: { granted, moved, inherited } }: SimResult): number =>
  granted + moved + inherited;

/** Sum over the groups. */
const total = (result: SimResult, of: (group: GroupResult) => number): number =>
  result.groups.reduce((sum, group) => sum + of(group), 0);

export interface Whole {
  coreSeconds: number;
  usefulShare: number;
  spinningShare: number;
  arrivingShare: number;
  movesPerSecond: number;
  turnUs: number;
  unfinished: number;
}

export function wholeOf(result: SimResult): Whole {
  const coreSeconds = total(result, held);
  const share = (of: (group: GroupResult) => number): number =>
    coreSeconds === 0 ? 0 : total(result, of) / coreSeconds;
  return {
    coreSeconds,
    usefulShare: share(({ coreTime }) => coreTime.useful),
    spinningShare: share(({ coreTime }) => coreTime.spinning),
    arrivingShare: share(({ coreTime }) => coreTime.arriving),
    movesPerSecond: movesOf(result) / result.seconds,
    turnUs: result.turns === 0 ? 0 : (result.seconds * 1e6 * result.partitions) / result.turns,
    unfinished: total(result, ({ unfinished }) => unfinished),
  };
}

export const percent = (share: number): string => `${(share * 100).toFixed(1)} %`;
/** Short runs have few of them. */
export const coreHours = (seconds: number): string =>
  seconds === 0
    ? '0'
    : seconds >= 360_000
      ? figure(Math.round(seconds / 3600))
      : String(Number((seconds / 3600).toPrecision(3)));
const right = (n: number): ('left' | 'right')[] => new Array<'right'>(n).fill('right');

export function describeScenario(scenario: Scenario, results: readonly SimResult[]): string {
  const { cores, vms, seconds, partitions } = results[0];
  const number = (n: number): string => n.toLocaleString('en-US');
  const divided = partitions === 1 ? '' : `, divided among ${partitions} arbiters`;
  return `${scenario.name}: ${number(vms)} VMs on ${number(cores)} cores${divided}, ${seconds} s of virtual time, seed ${scenario.seed}`;
}

export function renderResults(scenario: Scenario, results: readonly SimResult[]): string {
  const lines = [describeScenario(scenario, results), `times of moves: ${results[0].machine}`];
  const serving = results[0].groups.filter(({ arrived }) => arrived > 0).map(({ name }) => name);
  const groupOf = (result: SimResult, name: string): GroupResult =>
    result.groups.find((group) => group.name === name)!;
  if (serving.length > 0) {
    const head = ['latency, us', 'policy', 'requests', 'p50', 'p90', 'p99', 'p99.9', 'max', 'unfinished'];
    const rows = serving.flatMap((name) =>
      results.map((result, i) => {
        const group = groupOf(result, name);
        const { n: _, p50, p90, p99, p999, max } = percentiles(group.latency);
        return [
          i === 0 ? `${name} (${group.class})` : '',
          result.policy,
          ...[group.arrived, p50, p90, p99, p999, max, group.unfinished].map((value) => figure(value)),
        ];
      }),
    );
    lines.push('', ...columns(head, ['left', 'left', ...right(7)], rows));
  }
  const head = ['cores', 'policy', 'held', 'useful', 'spinning', 'arriving', 'core-hours'];
  const rows = results[0].groups.flatMap(({ name }) =>
    results.map((result, i) => {
      const group = groupOf(result, name);
      const { useful, spinning, arriving } = group.coreTime;
      return [
        i === 0 ? `${name} (${group.class})` : '',
        result.policy,
        ...[held(group), useful, spinning, arriving].map((seconds) => figure(seconds / result.seconds)),
        coreHours(held(group)),
      ];
    }),
  );
  lines.push('', ...columns(head, ['left', 'left', ...right(5)], rows));
  const whole = results.map((result) => {
    const { usefulShare, spinningShare, movesPerSecond, turnUs, coreSeconds } = wholeOf(result);
    const { granted, moved, inherited } = result.handovers;
    return [
      result.policy,
      coreHours(coreSeconds),
      percent(coreSeconds / (result.cores * result.seconds)),
      percent(usefulShare),
      percent(spinningShare),
      ...[movesPerSecond, ...[granted, moved, inherited].map((n) => n / result.seconds), turnUs].map(
        (value) => figure(value >= 100 ? Math.round(value) : value),
      ),
    ];
  });
  const wholeHead = ['host', 'core-hours', 'of host', 'useful', 'spinning'];
  const moveHead = ['moves/s', 'granted', 'decided', 'inherited', 'turn, us'];
  lines.push('', ...columns([...wholeHead, ...moveHead], ['left', ...right(9)], whole));
  const faults = results.filter(({ faults }) => faults > 0);
  lines.push(
    ...faults.map(
      ({ policy, faults }) => `${policy} threw in ${figure(faults)} turns, and nothing moved in those`,
    ),
  );
  return lines.join('\n');
}

/** For --json. `folder` is where the file lay, and nobody's business. */
export function resultsJson({ folder: _, ...scenario }: Scenario, results: readonly SimResult[]): object {
  return {
    schema: 1,
    scenario,
    results: results.map((result) => ({
      policy: result.policy,
      machine: result.machine,
      partitions: result.partitions,
      groups: result.groups.map((group) => ({
        name: group.name,
        class: group.class,
        vms: group.vms,
        arrived: group.arrived,
        finished: group.finished,
        unfinished: group.unfinished,
        latency_us: percentiles(group.latency),
        wait_us: percentiles(group.wait),
        core_seconds: { held: held(group), ...group.coreTime },
        cores_held: group.coresHeld,
        cores_useful: group.coresUseful,
      })),
      core_hours: wholeOf(result).coreSeconds / 3600,
      moves_per_second: wholeOf(result).movesPerSecond,
      handovers: result.handovers,
      turns: result.turns,
      decisions: result.decisions,
      commands: result.commands,
      commands_failed: result.failed,
      guard_edits: result.edits,
      policy_faults: result.faults,
      wall_seconds: Math.round(result.wallSeconds * 1000) / 1000,
    })),
  };
}

/**
 * What the demo found: as the one schema of all benchmarks, and as a person reads it.
 */
import { goal, notMeasured, row } from '../lib/schema.ts';
import type { Env, Goal, Report, Row } from '../lib/schema.ts';
import { summarize } from '../lib/stats.ts';
import type { Summary } from '../lib/stats.ts';
import { columns, figure, verdict } from '../lib/table.ts';
import type { Schedule } from '../load/schedule.ts';
import { utilisation } from '../load/schedule.ts';
import type { PhaseResult } from './phases.ts';
import { interpret } from './sentence.ts';

/** Moves as they were measured: from the decision to the first instruction of the vCPU that got the core. */
export interface MoveLatency {
  /** Microseconds; undefined: nothing was measured. */
  summary: Summary | undefined;
  /** How the samples came about. */
  source: string;
}

export interface Findings {
  env: Env;
  /** How the guests ran, and why that way. */
  how: string;
  arbiterCore: number;
  movable: readonly number[];
  schedule: Schedule;
  /** In the order in which they ran. */
  phases: readonly PhaseResult[];
  moveLatency: MoveLatency;
  /** Microseconds from a futex wake to a sleeper's first instruction on an idle core. */
  floor: Summary | undefined;
  /** What else a reader should know. */
  notes: readonly string[];
}

/** A single figure in the shape of a row. */
function single(name: string, unit: string, value: number): Row {
  return { name, unit, n: 1, p50: value, p90: value, p99: value, p999: value, max: value, ratio: null };
}

function phaseRows(result: PhaseResult, alone: Summary | undefined): Row[] {
  const { phase, load, counters } = result;
  const rows = [row(`serve latency, ${phase.title}`, 'us', summarize(load.latencyUs), alone?.p50)];
  rows.push(single(`serve requests unfinished, ${phase.title}`, 'requests', load.unfinished));
  rows.push(single(`ring overruns, ${phase.title}`, 'requests', load.overruns));
  rows.push(row(`releaser lateness, ${phase.title}`, 'us', summarize(load.latenessUs)));
  if (result.blocksPerSecond !== undefined) {
    const rate = row(`batch, ${phase.title}`, 'blocks/s', summarize(result.blocksPerSecond));
    const mean = result.meanBlocksPerSecond;
    if (mean !== undefined)
      rate.note = `percentiles of intervals; ${figure(mean)} blocks/s over the whole schedule`;
    rows.push(rate);
  }
  rows.push(single(`cores' time used by others, ${phase.title}`, '%', result.foreign * 100));
  rows.push(single(`a core's time used by the demo itself, ${phase.title}`, '%', result.driver * 100));
  if (phase.id === 'hyperflux') {
    rows.push(single(`moves, ${phase.title}`, 'moves', counters.moves));
    rows.push(single(`moves decided by the arbiter, ${phase.title}`, 'moves', counters.decided));
    rows.push(single(`forced parks of running victims, ${phase.title}`, 'parks', counters.forced));
    rows.push(
      single(`forced parks of descheduled victims, ${phase.title}`, 'parks', counters.forcedDescheduled),
    );
  }
  return rows;
}

const MOVE = 'decision to first guest instruction';
const FLOOR = 'floor: futex wake of a sleeper on an idle core';

function goals({ phases }: Findings): Goal[] {
  const total = (value: (result: PhaseResult) => number): number =>
    phases.reduce((sum, r) => sum + value(r), 0);
  return [
    goal(
      'forced parks of victims that the host had not descheduled',
      0,
      total((r) => r.counters.forced),
    ),
    goal(
      'guest integrity errors',
      0,
      total((r) => r.integrityErrors),
    ),
    goal(
      'requests unfinished under HyperFlux',
      0,
      phases.find((r) => r.phase.id === 'hyperflux')?.load.unfinished,
    ),
  ];
}

export function makeReport(findings: Findings): Report {
  const { env, phases, moveLatency, floor, schedule } = findings;
  const alone = phases.find((result) => result.phase.id === 'alone');
  const aloneSummary = alone && summarize(alone.load.latencyUs);
  const move =
    moveLatency.summary === undefined
      ? notMeasured(MOVE, 'us', moveLatency.source)
      : { ...row(MOVE, 'us', moveLatency.summary, floor?.p50), note: moveLatency.source };
  return {
    schema: 1,
    bench: 'demo',
    env: {
      ...env,
      how: findings.how,
      arbiter_core: findings.arbiterCore,
      movable_cores: findings.movable.join(','),
      load: describeLoad(schedule),
      seed: schedule.spec.seed,
      interpretation: interpret(phases),
    },
    rows: [
      ...phases.flatMap((result) => phaseRows(result, aloneSummary)),
      move,
      floor === undefined ? notMeasured(FLOOR, 'us', 'no second core') : row(FLOOR, 'us', floor, floor.p50),
    ],
    goals: goals(findings),
  };
}

export function describeLoad({ spec, dueNs }: Schedule): string {
  const { arrivals, service } = spec;
  const when =
    arrivals.kind === 'poisson'
      ? `Poisson arrivals at ${figure(arrivals.perSecond)}/s`
      : `bursts of about ${arrivals.onMs} ms at ${figure(arrivals.perSecond)}/s every ${arrivals.onMs + arrivals.offMs} ms or so`;
  const work =
    service.kind === 'constant'
      ? `${figure(service.ns / 1000)} us each`
      : service.kind === 'exponential'
        ? `exponential service of ${figure(service.meanNs / 1000)} us`
        : `${figure(service.shortNs / 1000)} us or ${figure(service.longNs / 1000)} us each`;
  const { burst, mean } = utilisation(spec);
  const share = `${(burst * 100).toFixed(0)} % of a core in a burst, ${(mean * 100).toFixed(0)} % in the long run`;
  return `${figure(dueNs.length)} requests in ${figure(spec.seconds)} s: ${when}, ${work} (${share})`;
}

const cell = (value: number | undefined): string => (value === undefined ? '-' : figure(Math.round(value)));

function phaseCells(result: PhaseResult): string[] {
  const { phase, load, counters } = result;
  const latency = summarize(load.latencyUs);
  const managed = phase.id === 'hyperflux';
  return [
    phase.title,
    cell(latency?.p50),
    cell(latency?.p99),
    cell(latency?.p999),
    figure(load.finished),
    figure(load.unfinished),
    cell(result.meanBlocksPerSecond),
    managed ? figure(counters.moves) : '-',
    managed ? figure(counters.forced) : '-',
    managed ? figure(counters.forcedDescheduled) : '-',
  ];
}

const PHASE_HEAD = [
  '',
  'p50',
  'p99',
  'p99.9',
  'requests',
  'unfinished',
  'blocks/s',
  'moves',
  'forced',
  '(host)',
];
const LATENCY_HEAD = ['microseconds', 'n', 'p50', 'p90', 'p99', 'p99.9', 'max', 'x floor'];

function latencyCells(name: string, summary: Summary | undefined, floor: number | undefined): string[] {
  if (summary === undefined) return [name, 'not measured'];
  const { n, p50, p90, p99, p999, max } = summary;
  const times = floor === undefined ? '' : (p50 / floor).toFixed(2);
  return [name, figure(n), ...[p50, p90, p99, p999, max].map((value) => figure(round(value))), times];
}

/** Tenths are more than this measurement gives, and line up. */
const round = (value: number): number => Math.round(value * 10) / 10;

const right = (count: number): 'right'[] => Array.from({ length: count }, () => 'right');

/** The final table. */
export function renderFindings(findings: Findings): string {
  const { phases, moveLatency, floor, schedule, notes, movable } = findings;
  const report = makeReport(findings);
  const lines = [
    findings.how,
    `Core ${findings.arbiterCore} is the arbiter's; ${movable.length === 1 ? 'core' : 'cores'} ${movable.join(', ')} can move.`,
    `Load: ${describeLoad(schedule)}. The same arrivals in each phase.`,
    '',
    'serve: microseconds from the scheduled arrival to the answer; batch: blocks hashed per second.',
    'Linux: both VMs under its scheduler as it is, at the same ordinary priority; idle guests block.',
    ...columns(PHASE_HEAD, ['left', ...right(PHASE_HEAD.length - 1)], phases.map(phaseCells)),
    '',
    ...columns(
      LATENCY_HEAD,
      ['left', ...right(LATENCY_HEAD.length - 1)],
      [
        latencyCells(MOVE, moveLatency.summary, floor?.p50),
        latencyCells(FLOOR, floor, floor?.p50),
        ...phases.map((r) =>
          latencyCells(`releaser late, ${r.phase.title}`, summarize(r.load.latenessUs), undefined),
        ),
      ],
    ),
    '',
    `Samples of moves: ${moveLatency.source}.`,
    ...notes,
    ...report.goals.map((g) => `${g.name}: ${g.value === null ? '-' : figure(g.value)}, ${verdict(g)}`),
    '',
    interpret(phases),
  ];
  return `${lines.join('\n')}\n`;
}

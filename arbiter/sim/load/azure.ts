/**
 * The two public traces of Azure Functions (github.com/Azure/AzurePublicDataset), in
 * their published formats. In both the application is what is deployed, so an
 * application is a VM here; the busiest come first.
 *
 * 2019: invocations of each function in each minute of a day, and for each function
 * percentiles of its duration. Within a minute arrivals lie evenly at random.
 * 2021: each invocation with the time of its end and its duration, in seconds.
 */
import { ControlError } from '../../control/protocol.ts';
import type { Random } from '../../../bench/load/random.ts';
import { linesOf } from './lines.ts';
import type { Arrivals, DrawService } from './arrivals.ts';
import { Listed } from './arrivals.ts';

/** What part of the trace, and how fast it passes. */
export interface Window {
  readonly fromS: number;
  /** Of the simulation; the trace's window is `speed` times as long. */
  readonly seconds: number;
  readonly speed: number;
}

/** One application's requests, for one VM. */
export interface App {
  readonly invocations: number;
  arrivals(draw: Random, service: DrawService | undefined, fanout: number): Arrivals;
}

type Progress = (share: number) => void;

const bad = (path: string, line: number, what: string): ControlError =>
  new ControlError(
    'request',
    `${path}, line ${line}: ${what}`,
    'The format is that of github.com/Azure/AzurePublicDataset, unpacked.',
  );

function number(text: string | undefined, path: string, line: number, what: string): number {
  const value = Number(text);
  if (text === undefined || text.trim() === '' || !Number.isFinite(value) || value < 0)
    throw bad(
      path,
      line,
      `${what} is ${text === undefined ? 'missing' : `"${text}"`}, not a number of 0 or more`,
    );
  return value;
}

function columns(header: string, names: readonly string[], path: string): number[] {
  const found = header.split(',').map((name) => name.trim());
  return names.map((name) => {
    const at = found.indexOf(name);
    if (at < 0) throw bad(path, 1, `there is no column ${name}`);
    return at;
  });
}

interface Fn {
  /** By minute of the window. */
  readonly counts: Float64Array;
  /** Nanoseconds by share; undefined: not known. */
  durations?: (share: number) => number;
}

const MINUTES = 1440;
const PERCENTS = [0, 1, 25, 50, 75, 99, 100];

export function readInvocations2019(
  invocations: string,
  durations: string | undefined,
  window: Window,
  progress: Progress = () => {},
): App[] {
  const from = Math.floor(window.fromS / 60);
  const to = Math.ceil((window.fromS + window.seconds * window.speed) / 60);
  if (to > MINUTES)
    throw new ControlError(
      'request',
      `${invocations} is one day, ${MINUTES} minutes; this asks for its minutes ${from} to ${to}`,
      'Lower from_s, seconds or speed.',
    );
  const apps = new Map<string, Map<string, Fn>>();
  let at: number[] = [];
  let row = 0;
  for (const line of linesOf(invocations, (share) => progress(share * (durations === undefined ? 1 : 0.7)))) {
    row++;
    if (row === 1) {
      at = columns(line, ['HashOwner', 'HashApp', 'HashFunction', '1', String(MINUTES)], invocations);
      if (at[4] - at[3] !== MINUTES - 1)
        throw bad(invocations, 1, 'the minutes 1 to 1440 are not one after the other');
      continue;
    }
    if (line === '') continue;
    const cells = line.split(',', at[3] + to);
    const counts = new Float64Array(to - from);
    let any = false;
    for (let m = from; m < to; m++) {
      const count = number(cells[at[3] + m], invocations, row, `the count of minute ${m + 1}`);
      if (!Number.isInteger(count)) throw bad(invocations, row, `the count of minute ${m + 1} is ${count}`);
      counts[m - from] = count;
      any ||= count > 0;
    }
    if (!any) continue;
    const app = `${cells[at[0]]},${cells[at[1]]}`;
    const functions = apps.get(app) ?? new Map<string, Fn>();
    apps.set(app, functions);
    functions.set(cells[at[2]], { counts });
  }
  if (row === 0) throw bad(invocations, 1, 'it is empty');
  if (durations !== undefined) readDurations(durations, apps, (share) => progress(0.7 + 0.3 * share));
  return [...apps.values()]
    .map((functions) => app2019([...functions.values()], from * 60, window))
    .sort((a, b) => b.invocations - a.invocations);
}

function readDurations(path: string, apps: Map<string, Map<string, Fn>>, progress: Progress): void {
  let at: number[] = [];
  let row = 0;
  for (const line of linesOf(path, progress)) {
    row++;
    if (row === 1) {
      const names = [
        'HashOwner',
        'HashApp',
        'HashFunction',
        ...PERCENTS.map((p) => `percentile_Average_${p}`),
      ];
      at = columns(line, names, path);
      continue;
    }
    if (line === '') continue;
    const cells = line.split(',');
    const fn = apps.get(`${cells[at[0]]},${cells[at[1]]}`)?.get(cells[at[2]]);
    if (fn === undefined) continue;
    const ns = PERCENTS.map((p, i) => number(cells[at[3 + i]], path, row, `percentile ${p}`) * 1e6);
    fn.durations = (share) => {
      let i = 1;
      while (i < PERCENTS.length - 1 && PERCENTS[i] < share * 100) i++;
      const part = (share * 100 - PERCENTS[i - 1]) / (PERCENTS[i] - PERCENTS[i - 1]);
      return Math.max(1000, ns[i - 1] + part * (ns[i] - ns[i - 1]));
    };
  }
}

function app2019(functions: readonly Fn[], beginS: number, { fromS, seconds, speed }: Window): App {
  const perMinute = (m: number): number => functions.reduce((sum, { counts }) => sum + counts[m], 0);
  const minutes = functions[0].counts.length;
  let invocations = 0;
  for (let m = 0; m < minutes; m++) invocations += perMinute(m);
  return {
    invocations,
    arrivals(draw, service, fanout) {
      const due: number[] = [];
      const work: number[] = [];
      for (let m = 0; m < minutes; m++) {
        const start = beginS + 60 * m - fromS;
        const times: { at: number; fn: Fn }[] = [];
        for (const fn of functions)
          for (let i = 0; i < fn.counts[m]; i++) times.push({ at: (start + 60 * draw()) / speed, fn });
        times.sort((a, b) => a.at - b.at);
        for (const { at, fn } of times) {
          // Drawn for those outside of the window too, so that the window's edges change nothing inside it.
          const share = draw();
          if (at < 0 || at >= seconds) continue;
          due.push(at * 1e9);
          work.push(fn.durations?.(share) ?? service?.() ?? 0);
        }
      }
      return new Listed(Float64Array.from(due), Float64Array.from(work), fanout);
    },
  };
}

export function readInvocations2021(path: string, window: Window, progress: Progress = () => {}): App[] {
  const endS = window.fromS + window.seconds * window.speed;
  const apps = new Map<string, { startS: number; durationS: number }[]>();
  let at: number[] = [];
  let row = 0;
  for (const line of linesOf(path, progress)) {
    row++;
    if (row === 1) {
      at = columns(line, ['app', 'func', 'end_timestamp', 'duration'], path);
      continue;
    }
    if (line === '') continue;
    const cells = line.split(',');
    const end = number(cells[at[2]], path, row, 'end_timestamp');
    const durationS = number(cells[at[3]], path, row, 'duration');
    const startS = end - durationS;
    if (startS < window.fromS || startS >= endS) continue;
    const list = apps.get(cells[at[0]]) ?? [];
    apps.set(cells[at[0]], list);
    list.push({ startS, durationS });
  }
  if (row === 0) throw bad(path, 1, 'it is empty');
  return [...apps.values()]
    .sort((a, b) => b.length - a.length)
    .map((list) => ({
      invocations: list.length,
      arrivals(_draw, _service, fanout) {
        const sorted = list.slice().sort((a, b) => a.startS - b.startS);
        return new Listed(
          Float64Array.from(sorted, ({ startS }) => ((startS - window.fromS) / window.speed) * 1e9),
          Float64Array.from(sorted, ({ durationS }) => Math.max(1000, durationS * 1e9)),
          fanout,
        );
      },
    }));
}

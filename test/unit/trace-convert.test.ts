/** What becomes of events: slices, marks and arrows; and that no guest can make nonsense of the file. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  SIZE_TRACE_RECORD,
  TRACE_BACK,
  TRACE_BLOCK,
  TRACE_EXIT,
  TRACE_FRONT,
  TRACE_PARK,
  TRACE_RECORDS,
  TRACE_RESUME,
  TRACE_RUN,
  TRACE_SPAWN,
  TRACE_STEAL,
  TRACE_TAKE,
  TRACE_TIMER,
  TRACE_WAKE,
  TRACE_YIELD,
} from '../../arbiter/abi/layout.gen.ts';
import { collect, whole } from '../../arbiter/observe/trace/collect.ts';
import type { Entry } from '../../arbiter/observe/trace/convert.ts';
import { convert } from '../../arbiter/observe/trace/convert.ts';
import { EventLog } from '../../arbiter/observe/trace/events.ts';
import { openOutput, writeTrace } from '../../arbiter/observe/trace/write.ts';

/** A unit of time is a microsecond. */
const KHZ = 16_000;
type Given = [time: number, vcpu: number, event: number, uthread?: number, number?: number];

function logOf(vcpus: number, given: readonly Given[], most = 1000): EventLog {
  const log = new EventLog(vcpus, most);
  for (const [time, vcpu, event, uthread = 0, number = 0] of given)
    log.add(vcpu, time, event | (number << 8), uthread);
  return log;
}

const entriesOf = (vcpus: number, given: readonly Given[], end = 1000): Entry[] =>
  [...convert([{ name: 'web', log: logOf(vcpus, given) }], KHZ, end)].filter(({ ph }) => ph !== 'M');

const slices = (entries: readonly Entry[]): unknown[] =>
  entries
    .filter(({ ph }) => ph === 'X')
    .map(({ tid, name, ts, dur, args }) => [
      tid,
      name,
      ts,
      dur,
      Object.values(args as Record<string, unknown>)[0],
    ]);

describe('events become', () => {
  test('slices: a uThread runs until it leaves, for this reason', () => {
    const entries = entriesOf(1, [
      [10, 0, TRACE_RUN, 1],
      [15, 0, TRACE_BACK, 1],
      [16, 0, TRACE_RUN, 2],
      [20, 0, TRACE_BLOCK, 2],
      [21, 0, TRACE_RUN, 1],
      [30, 0, TRACE_EXIT, 1],
      [31, 0, TRACE_RUN, 3],
      [32, 0, TRACE_FRONT, 3],
      [40, 0, TRACE_RUN, 4],
    ]);
    expect(slices(entries)).toEqual([
      [0, 'uThread 1', 10, 5, 'gave way to others'],
      [0, 'uThread 2', 16, 4, 'blocked'],
      [0, 'uThread 1', 21, 9, 'ended'],
      [0, 'uThread 3', 31, 1, 'gave way to a park request'],
      [0, 'uThread 4', 40, 960, 'the trace ends'],
    ]);
  });

  test('slices of what a vCPU does without a core', () => {
    const entries = entriesOf(2, [
      [1, 1, TRACE_PARK],
      [9, 1, TRACE_RESUME, 0, 3],
      [10, 1, TRACE_YIELD],
      [30, 1, TRACE_RESUME, 0, 2],
      [40, 0, TRACE_RESUME, 0, 5],
    ]);
    expect(slices(entries)).toEqual([
      [1, 'parked', 1, 8, 3],
      [1, 'yielded', 10, 20, 2],
    ]);
    expect(entries.at(-1)).toMatchObject({ ph: 'i', name: 'entered', tid: 0, ts: 40, args: { core: 5 } });
  });

  test('arrows from who woke a uThread to where it runs', () => {
    const entries = entriesOf(2, [
      [1, 0, TRACE_RUN, 1],
      [5, 0, TRACE_WAKE, 2],
      [6, 0, TRACE_SPAWN, 3],
      [8, 1, TRACE_RUN, 2],
      [9, 0, TRACE_BLOCK, 1],
      [9, 0, TRACE_RUN, 3],
      // By a vCPU's scheduler: there is no slice that an arrow could begin in.
      [12, 1, TRACE_BLOCK, 2],
      [13, 1, TRACE_WAKE, 1],
      [14, 1, TRACE_RUN, 1],
    ]);
    const flows = entries
      .filter(({ ph }) => ph === 's' || ph === 'f')
      .map(({ ph, id, tid, ts }) => [ph, id, tid, ts]);
    expect(flows).toEqual([
      ['s', 1, 0, 5],
      ['s', 2, 0, 6],
      ['f', 1, 1, 8],
      ['f', 2, 0, 9],
    ]);
  });

  test('the end of a held uThread on one vCPU, and its beginning on another', () => {
    const entries = entriesOf(2, [
      [1, 0, TRACE_RUN, 7],
      [50, 1, TRACE_TAKE, 7, 0],
      [51, 1, TRACE_RUN, 7],
      [60, 1, TRACE_EXIT, 7],
    ]);
    expect(slices(entries)).toEqual([
      [0, 'uThread 7', 1, 49, 'held, and taken over by vCPU 1'],
      [1, 'uThread 7', 51, 9, 'ended'],
    ]);
    expect(entries.filter(({ ph }) => ph === 's' || ph === 'f').map(({ tid }) => tid)).toEqual([0, 1]);
  });

  test('marks', () => {
    const entries = entriesOf(1, [
      [1, 0, TRACE_STEAL, 0, 4],
      [2, 0, TRACE_TIMER, 9],
    ]);
    expect(entries.map(({ ph, name, args }) => [ph, name, args])).toEqual([
      ['i', 'steal', { uthreads: 4 }],
      ['i', 'timer', { uthread: 9 }],
    ]);
  });

  test('tracks with names', () => {
    const all = [...convert([{ name: 'web', log: logOf(2, []) }], KHZ, 0)];
    expect(all.filter(({ name }) => name === 'process_name')).toMatchObject([
      { pid: 1, args: { name: 'VM web' } },
    ]);
    expect(all.filter(({ name }) => name === 'thread_name').map(({ tid }) => tid)).toEqual([0, 1]);
  });
});

describe('whatever a guest says', () => {
  test('slices neither overlap on a track nor end before they begin', () => {
    const random = (
      (seed) => () =>
        (seed = (Math.imul(seed, 1103515245) + 12345) >>> 0) >>> 8
    )(7);
    const given = Array.from({ length: 5000 }, (): Given => [
      random() % 100_000,
      random() % 3,
      random() % 20,
      random() % 5,
      random() % 7,
    ]);
    const log = logOf(3, given, 1e6);
    const last = [0, 0, 0];
    for (const { ph, tid, ts, dur } of convert([{ name: 'x', log }], KHZ, 100_000) as Iterable<{
      ph: string;
      tid: number;
      ts: number;
      dur: number;
    }>) {
      if (ph !== 'X') continue;
      expect(dur).toBeGreaterThanOrEqual(0);
      expect(ts).toBeGreaterThanOrEqual(last[tid] - 1e-6);
      last[tid] = ts + dur;
    }
    expect(Math.max(...last)).toBeGreaterThan(0);
  });

  test('a log takes no more than it has room for, and says so', () => {
    const log = logOf(
      1,
      Array.from({ length: 30_000 }, (_, i): Given => [i, 0, TRACE_RUN, i]),
      20_000,
    );
    expect([log.length, log.dropped, log.full]).toEqual([20_000, 10_000, true]);
    expect(log.get(19_999)).toEqual({ time: 19_999, vcpu: 0, event: TRACE_RUN, number: 0, uthread: 19_999 });
    expect(log.counts()).toEqual({ run: 20_000 });
  });

  test('numbers keep their 24 bits, and uThreads their 32', () => {
    const log = new EventLog(1, 10);
    log.add(0, 1, TRACE_STEAL | (0xffffff << 8), -1);
    expect(log.get(0)).toMatchObject({ event: TRACE_STEAL, number: 0xffffff, uthread: 0xffffffff });
  });
});

test.each([
  [2 ** 40 + 5, 3],
  [2 ** 40 + 5, -3],
  [2 ** 32, -1],
  [2 ** 45 + 2 ** 31, 1000],
])('a time of 32 bits is made whole near %d (%d)', (now, difference) => {
  expect(whole(((now + difference) % 2 ** 32) | 0, now)).toBe(now + difference);
});

describe('collecting', () => {
  test('switches recording on, again and again, and off at the end', async () => {
    const ring = new Int32Array((TRACE_RECORDS * SIZE_TRACE_RECORD) / 4);
    const recorded: number[] = [];
    const stop = new AbortController();
    let written = 0;
    const target = {
      ...{ name: 'x', vcpus: 1, stampShift: 8, rings: [ring] },
      record(until: number): void {
        recorded.push(until);
        // A guest that writes a record whenever it is told to go on.
        ring.set([written + 1, 0, TRACE_RUN, 5], (written % TRACE_RECORDS) * 4);
        if (++written === 3) stop.abort();
      },
    };
    const { vms, end } = await collect([target], { seconds: 3600, most: 100, signal: stop.signal });
    expect(recorded.length).toBe(4);
    expect(recorded.slice(0, 3).every((until) => until !== 0)).toBe(true);
    expect(recorded.at(-1)).toBe(0);
    expect([vms[0].log.length, vms[0].lost]).toEqual([4, 0]);
    // Its times are nonsense, and lie within the trace all the same.
    for (const { time } of vms[0].log.sorted()) expect(time >= 0 && time <= end).toBe(true);
  });

  test('ends when there is no more room, and switches off when something fails', async () => {
    const ring = new Int32Array((TRACE_RECORDS * SIZE_TRACE_RECORD) / 4);
    let until = 1;
    const target = {
      ...{ name: 'x', vcpus: 1, stampShift: 8, rings: [ring] },
      record: (to: number): void => {
        until = to;
        for (let i = 0; i < 20; i++) ring.set([i + 1, 0, TRACE_RUN, 5], i * 4);
      },
    };
    const { vms } = await collect([target], { seconds: 3600, most: 10 });
    expect([vms[0].log.length, vms[0].lost, until]).toEqual([10, 10, 0]);
    const failing = collect([target], {
      ...{ seconds: 3600, most: 1000 },
      progress: () => {
        throw new Error('nobody listens');
      },
    });
    await expect(failing).rejects.toThrow('nobody listens');
    expect(until).toBe(0);
    await sleep(1);
  });
});

describe('the file', () => {
  let directory: string;
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'hf-trace-'));
  });
  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  test('is JSON that a viewer can read, however long', () => {
    const path = join(directory, 'trace.json');
    const log = logOf(
      1,
      Array.from({ length: 3000 }, (_, i): Given => [i, 0, TRACE_RUN, i]),
      3000,
    );
    const bytes = writeTrace(openOutput(path), path, convert([{ name: 'q"uote', log }], KHZ, 3000));
    const text = readFileSync(path, 'utf8');
    expect(Buffer.byteLength(text)).toBe(bytes);
    const { traceEvents } = JSON.parse(text) as { traceEvents: Entry[] };
    expect(traceEvents.filter(({ ph }) => ph === 'X').length).toBe(3000);
    expect(traceEvents[0]).toMatchObject({ args: { name: 'VM q"uote' } });
  });

  test('that cannot be written is refused with what to do', () => {
    expect(() => openOutput(join(directory, 'no', 'such', 'folder.json'))).toThrow(
      expect.objectContaining({ code: 'failed', hint: expect.stringContaining('--out') as string }),
    );
    expect(() => openOutput(directory)).toThrow(/EISDIR/);
  });
});

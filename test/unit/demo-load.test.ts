/**
 * Schedules are the same for the same seed and have the shape that was asked for;
 * a load area carries them to the releaser and the results back.
 */
import { describe, expect, test } from 'vitest';
import {
  LOAD_ARMED,
  LOAD_DONE,
  LOAD_STOP,
  W_LOAD_ENTRIES,
  W_LOAD_ENTRY_FANOUT,
  W_LOAD_ENTRY_SERVICE_NS,
  W_LOAD_OVERRUNS,
  W_LOAD_STATE,
} from '../../arbiter/abi/layout.gen.ts';
import { createLoad } from '../../bench/load/area.ts';
import {
  E_DONE,
  E_DUE,
  E_RELEASED,
  E_WAIT,
  entryBase,
  entryBase64,
  L_GRACE,
  L_START,
  loadBytes,
  loadProgress,
  loadWords,
  writeSchedule,
} from '../../bench/load/layout.ts';
import type { LoadWords } from '../../bench/load/layout.ts';
import { lookTimes } from '../../bench/load/pauses.ts';
import { random } from '../../bench/load/random.ts';
import { readResults } from '../../bench/load/results.ts';
import { makeSchedule, utilisation } from '../../bench/load/schedule.ts';
import type { LoadSpec } from '../../bench/load/schedule.ts';

const bursty: LoadSpec = {
  seed: 7,
  seconds: 4,
  arrivals: { kind: 'bursty', perSecond: 10_000, onMs: 4, offMs: 16 },
  service: { kind: 'exponential', meanNs: 60_000 },
};

const mean = (values: ArrayLike<number>): number =>
  Array.from(values).reduce((sum, value) => sum + value, 0) / values.length;

describe('random numbers', () => {
  test('are the same for the same seed and stream, and others for others', () => {
    const draw = (seed: number, stream: number): number[] => {
      const next = random(seed, stream);
      return Array.from({ length: 50 }, () => next());
    };
    expect(draw(1, 0)).toEqual(draw(1, 0));
    expect(draw(1, 0)).not.toEqual(draw(2, 0));
    expect(draw(1, 0)).not.toEqual(draw(1, 1));
  });

  test('are uniform, and never 0 or 1', () => {
    const next = random(3, 0);
    const values = Array.from({ length: 20_000 }, () => next());
    expect(Math.min(...values)).toBeGreaterThan(0);
    expect(Math.max(...values)).toBeLessThan(1);
    expect(mean(values)).toBeCloseTo(0.5, 1);
    const eighths = new Array<number>(8).fill(0);
    for (const value of values) eighths[Math.floor(value * 8)]++;
    for (const count of eighths) expect(Math.abs(count - 2500)).toBeLessThan(250);
  });
});

describe('a schedule', () => {
  test('is a function of its spec', () => {
    const [a, b] = [makeSchedule(bursty), makeSchedule(bursty)];
    expect(a.dueNs).toEqual(b.dueNs);
    expect(a.serviceNs).toEqual(b.serviceNs);
    expect(makeSchedule({ ...bursty, seed: 8 }).dueNs).not.toEqual(a.dueNs);
  });

  test('keeps its arrivals when its service times change', () => {
    const other = makeSchedule({ ...bursty, service: { kind: 'constant', ns: 5000 } });
    expect(other.dueNs).toEqual(makeSchedule(bursty).dueNs);
    expect(new Set(other.serviceNs)).toEqual(new Set([5000]));
  });

  test('has ascending arrivals within its length, at the rate that was asked for', () => {
    for (const arrivals of [bursty.arrivals, { kind: 'poisson', perSecond: 2000 } as const]) {
      const { dueNs } = makeSchedule({ ...bursty, arrivals });
      expect(dueNs.every((due, i) => due >= 0 && due < 4e9 && (i === 0 || due >= dueNs[i - 1]))).toBe(true);
      // 10,000/s in a fifth of the time, and 2,000/s all the time.
      expect(dueNs.length).toBeGreaterThan(6500);
      expect(dueNs.length).toBeLessThan(9500);
    }
  });

  test('has pauses between bursts, each at least half as long as the mean', () => {
    const { dueNs } = makeSchedule(bursty);
    const gaps = Array.from(dueNs.subarray(1), (due, i) => due - dueNs[i]);
    const pauses = gaps.filter((gap) => gap > 4e6);
    expect(pauses.length).toBeGreaterThan(100);
    expect(Math.min(...pauses)).toBeGreaterThanOrEqual(8e6);
    expect(mean(gaps.filter((gap) => gap <= 4e6))).toBeCloseTo(100_000, -4);
  });

  test('draws service times from the distribution', () => {
    const { serviceNs } = makeSchedule(bursty);
    expect(Math.abs(mean(serviceNs) - 60_000)).toBeLessThan(3000);
    const bimodal = makeSchedule({
      ...bursty,
      service: { kind: 'bimodal', shortNs: 1000, longNs: 100_000, longShare: 0.1 },
    });
    expect(new Set(bimodal.serviceNs)).toEqual(new Set([1000, 100_000]));
    const long = bimodal.serviceNs.filter((ns) => ns === 100_000).length / bimodal.serviceNs.length;
    expect(Math.abs(long - 0.1)).toBeLessThan(0.02);
  });

  test('tells what it needs of a core', () => {
    const { mean: share, burst } = utilisation(bursty);
    expect(burst).toBeCloseTo(0.6);
    expect(share).toBeCloseTo(0.12);
  });

  test.each([
    [{ ...bursty, seconds: 0 }, 'seconds'],
    [{ ...bursty, seed: 1.5 }, 'seed'],
    [{ ...bursty, fanout: -1 }, 'fanout'],
    [{ ...bursty, arrivals: { kind: 'poisson', perSecond: Number.NaN } as const }, 'perSecond'],
    [{ ...bursty, arrivals: { kind: 'poisson', perSecond: 1e9 } as const }, 'more than 20000000 requests'],
    [{ ...bursty, service: { kind: 'bimodal', shortNs: 1, longNs: 2, longShare: 2 } as const }, 'longShare'],
  ])('refuses nonsense: %#', (spec, named) => {
    expect(() => makeSchedule(spec)).toThrow(named);
  });
});

describe('looks at a load', () => {
  test('fall into its pauses, away from the bursts', () => {
    const schedule = makeSchedule(bursty);
    const times = lookTimes(schedule, 500);
    expect(times.at(-1)).toBe(4000);
    expect(times.every((time, i) => i === 0 || time > times[i - 1])).toBe(true);
    const due = Array.from(schedule.dueNs, (ns) => ns / 1e6);
    for (const time of times.slice(0, -1)) {
      expect(due.some((at) => at > time - 3 && at < time + 4)).toBe(false);
    }
    // A burst and a pause take 20 ms in the mean.
    expect(times.length).toBeGreaterThan(150);
  });

  test('are at intervals where there are no pauses', () => {
    const steady = makeSchedule({ ...bursty, arrivals: { kind: 'poisson', perSecond: 20_000 } });
    expect(lookTimes(steady, 500)).toEqual([500, 1000, 1500, 2000, 2500, 3000, 3500, 4000]);
  });
});

const KHZ = 2_000_000;
const schedule = makeSchedule({ ...bursty, seconds: 0.1, fanout: 4 });

function newArea(): LoadWords {
  const area = loadWords(new ArrayBuffer(loadBytes(schedule.dueNs.length)));
  writeSchedule(area, schedule, KHZ, 1e9);
  return area;
}

/** Plays the releaser: entry i was released so late, and done so much after it was due. */
function play(area: LoadWords, i: number, lateUs: number, doneUs: number | undefined): void {
  const start = area.longs[L_START];
  const at = entryBase64(i);
  const due = start + area.longs[at + E_DUE];
  const ticks = (us: number): bigint => BigInt(us * (KHZ / 1000));
  area.longs[at + E_RELEASED] = due + ticks(lateUs);
  if (doneUs === undefined) return;
  area.longs[at + E_WAIT] = ticks(lateUs);
  area.longs[at + E_DONE] = due + ticks(doneUs);
}

describe('a load area', () => {
  test('holds the schedule in ticks, armed', () => {
    const area = newArea();
    expect(area.words[W_LOAD_STATE]).toBe(LOAD_ARMED);
    expect(area.words[W_LOAD_ENTRIES]).toBe(schedule.dueNs.length);
    expect(area.longs[L_GRACE]).toBe(2_000_000_000n);
    schedule.dueNs.forEach((due, i) => {
      expect(area.longs[entryBase64(i) + E_DUE]).toBe(BigInt(Math.round(due * 2)));
      expect(area.words[entryBase(i) + W_LOAD_ENTRY_SERVICE_NS]).toBe(schedule.serviceNs[i]);
      expect(area.words[entryBase(i) + W_LOAD_ENTRY_FANOUT]).toBe(4);
    });
  });

  test('forgets an earlier run when it is armed again', () => {
    const area = newArea();
    play(area, 0, 1, 50);
    writeSchedule(area, schedule, KHZ, 1e9);
    expect(readResults(area, KHZ).released).toBe(0);
    expect(loadProgress(area).finished).toBe(0);
  });

  test('that is too small is refused', () => {
    const small = loadWords(new ArrayBuffer(4096));
    expect(schedule.dueNs.length).toBeGreaterThan(150);
    expect(() => writeSchedule(small, schedule, KHZ, 0)).toThrow('too small');
  });

  test('gives latency from the scheduled arrival, and counts what was not finished', () => {
    const area = newArea();
    area.longs[L_START] = 1_000_000_000_000n;
    play(area, 0, 3, 50);
    play(area, 1, 0, 75);
    play(area, 2, 10, undefined);
    area.words[W_LOAD_OVERRUNS] = 5;
    area.words[W_LOAD_STATE] = LOAD_DONE;
    const results = readResults(area, KHZ);
    expect([...results.latencyUs]).toEqual([50, 75]);
    expect([...results.waitUs]).toEqual([3, 0]);
    expect([...results.latenessUs]).toEqual([3, 0, 10]);
    expect(results).toMatchObject({
      scheduled: schedule.dueNs.length,
      released: 3,
      finished: 2,
      unfinished: schedule.dueNs.length - 2,
      overruns: 5,
      complete: true,
    });
  });

  test('does not believe an answer from before the question', () => {
    const area = newArea();
    area.longs[L_START] = 1000n;
    const at = entryBase64(0);
    area.longs[at + E_RELEASED] = 1n;
    area.longs[at + E_DONE] = 1n;
    const results = readResults(area, KHZ);
    expect([...results.latencyUs, ...results.latenessUs]).toEqual([0, 0]);
  });

  test('of somebody else is refused, and an impossible count is cut', () => {
    const area = newArea();
    area.words[W_LOAD_ENTRIES] = -1;
    const room = Math.trunc((area.words.byteLength - 128) / 40);
    expect(readResults(area, KHZ).scheduled).toBe(room);
    area.words[0] = 0;
    expect(() => readResults(area, KHZ)).toThrow('not a load area');
  });

  test('is a memory file that a releaser can be given', () => {
    const load = createLoad(schedule, { graceMs: 10 });
    expect(load.look()).toMatchObject({ state: LOAD_ARMED, entries: schedule.dueNs.length, released: 0 });
    expect(load.elapsedMs()).toBe(0);
    load.requestStop();
    expect(load.look().state).toBe(LOAD_STOP);
    expect(load.results()).toMatchObject({ finished: 0, complete: false });
    load.close();
    load.close();
  });
});

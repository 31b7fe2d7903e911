/** The steps of a phase, on a stage without VMs and a clock that only moves when somebody sleeps. */
import { describe, expect, test } from 'vitest';
import { LOAD_ARMED, LOAD_DONE, LOAD_RUNNING, LOAD_STOP } from '../../arbiter/abi/layout.gen.ts';
import { noCounters, runPhase } from '../../bench/demo/phases.ts';
import type { Area, Glance, Phase, PhaseDeps, Stage } from '../../bench/demo/phases.ts';
import { makeSchedule } from '../../bench/load/schedule.ts';
import type { Schedule } from '../../bench/load/schedule.ts';

const phase: Phase = { id: 'hyperflux', title: 'both, HyperFlux', cores: [1], batch: true };
const schedules = {
  warmUp: makeSchedule({
    seed: 1,
    seconds: 0.2,
    arrivals: { kind: 'poisson', perSecond: 100 },
    service: { kind: 'constant', ns: 1000 },
  }),
  measured: makeSchedule({
    seed: 2,
    seconds: 2,
    arrivals: { kind: 'poisson', perSecond: 100 },
    service: { kind: 'constant', ns: 1000 },
  }),
};
const times = { lookMs: 500, patienceMs: 1000 };

/** Everything that a phase talks to. Loads begin when they are released and end after their length and 30 ms. */
class World {
  time = 0;
  log: string[] = [];
  glances: Glance[] = [];
  areas = 0;
  sampled = 0;
  /** What goes wrong. */
  trouble: 'none' | 'never begins' | 'never ends' | 'vm dies' | 'release fails' = 'none';
  batch = true;

  deps(): PhaseDeps {
    return {
      start: (p) => {
        this.log.push(`start ${p.id}`);
        return Promise.resolve(this.stage());
      },
      newArea: (schedule) => this.area(schedule),
      now: () => this.time,
      sleep: (ms) => {
        this.time += ms;
        return Promise.resolve();
      },
      cpu: () => ({ busy: this.time / 2, all: this.time, own: this.time / 4, self: this.time / 8 }),
      cores: 2,
      glance: (glance) => {
        this.glances.push(glance);
      },
    };
  }

  #began = new Map<Area, number>();

  stage(): Stage {
    return {
      release: (area) => {
        this.log.push('release');
        if (this.trouble === 'release fails') return Promise.reject(new Error('no releaser'));
        if (this.trouble !== 'never begins') this.#began.set(area, this.time);
        return Promise.resolve();
      },
      sample: () => {
        this.sampled++;
      },
      // 3 blocks in a millisecond.
      blocks: () => (this.batch ? this.time * 3 : undefined),
      integrityErrors: () => 0,
      counters: () => ({
        ...noCounters,
        moves: Math.trunc(this.time / 10),
        forced: this.time > 1000 ? 1 : 0,
      }),
      check: () => {
        if (this.trouble === 'vm dies' && this.time > 1000) throw new Error('the VM serve has died');
      },
      stop: () => {
        this.log.push('stop');
        return Promise.resolve();
      },
    };
  }

  area(schedule: Schedule): Area {
    this.areas++;
    let stopped = false;
    const area: Area = {
      fd: -1,
      look: () => {
        const began = this.#began.get(area);
        const entries = schedule.dueNs.length;
        if (stopped) return { state: LOAD_STOP, entries, released: 0, finished: 0, overruns: 0 };
        if (began === undefined) return { state: LOAD_ARMED, entries, released: 0, finished: 0, overruns: 0 };
        const elapsed = (this.time - began) / 1000;
        const over = elapsed > schedule.spec.seconds + 0.03 && this.trouble !== 'never ends';
        const released = schedule.dueNs.filter((due) => due <= elapsed * 1e9).length;
        return { state: over ? LOAD_DONE : LOAD_RUNNING, entries, released, finished: released, overruns: 0 };
      },
      elapsedMs: () => this.time - (this.#began.get(area) ?? this.time),
      requestStop: () => {
        stopped = true;
        this.log.push('stop load');
      },
      results: () => ({
        scheduled: schedule.dueNs.length,
        released: schedule.dueNs.length,
        finished: schedule.dueNs.length,
        unfinished: 0,
        overruns: 0,
        complete: true,
        latencyUs: new Float64Array([1]),
        waitUs: new Float64Array([1]),
        latenessUs: new Float64Array([1]),
      }),
      close: () => {
        this.areas--;
      },
    };
    return area;
  }
}

const run = (world: World): ReturnType<typeof runPhase> => runPhase(phase, schedules, times, world.deps());

describe('a phase', () => {
  test('starts, warms up, measures, drains and stops, in this order', async () => {
    const world = new World();
    const result = await run(world);
    expect(world.log).toEqual(['start hyperflux', 'release', 'release', 'stop']);
    const steps = world.glances.map((glance) => glance.step);
    expect(steps.filter((step, i) => step !== steps[i - 1])).toEqual([
      'start',
      'warm up',
      'measure',
      'drain',
      'stop',
    ]);
    expect(world.areas).toBe(0);
    expect(result.load.scheduled).toBe(schedules.measured.dueNs.length);
  });

  test('counts from the start of the measured load to its end', async () => {
    const world = new World();
    const result = await run(world);
    expect(result.meanBlocksPerSecond).toBeCloseTo(3000);
    expect([...result.blocksPerSecond!]).toHaveLength(4);
    for (const rate of result.blocksPerSecond!) expect(rate).toBeCloseTo(3000);
    // 2 s of the schedule and what it took to see its end, 10 ms a move.
    expect(result.counters.moves).toBeGreaterThanOrEqual(200);
    expect(result.counters.moves).toBeLessThan(210);
    expect(result.counters.forced).toBe(1);
    expect(world.sampled).toBeGreaterThanOrEqual(4);
    expect(result.foreign).toBeCloseTo(0.25);
    expect(result.driver).toBeCloseTo(0.25);
  });

  test('shows how far it is', async () => {
    const world = new World();
    await run(world);
    const measuring = world.glances.filter((glance) => glance.step === 'measure');
    expect(measuring.map((glance) => Math.round(glance.elapsedS * 10) / 10)).toEqual([0.5, 1, 1.5, 2]);
    expect(measuring.at(-1)!.released).toBeGreaterThan(measuring[0].released);
    expect(measuring[0].blocksPerSecond).toBeCloseTo(3000);
  });

  test('has no blocks without a batch VM', async () => {
    const world = new World();
    world.batch = false;
    const result = await run(world);
    expect(result.blocksPerSecond).toBeUndefined();
    expect(result.meanBlocksPerSecond).toBeUndefined();
  });

  test('of which the load does not end has it stopped, and counts what it has', async () => {
    const world = new World();
    world.trouble = 'never ends';
    const result = await run(world);
    expect(world.log).toEqual(['start hyperflux', 'release', 'stop load', 'release', 'stop load', 'stop']);
    expect(result.load.scheduled).toBe(schedules.measured.dueNs.length);
    expect(world.areas).toBe(0);
  });

  test.each([
    ['never begins', 'did not begin to release'],
    ['vm dies', 'the VM serve has died'],
    ['release fails', 'no releaser'],
  ] as const)('stops its VMs if the load or a VM fails: %s', async (trouble, said) => {
    const world = new World();
    world.trouble = trouble;
    await expect(run(world)).rejects.toThrow(said);
    expect(world.log.at(-1)).toBe('stop');
    expect(world.areas).toBe(0);
  });
});

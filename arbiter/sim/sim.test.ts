import { describe, expect, test } from 'vitest';
import type { Policy } from '../policy/api.ts';
import { HEAD_CORES } from '../policy/api.ts';
import { delay, delayParams } from '../policy/builtin/delay.ts';
import { choosePolicy } from './choose.ts';
import { EXAMPLE } from './example.ts';
import { page } from './html.ts';
import type { Machine } from './machine.ts';
import { evenMachine, guestTimes, turnTimes } from './machine.ts';
import { held, movesOf, renderResults, resultsJson, wholeOf } from './report.ts';
import type { Chosen, GroupResult, SimResult } from './run.ts';
import { readLoads, simulate } from './run.ts';
import { parseScenario } from './scenario.ts';

const machine: Machine = { ...evenMachine(40, 4), turn: turnTimes, guest: guestTimes };

function run(value: object, chosen: Chosen | string = 'delay', on: Machine = machine): SimResult {
  const scenario = parseScenario({ seconds: 0.02, cores: 4, ...value }, 'a test', '.');
  const policy = typeof chosen === 'string' ? choosePolicy(chosen) : chosen;
  return simulate(scenario, policy, readLoads(scenario), on);
}

/** All that a result says but how long it took. */
const outcome = (result: SimResult): string =>
  JSON.stringify(resultsJson({ ...EXAMPLE }, [{ ...result, wallSeconds: 0 }]));

const mixed = {
  vms: [
    {
      ...{ name: 'web', count: 6, class: 'lc', vcpus: 4, fanout: 3 },
      arrivals: { kind: 'bursty', per_second: 9000, on_ms: 3, off_ms: 6 },
      service: { kind: 'bimodal', short_us: 20, long_us: 400, long_share: 0.05 },
    },
    { name: 'bulk', count: 3, class: 'be', vcpus: 2, threads: 3 },
  ],
};

describe('the same again', () => {
  test('scenario, seed and policy give the same result, another seed another one', () => {
    const [a, b] = [run(mixed), run(mixed)];
    expect(outcome(a)).toBe(outcome(b));
    expect(a.commands).toBeGreaterThan(100);
    expect(outcome(run({ ...mixed, seed: 2 }))).not.toBe(outcome(a));
  });

  test('every policy gets the same requests', () => {
    const [a, b] = ['delay', 'delay:threshold_us=400,tenure_us=800'].map((policy) => run(mixed, policy));
    expect(a.groups[0].arrived).toBe(b.groups[0].arrived);
    expect(a.handovers).not.toEqual(b.handovers);
  });
});

describe('nothing is lost', () => {
  test('every request arrives and is finished, or is counted as unfinished', () => {
    const { groups, cores, seconds } = run(mixed);
    for (const group of groups) {
      expect(group.finished + group.unfinished).toBe(group.arrived);
      expect(group.latency.n).toBe(group.finished);
      expect(group.wait.n).toBeGreaterThanOrEqual(group.finished);
      expect(group.wait.n).toBeLessThanOrEqual(group.arrived);
    }
    expect(groups[0].finished).toBeGreaterThan(200);
    const all = groups.reduce((sum, group) => sum + held(group), 0);
    expect(all).toBeLessThanOrEqual(cores * seconds * (1 + 1e-9));
    expect(all).toBeGreaterThan(0);
  });

  test('with cores for everybody every request is finished once the arrivals have ended', () => {
    // Arrivals in the first millisecond of a phase that lasts as long as the run.
    const arrivals = {
      kind: 'phases',
      phases: [
        { ms: 10, per_second: 20_000, fanout: 4 },
        { ms: 1000, per_second: 0 },
      ],
    };
    const service = { kind: 'exponential', mean_us: 80 };
    const [group] = run({
      seconds: 0.05,
      vms: [{ name: 'web', count: 2, class: 'lc', vcpus: 4, arrivals, service }],
    }).groups;
    expect(group.arrived).toBeGreaterThan(300);
    expect(group.unfinished).toBe(0);
  });

  test('useful core time is the work of what was finished, and no more than what was asked for', () => {
    const service = { kind: 'constant', us: 100 };
    const arrivals = { kind: 'poisson', per_second: 4000 };
    const result = run(
      { vms: [{ name: 'web', class: 'lc', vcpus: 4, arrivals, service }] },
      'delay',
      evenMachine(30, 2),
    );
    const [group] = result.groups;
    expect(group.coreTime.useful).toBeGreaterThanOrEqual(group.finished * 100e-6 * (1 - 1e-9));
    expect(group.coreTime.useful).toBeLessThanOrEqual(group.arrived * 100e-6 * (1 + 1e-9));
  });

  test('a policy that moves at random, and one that throws, lose nothing either', () => {
    let seed = 1;
    const wild = (what: (view: Parameters<Policy['bind']>[0]) => void): Chosen => ({
      label: 'wild',
      params: delayParams.parse({}),
      policy: { ...delay, name: 'wild', bind: (view) => ({ decide: () => what(view), configure() {} }) },
    });
    const next = (n: number): number => (seed = (Math.imul(seed, 1103515245) + 12345) >>> 0) % n;
    const random = wild(({ head, target, heir }) => {
      for (let k = 0; k < head[HEAD_CORES]; k++) {
        if (next(7) === 0) target[k] = next(12) - 1;
        heir[k] = next(12) - 1;
      }
    });
    const thrown = wild(() => {
      throw new Error('no');
    });
    for (const chosen of [random, thrown]) {
      const result = run(mixed, chosen);
      for (const group of result.groups) expect(group.finished + group.unfinished).toBe(group.arrived);
    }
    expect(run(mixed, thrown).faults).toBeGreaterThan(0);
    expect(run(mixed, random).handovers.moved).toBeGreaterThan(0);
  });
});

/**
 * Queues whose figures are known. One VM has all cores and keeps them, and moves take next to nothing: what is
 * left is a queue with k servers. The bounds are several standard errors of a queue's mean, wider than for independent
 * samples because neighbours wait together.
 */
describe('queueing theory', () => {
  // Once the VM has its cores, turns find nothing to do: they may be long.
  const ideal = evenMachine(0.001, 100);
  const queue = (servers: number, load: number, n: number): GroupResult => {
    const serviceUs = 100;
    const perSecond = (load * servers * 1e6) / serviceUs;
    const arrivals = { kind: 'poisson', per_second: perSecond };
    return run(
      {
        seconds: n / perSecond,
        cores: servers,
        vms: [
          {
            ...{ name: 'queue', class: 'lc', vcpus: servers, min_cores: servers, idle_spin_us: 1e6 },
            ...{ arrivals, service: { kind: 'exponential', mean_us: serviceUs } },
          },
        ],
      },
      'delay',
      ideal,
    ).groups[0];
  };
  const near = (value: number, expected: number, share: number): void => {
    expect(value / expected).toBeGreaterThan(1 - share);
    expect(value / expected).toBeLessThan(1 + share);
  };

  test.each([0.3, 0.6])('M/M/1 at %d: mean and p99 of the time in the system', (load) => {
    const n = 30_000;
    const { latency } = queue(1, load, n);
    const mean = 100_000 / (1 - load);
    // Exponentially distributed: its p99 is ln(100) times its mean. The effective count is that of busy periods.
    const error = 5 * Math.sqrt((1 + load) / (n * (1 - load) ** 2));
    near(latency.mean, mean, error);
    near(latency.at(0.99)!, mean * Math.log(100), 3 * error);
  });

  test.each([
    [2, 0.5],
    [4, 0.7],
    [8, 0.8],
  ])('M/M/%d at %d: mean and p99 of the waiting time', (k, load) => {
    const n = 40_000;
    const { wait } = queue(k, load, n);
    const a = k * load;
    // Erlang C: the probability that all servers are busy.
    let term = 1;
    let sum = 1;
    for (let i = 1; i < k; i++) sum += term *= a / i;
    const last = (term * a) / k / (1 - load);
    const busy = last / (sum + last);
    const rate = (k * (1 - load)) / 100_000;
    const error = 6 * Math.sqrt((1 + load) / (n * busy * (1 - load) ** 2));
    near(wait.mean, busy / rate, error);
    near(wait.at(0.99)!, Math.log(100 * busy) / rate, 2 * error);
  });
});

describe('policies differ', () => {
  test('one that waits before it moves is shown to be worse for those who wait', () => {
    const [quick, slow] = ['delay:tenure_us=0', 'delay:tenure_us=5000'].map((policy) =>
      run({ ...mixed, seconds: 0.08 }, policy),
    );
    const p99 = ({ groups }: SimResult): number => groups[0].latency.at(0.99)!;
    expect(p99(slow)).toBeGreaterThan(1.5 * p99(quick));
    const text = renderResults({ ...EXAMPLE }, [quick, slow]);
    expect(text).toContain('delay:tenure_us=5000');
  });

  test('one that grants nothing finishes nothing, and holds no core', () => {
    const none: Chosen = {
      label: 'none',
      params: delayParams.parse({}),
      policy: { ...delay, name: 'none', bind: () => ({ decide() {}, configure() {} }) },
    };
    const result = run(mixed, none);
    expect(result.groups.map(({ finished }) => finished)).toEqual([0, 0]);
    expect([wholeOf(result).coreSeconds, movesOf(result)]).toEqual([0, 0]);
  });

  test('a latency-critical VM is served at once though a best-effort one computes for ever', () => {
    const { groups } = run({ ...mixed, cores: 1 });
    expect(groups[0].finished).toBeGreaterThan(0);
    expect(groups[1].coreTime.useful).toBeGreaterThan(0);
  });
});

describe('large hosts', () => {
  test('more VMs than an arbiter manages are divided among several, which have their own cores', () => {
    const result = run({
      seconds: 0.002,
      cores: 300,
      vms: [
        {
          ...{ name: 'web', count: 2500, class: 'lc', vcpus: 1 },
          ...{ arrivals: { kind: 'poisson', per_second: 200 }, service: { kind: 'constant', us: 50 } },
        },
      ],
    });
    expect(result.partitions).toBe(3);
    expect(result.groups[0].finished).toBeGreaterThan(500);
    expect(result.groups[0].finished + result.groups[0].unfinished).toBe(result.groups[0].arrived);
  });

  test('too few cores for so many arbiters are refused', () => {
    const vms = [{ name: 'many', count: 3000, class: 'be', threads: 1 }];
    expect(() => run({ cores: 2, vms })).toThrow(/3000 VMs need 3 arbiters.*only 2 cores/);
  });
});

test('the page has every policy and group, asks nothing of the network, and escapes what it is given', () => {
  const scenario = parseScenario({ seconds: 0.02, cores: 2, name: '<b>&"', ...mixed }, 'a test', '.');
  const results = ['delay', 'delay:tenure_us=900'].map((policy) =>
    simulate(scenario, choosePolicy(policy), readLoads(scenario), machine),
  );
  const html = page(scenario, results);
  for (const part of [
    'delay:tenure_us=900',
    'web',
    'bulk',
    '&lt;b&gt;&amp;&quot;',
    'prefers-color-scheme:dark',
  ])
    expect(html).toContain(part);
  expect(html).not.toContain('<b>');
  expect(html).not.toMatch(/https?:|<script|@import|url\(|NaN|undefined|Infinity/);
});

import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import type { Figures } from '../../arbiter/policy/api.ts';
import { MAX_VMS, NO_PLAN, plainView, POLICY_API } from '../../arbiter/policy/api.ts';
import type { Definition } from '../../arbiter/policy/define.ts';
import { definePolicy, paramsOf, PolicyError } from '../../arbiter/policy/define.ts';
import { longestWait } from '../../arbiter/policy/examples/longest-wait.ts';
import { adoptPlan, worldOf } from '../../arbiter/policy/plan.ts';
import { builtinPolicies } from '../../arbiter/policy/registry.ts';
import { restoreState, saveState } from '../../arbiter/policy/state.ts';
import { Crowd } from './crowd.ts';

type Loose = Definition<Record<string, number>>;
const good = (changes: Partial<Loose> = {}): Loose => ({
  ...{ api: POLICY_API, name: 'mine', version: '1.0.0', summary: 'mine' },
  bind: () => () => {},
  ...changes,
});

describe('definePolicy', () => {
  test('takes a function, or an object with what belongs to it', () => {
    const view = plainView();
    const policy = definePolicy(good({ bind: (_, out) => () => (out.target[0] = 7) }));
    policy.bind(view).decide();
    expect(view.target[0]).toBe(7);
    let given = 0;
    const other = definePolicy({
      ...good(),
      params: z.strictObject({ wait_us: z.number().default(5) }),
      bind: () => ({ decide() {}, configure: ({ wait_us }, perUs) => void (given = wait_us * perUs) }),
    });
    other.bind(view).configure(other.params.parse({ wait_us: 3 }), 4);
    expect(given).toBe(12);
  });

  test.each<[string, Partial<Loose>, RegExp, RegExp]>([
    [
      'another API',
      { api: 2 },
      /the policy mine: it was written for policy API 2, and this is 1/,
      /docs\/policies/,
    ],
    ['no API', { api: undefined }, /policy API undefined/, /api: 1/],
    ['a name that is none', { name: 'My Policy' }, /a policy: "My Policy" is no name/, /Lower-case/],
    ['a version that is none', { version: '1' }, /"1" is no version/, /1\.0\.0/],
    ['no summary', { summary: '' }, /it has no summary/, /One line/],
    ['no bind', { bind: undefined }, /it has no bind/, /bind\(view, out\)/],
    ['a state version that is none', { stateVersion: 0.5 }, /0\.5 is no version of a state/, /whole number/],
    [
      'parameters without defaults',
      { params: z.strictObject({ wait_us: z.number() }) },
      /no defaults: wait_us/,
      /\.default\(\)/,
    ],
    [
      'parameters that are no numbers',
      { params: z.strictObject({ mode: z.string().default('x') }) as never },
      /mode is no number/,
      /z\.number\(\)/,
    ],
  ])('refuses %s', (_, changes, message, hint) => {
    const define = (): unknown => definePolicy(good(changes));
    expect(define).toThrow(PolicyError);
    expect(define).toThrow(message);
    try {
      define();
    } catch (error) {
      expect((error as PolicyError).hint).toMatch(hint);
    }
  });

  test('refuses a bind that returns nothing to call', () => {
    expect(() => definePolicy(good({ bind: () => undefined as never })).bind(plainView())).toThrow(
      /no hot hook/,
    );
    const noConfigure = { decide() {} } as never;
    expect(() => definePolicy(good({ bind: () => noConfigure })).bind(plainView())).toThrow(/no hot hook/);
  });

  test('the types let a policy look at figures, and write wishes only', () => {
    const use = (view: Figures, out: Parameters<Loose['bind']>[1]): void => {
      out.target[0] = view.vmCores[0];
      // @ts-expect-error figures are the loop's to write
      view.vmCores[0] = 1;
      // @ts-expect-error wishes are not among the figures
      void view.target;
      // @ts-expect-error nor figures among the wishes
      void out.vmCores;
    };
    expect(use).toBeTypeOf('function');
  });
});

describe('parameters', () => {
  test('are told with their defaults and bounds', () => {
    expect(paramsOf(longestWait)).toEqual([
      { name: 'tenure_us', default: 100, min: 0, text: 'nobody loses a core sooner' },
    ]);
  });

  test.each(builtinPolicies.map((policy) => [policy.name, policy] as const))(
    '%s says what each is for',
    (_, policy) => {
      for (const { name, default: value, text } of paramsOf(policy)) {
        expect(text, name).not.toBe('');
        expect(Number.isFinite(value), name).toBe(true);
      }
      expect(policy.params.safeParse({ nonsense: 1 }).success).toBe(false);
    },
  );
});

describe('state', () => {
  const counts = (stateVersion: number, understands = stateVersion) =>
    definePolicy({
      ...good({ stateVersion }),
      bind() {
        let count = 0;
        return {
          decide: () => void count++,
          configure() {},
          save: () => ({ count }),
          restore(state, version) {
            if (version !== understands || state instanceof Int32Array)
              throw new Error(`form ${version} is unknown`);
            count = state.count;
          },
        };
      },
    });

  test('goes from one life to the next, as a copy', () => {
    const policy = counts(1);
    const first = policy.bind(plainView());
    first.decide();
    const saved = saveState(policy, first)!;
    first.decide();
    const second = policy.bind(plainView());
    expect(restoreState(policy, second, saved)).toBeUndefined();
    expect(second.save!()).toEqual({ count: 1 });
  });

  test('of somebody else, of a later form, or that is not understood begins anew, and says so', () => {
    const decider = counts(2).bind(plainView());
    const saved = { policy: 'mine', version: 2, state: { count: 5 } };
    expect(restoreState(counts(2), decider, { ...saved, policy: 'other' })).toMatch(/is of other/);
    expect(restoreState(counts(2), decider, { ...saved, version: 3 })).toMatch(
      /form 3, and mine 1\.0\.0 knows 2/,
    );
    expect(restoreState(counts(2), decider, { ...saved, version: 1 })).toMatch(/form 1 is unknown/);
    expect(decider.save!()).toEqual({ count: 0 });
  });

  test('an older form is taken by a policy that understands it', () => {
    const decider = counts(2, 1).bind(plainView());
    expect(
      restoreState(counts(2, 1), decider, { policy: 'mine', version: 1, state: { count: 4 } }),
    ).toBeUndefined();
    expect(decider.save!()).toEqual({ count: 4 });
  });

  test('that is no number is refused when it is saved', () => {
    const policy = definePolicy({
      ...good(),
      bind: () => ({ decide() {}, configure() {}, save: () => ({ x: NaN }) }),
    });
    expect(() => saveState(policy, policy.bind(plainView()))).toThrow(/mine has NaN at x/);
  });
});

describe('a plan', () => {
  function world(): { view: ReturnType<typeof plainView>; world: ReturnType<typeof worldOf> } {
    const view = plainView();
    view.vmMax.set([4, 0, 2]);
    view.vmClass[2] = 1;
    view.vmDelay[2] = 200;
    view.vmSlo[2] = 100;
    view.vmHint.set([3, 0, 2]);
    view.vmHintUntil.set([-5, 0, 5]);
    return { view, world: worldOf(view, (slot) => `vm${slot}`, 10) };
  }

  test('is made from a world of plain objects: no empty slot, no announcement that is over', () => {
    expect(world().world.vms).toMatchObject([
      { vm: 'vm0', class: 'be', max: 4, hint: 0, weight: 100 },
      { vm: 'vm2', class: 'lc', max: 2, hint: 2, delayUs: 20, sloUs: 10 },
    ]);
  });

  test('becomes two words for each VM; what is wrong is left out and told', () => {
    const { view, world: before } = world();
    view.vmPlan[7] = 3;
    const { reasons, problems } = adoptPlan(
      before,
      [
        { vm: 'vm0', cores: 3, reason: 'busy' },
        { vm: 'vm2', cores: 9, reason: 'late' },
        { vm: 'vm2', cores: 1, reason: 'twice' },
        { vm: 'vm1', cores: 1, reason: 'gone' },
        { vm: 'vm0', cores: NaN, reason: 'nonsense' },
      ],
      view,
    );
    expect([...view.vmPlan.subarray(0, 3)]).toEqual([3, NO_PLAN, 2]);
    expect(view.vmPlan[7]).toBe(NO_PLAN);
    expect(reasons[view.vmPlanWhy[0]]).toBe('busy');
    expect(reasons[view.vmPlanWhy[2]]).toBe('late');
    expect(problems).toEqual([
      'target 2, vm2: 9 cores are more than its 2, which it gets',
      'target 3, vm2: an earlier target names it',
      'target 4, vm1: there is no such VM',
      'target 5, vm0: NaN is no number of cores',
    ]);
  });

  test('of none is no plan for anybody', () => {
    const { view, world: before } = world();
    view.vmPlan.fill(1);
    adoptPlan(before, [], view);
    expect(view.vmPlan.every((cores) => cores === NO_PLAN)).toBe(true);
    expect(view.vmPlan).toHaveLength(MAX_VMS);
  });
});

describe('the shortest useful policy', () => {
  test('stands in the documentation as it is here', () => {
    const root = new URL('../../', import.meta.url);
    const source = readFileSync(new URL('arbiter/policy/examples/longest-wait.ts', root), 'utf8');
    expect(readFileSync(new URL('docs/policies.md', root), 'utf8')).toContain(`\`\`\`ts\n${source}\`\`\``);
  });

  test('is useful: everybody gets on, and nothing is broken', () => {
    const crowd = new Crowd({
      policy: longestWait,
      cores: 2,
      members: [
        { vcpus: 2, work: 2 },
        { vcpus: 2, work: 2 },
        { vcpus: 1, work: 1 },
      ],
      params: { tenure_us: 50 },
      pingPongUs: 20,
    });
    crowd.run(3000);
    for (const had of crowd.had) expect(had).toBeGreaterThan(1200);
    expect(crowd.had.reduce((a, b) => a + b)).toBeGreaterThan(5900);
  });
});

/** What the comment at the head of each built-in policy promises. `delay` has a file of its own: policy.test.ts. */
import { describe, expect, test } from 'vitest';
import type { Policy } from '../../arbiter/policy/api.ts';
import { NO_PLAN } from '../../arbiter/policy/api.ts';
import { chaos } from '../../arbiter/policy/builtin/chaos.ts';
import { classes, paramOf } from '../../arbiter/policy/builtin/classes.ts';
import { fairShare } from '../../arbiter/policy/builtin/fair-share.ts';
import { iasLite } from '../../arbiter/policy/builtin/ias-lite.ts';
import { proactive } from '../../arbiter/policy/builtin/proactive.ts';
import { slo } from '../../arbiter/policy/builtin/slo.ts';
import { fixed } from '../../arbiter/policy/builtin/static.ts';
import { utilization } from '../../arbiter/policy/builtin/utilization.ts';
import { reasonCode } from '../../arbiter/policy/reasons.ts';
import { restoreState, saveState } from '../../arbiter/policy/state.ts';
import { detachVm } from '../../arbiter/loop/vms.ts';
import type { Member } from './crowd.ts';
import { Crowd } from './crowd.ts';

const crowd = (
  policy: Policy,
  cores: number,
  members: Member[],
  params: Record<string, number> = {},
): Crowd => new Crowd({ policy, cores, members, params });

/** What each VM had in this time, in cores. */
function had(c: Crowd, us: number): number[] {
  const before = [...c.had];
  c.run(us);
  return c.had.map((sum, slot) => (sum - before[slot]) / us);
}

const held = (c: Crowd): number[] => c.members.map((_, slot) => c.w.held(slot));

describe('static', () => {
  test('guaranteed cores first, the rest by weight, and nothing follows the load', () => {
    const c = crowd(fixed, 6, [
      { vcpus: 4, min: 1, work: 4 },
      { vcpus: 4, weight: 300, work: 4 },
      { vcpus: 4, work: 0 },
    ]);
    c.run(50);
    // 6 cores: one guaranteed to VM 0, one each to the others, and VM 1 weighs most; VM 2 does not use its own.
    expect(held(c)).toEqual([1, 4, 0]);
    c.work[2] = 4;
    c.run(50);
    expect(held(c)).toEqual([1, 4, 1]);
    expect(c.takings).toBe(0);
  });

  test('is dealt anew when a VM goes, and those that stay keep what they have', () => {
    const c = crowd(fixed, 2, [
      { vcpus: 2, work: 2 },
      { vcpus: 2, work: 2 },
    ]);
    c.run(20);
    const core = c.w.cores.find((id) => c.w.owner(id) === 0)!;
    expect(held(c)).toEqual([1, 1]);
    c.work[1] = 0;
    c.run(60);
    detachVm(c.w.mem, c.w.state, 1);
    c.run(20);
    expect(c.w.held(0)).toBe(2);
    expect(c.w.owner(core)).toBe(0);
    expect(c.takings).toBe(0);
  });

  test('a VM whose part is nothing does not run', () => {
    const c = crowd(fixed, 1, [
      { vcpus: 1, work: 1 },
      { vcpus: 1, work: 1 },
    ]);
    expect(had(c, 200)).toEqual([1, 0]);
  });
});

describe('fair-share', () => {
  test('core time goes by weight', () => {
    const c = crowd(fairShare, 1, [
      { vcpus: 1, work: 1, weight: 300 },
      { vcpus: 1, work: 1, weight: 100 },
    ]);
    c.run(2000);
    const [heavy, light] = had(c, 40_000);
    expect(heavy / light).toBeGreaterThan(2.5);
    expect(heavy / light).toBeLessThan(3.5);
  });

  test('nothing idles while somebody can use it, and what one leaves the others share', () => {
    const c = crowd(fairShare, 4, [
      { vcpus: 4, work: 1 },
      { vcpus: 4, work: 4 },
      { vcpus: 4, work: 4 },
    ]);
    c.run(3000);
    const [small, ...others] = had(c, 20_000);
    expect(small).toBeGreaterThan(0.9);
    for (const other of others) expect(other).toBeGreaterThan(1.3);
    expect(small + others[0] + others[1]).toBeGreaterThan(3.9);
  });

  test('whole shares settle: no core moves once everybody has what its weight gives', () => {
    const c = crowd(fairShare, 3, [
      { vcpus: 3, work: 3, weight: 200 },
      { vcpus: 3, work: 3, weight: 100 },
    ]);
    c.run(10_000);
    const { takings } = c;
    expect(had(c, 10_000)).toEqual([2, 1]);
    expect(c.takings).toBe(takings);
  });

  test('idling saves nothing up', () => {
    const c = crowd(fairShare, 1, [
      { vcpus: 1, work: 1 },
      { vcpus: 1, work: 0 },
    ]);
    c.run(20_000);
    c.work[1] = 1;
    c.run(2000);
    const [first, second] = had(c, 8000);
    expect(Math.abs(first - second)).toBeLessThan(0.3);
  });

  test('how far ahead each is outlives a reload', () => {
    const c = crowd(fairShare, 1, [
      { vcpus: 1, work: 1 },
      { vcpus: 1, work: 1 },
    ]);
    c.run(700);
    const saved = saveState(fairShare, c.w.decider)!;
    expect(saved).toMatchObject({ policy: 'fair-share', version: 1 });
    const next = fairShare.bind(c.w.stats.view);
    expect(restoreState(fairShare, next, saved)).toBeUndefined();
    const [first, second] = saveState(fairShare, next)!.state as Int32Array;
    expect(first).toBeGreaterThan(second);
  });
});

describe('proactive', () => {
  test('cores are there before the work', () => {
    const c = crowd(proactive, 3, [
      { vcpus: 3, lc: true },
      { vcpus: 3, work: 3 },
    ]);
    c.run(100);
    expect(held(c)).toEqual([0, 3]);
    c.w.hint(0, 2, 1000);
    c.run(15);
    expect(held(c)).toEqual([2, 1]);
  });

  test('what it yields is kept for it, granted when there is work, and goes back when the time is over', () => {
    const c = crowd(proactive, 3, [
      { vcpus: 3, lc: true },
      { vcpus: 3, work: 3 },
    ]);
    c.run(100);
    c.w.hint(0, 2, 400);
    c.run(200);
    // Its vCPUs have looked for work, found none and left.
    expect(held(c)).toEqual([0, 1]);
    const { takings } = c;
    c.work[0] = 2;
    c.run(3);
    expect(held(c)).toEqual([2, 1]);
    expect(c.takings).toBe(takings);
    c.work[0] = 0;
    c.run(300);
    expect(held(c)).toEqual([0, 3]);
    expect(c.w.state.view.vmHint[0]).toBe(0);
  });

  test('guarantees go before announcements, and best-effort takes nothing from latency-critical', () => {
    const c = crowd(proactive, 2, [{ vcpus: 2, lc: true, min: 1, work: 2 }, { vcpus: 2 }]);
    c.run(100);
    c.w.hint(1, 2, 1000);
    c.run(100);
    expect(held(c)).toEqual([2, 0]);
  });

  test('nobody gives up what was announced for himself', () => {
    const c = crowd(proactive, 2, [
      { vcpus: 2, work: 2 },
      { vcpus: 2, lc: true, work: 0 },
    ]);
    c.w.hint(0, 2, 2000);
    c.run(50);
    c.work[1] = 2;
    c.run(200);
    expect(held(c)).toEqual([2, 0]);
    c.run(2500);
    expect(held(c)[1]).toBe(2);
  });

  test('a later announcement takes the place of an earlier one', () => {
    const c = crowd(proactive, 3, [{ vcpus: 3 }, { vcpus: 3, work: 3 }]);
    c.w.hint(0, 3, 5000);
    c.run(100);
    expect(held(c)[1]).toBe(0);
    c.w.hint(0, 0, 5000);
    c.run(100);
    expect(held(c)[1]).toBe(3);
  });
});

describe('utilization', () => {
  test('a VM without a core gets one at once, further ones when those that it has are busy', () => {
    const c = crowd(utilization, 4, [{ vcpus: 4, work: 4 }]);
    c.run(20);
    expect(held(c)).toEqual([1]);
    c.run(600);
    expect(held(c)).toEqual([2]);
    c.run(2500);
    expect(held(c)).toEqual([4]);
  });

  test('one whose cores are mostly idle gives them to one whose cores are busy', () => {
    const c = crowd(utilization, 4, [
      { vcpus: 4, work: 4 },
      { vcpus: 4, work: 0 },
    ]);
    c.run(5000);
    expect(held(c)).toEqual([4, 0]);
    c.work[0] = 1;
    c.work[1] = 4;
    c.run(5000);
    const [first, second] = held(c);
    expect(first).toBe(1);
    expect(second).toBe(3);
  });
});

describe('slo', () => {
  test('a VM over its target gets cores from those without one, until it is under it', () => {
    const c = crowd(slo, 4, [
      { vcpus: 4, sloUs: 30 },
      { vcpus: 4, work: 4 },
    ]);
    c.run(100);
    expect(held(c)).toEqual([0, 4]);
    c.work[0] = 3;
    c.run(300);
    expect(held(c)).toEqual([3, 1]);
  });

  test('a looser target takes longer to claim', () => {
    const wait = (sloUs: number): number => {
      const c = crowd(slo, 4, [
        { vcpus: 4, sloUs },
        { vcpus: 4, work: 4 },
      ]);
      c.run(100);
      c.work[0] = 2;
      const begin = c.us;
      while (c.w.held(0) < 2 && c.us - begin < 2000) c.run(1);
      return c.us - begin;
    };
    expect(wait(20)).toBeLessThan(100);
    expect(wait(200)).toBeGreaterThan(200);
    expect(wait(200)).toBeLessThan(400);
  });

  test('without delay the goal sinks again', () => {
    const c = crowd(slo, 4, [{ vcpus: 4, sloUs: 20 }], { calm_us: 200 });
    const goal = (): number => (saveState(slo, c.w.decider)!.state as Int32Array)[0];
    c.work[0] = 4;
    c.run(400);
    expect(goal()).toBe(4);
    c.work[0] = 1;
    c.run(300);
    // Somebody has to do something for the policy to be asked.
    for (let i = 0; i < 6; i++) {
      c.work[0] = 1 + (i % 2);
      c.run(150);
    }
    expect(goal()).toBeLessThan(4);
  });

  test('best-effort VMs with a target take nothing from latency-critical ones', () => {
    const c = crowd(slo, 2, [
      { vcpus: 2, lc: true, work: 2 },
      { vcpus: 2, sloUs: 15, work: 0 },
    ]);
    c.run(100);
    c.work[1] = 2;
    c.run(3000);
    expect(held(c)).toEqual([2, 0]);
  });

  test('a plan is where the goal starts from; without one the feedback goes on alone', () => {
    const c = crowd(slo, 4, [
      { vcpus: 4, sloUs: 500 },
      { vcpus: 4, work: 4 },
    ]);
    c.run(100);
    c.w.stats.view.vmPlan[0] = 3;
    c.work[0] = 4;
    c.run(120);
    expect(c.w.held(0)).toBe(3);
    expect(c.w.stats.view.vmPlan[1]).toBe(NO_PLAN);
  });

  test('the slow hook divides the pool where the targets together need more', () => {
    const vm = (name: string, wants: number, min = 0) => ({
      ...{ vm: name, slot: 0, class: 'lc' as const, group: 0, weight: 100, min, max: 8, sloUs: 50, hint: 0 },
      ...{ cores: 0, wants, delayUs: 0 },
    });
    const params = slo.params.parse({});
    const enough = slo.plan!({ cores: 8, vms: [vm('a', 2), vm('b', 4)] }, params);
    expect(enough.map(({ vm, cores }) => [vm, cores])).toEqual([
      ['a', 2],
      ['b', 4],
    ]);
    const short = slo.plan!(
      { cores: 6, vms: [vm('a', 8), vm('b', 4, 3), { ...vm('c', 8), sloUs: 0, class: 'be' }] },
      params,
    );
    expect(short.map(({ vm, cores }) => [vm, cores])).toEqual([
      ['a', 4],
      ['b', 3],
    ]);
    expect(short[0].reason).toContain('6 cores are there for 12');
  });
});

describe('ias-lite', () => {
  test('latency-critical takes from best-effort at once, best-effort never from latency-critical', () => {
    const c = crowd(iasLite, 2, [
      { vcpus: 2, work: 2 },
      { vcpus: 2, lc: true },
    ]);
    c.run(50);
    expect(held(c)).toEqual([2, 0]);
    c.work[1] = 2;
    c.run(60);
    expect(held(c)).toEqual([0, 2]);
    expect(had(c, 5000)).toEqual([0, 2]);
  });

  test('equals take only where the other has two more', () => {
    const c = crowd(iasLite, 3, [
      { vcpus: 3, lc: true, work: 3 },
      { vcpus: 3, lc: true },
    ]);
    c.run(60);
    c.work[1] = 3;
    c.run(200);
    expect(held(c)).toEqual([2, 1]);
    const { takings } = c;
    c.run(5000);
    expect(c.takings).toBe(takings);
  });

  test('a best-effort VM that has had a core for its quanta loses it to one that has none', () => {
    const c = crowd(iasLite, 1, [
      { vcpus: 1, work: 1 },
      { vcpus: 1, work: 1 },
    ]);
    c.run(1900);
    expect(c.takings).toBe(0);
    const shares = had(c, 20_000);
    for (const share of shares) expect(share).toBeGreaterThan(0.4);
  });

  test('a VM that was just given a core is not congested again at once', () => {
    const c = crowd(iasLite, 4, [
      { vcpus: 4, work: 4 },
      { vcpus: 4, lc: true },
    ]);
    c.run(100);
    c.work[1] = 4;
    c.run(13);
    expect(c.w.held(1)).toBeLessThanOrEqual(2);
    c.run(60);
    expect(c.w.held(1)).toBe(4);
  });
});

describe('classes', () => {
  const params = {
    [paramOf(1, 'priority')]: 3,
    [paramOf(2, 'priority')]: 1,
    [paramOf(2, 'max_cores')]: 2,
    [paramOf(3, 'cores')]: 2,
  };

  test('a core goes down the priorities and never up', () => {
    const c = crowd(
      classes,
      2,
      [{ vcpus: 2, group: 2, work: 2 }, { vcpus: 2, group: 1 }, { vcpus: 2 }],
      params,
    );
    c.run(50);
    expect(held(c)).toEqual([2, 0, 0]);
    c.work[2] = 2;
    c.run(500);
    expect(held(c)).toEqual([2, 0, 0]);
    c.work[1] = 2;
    c.run(100);
    expect(held(c)).toEqual([0, 2, 0]);
  });

  test('each VM of a class, and all of them together, have so many cores at most', () => {
    const c = crowd(
      classes,
      8,
      [
        { vcpus: 4, group: 2, work: 4 },
        { vcpus: 4, group: 3, work: 4 },
        { vcpus: 4, group: 3, work: 4 },
      ],
      params,
    );
    c.run(500);
    const [capped, ...shared] = held(c);
    expect(capped).toBe(2);
    expect(shared[0] + shared[1]).toBe(2);
  });

  test('guarantees go before priorities', () => {
    const c = crowd(
      classes,
      1,
      [
        { vcpus: 1, group: 1, work: 1 },
        { vcpus: 1, min: 1 },
      ],
      params,
    );
    c.run(50);
    c.work[1] = 1;
    c.run(20);
    expect(held(c)).toEqual([0, 1]);
  });

  test('the slow hook divides a limited class by weight, and the hot hook honours it', () => {
    const vm = (name: string, weight: number) => ({
      ...{ vm: name, slot: 0, class: 'be' as const, group: 3, weight, min: 0, max: 8, sloUs: 0, hint: 0 },
      ...{ cores: 0, wants: 8, delayUs: 0 },
    });
    const given = classes.params.parse({ [paramOf(3, 'cores')]: 6 });
    const targets = classes.plan!(
      { cores: 16, vms: [vm('a', 200), vm('b', 100), { ...vm('c', 100), group: 0 }] },
      given,
    );
    expect(targets.map(({ vm, cores }) => [vm, cores])).toEqual([
      ['a', 4],
      ['b', 2],
    ]);
    const c = crowd(
      classes,
      6,
      [
        { vcpus: 4, group: 3, work: 4 },
        { vcpus: 4, group: 3, work: 4 },
      ],
      given,
    );
    c.w.stats.view.vmPlan.set([4, 2]);
    c.run(200);
    expect(held(c)).toEqual([4, 2]);
  });

  test('parameters that no file makes are refused', () => {
    expect(classes.params.safeParse({ class32_priority: 1 }).error?.issues[0].message).toContain(
      'rules=FILE',
    );
    expect(classes.params.safeParse({ threshold_us: 1 }).success).toBe(false);
  });
});

describe('chaos', () => {
  test('moves cores about, and the same seed makes the same choices', () => {
    const once = (seed: number): string => {
      const c = crowd(
        chaos,
        3,
        [
          { vcpus: 2, work: 2 },
          { vcpus: 2, work: 1 },
          { vcpus: 2, work: 2, min: 1 },
        ],
        {
          seed,
          every_us: 10,
        },
      );
      c.run(2000);
      expect(c.takings).toBeGreaterThan(50);
      return c.had.join();
    };
    expect(once(1)).toBe(once(1));
    expect(once(1)).not.toBe(once(2));
  });

  test('says that it was chance', () => {
    const c = crowd(
      chaos,
      2,
      [
        { vcpus: 2, work: 2 },
        { vcpus: 2, work: 2 },
      ],
      { every_us: 1 },
    );
    const seen = new Set<string>();
    c.run(200, () => seen.add(reasonCode(c.w.state.view.why[0])));
    expect(seen).toContain('chaos');
  });
});

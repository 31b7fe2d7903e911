/**
 * What holds whatever the policy, the machine, the load and the guests: for every
 * built-in policy, and for policies that somebody might write, through the real guard
 * and loop. FLUX_SEED=n tries others than the usual ones.
 */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Policy } from '../../arbiter/policy/api.ts';
import { HEAD_CORES, MAX_VMS, POLICY_API } from '../../arbiter/policy/api.ts';
import { paramOf } from '../../arbiter/policy/builtin/classes.ts';
import { definePolicy } from '../../arbiter/policy/define.ts';
import { builtinPolicies } from '../../arbiter/policy/registry.ts';
import type { Member } from './crowd.ts';
import { Crowd } from './crowd.ts';

const seed = Number(process.env.FLUX_SEED ?? 20261130);
const runs = (numRuns: number) => ({ numRuns, seed, endOnFailure: true });

/** Short turns, so that many of them fit into a test. */
const QUANTUM_US = 100;
const fast: Readonly<Record<string, Record<string, number>>> = {
  delay: { quantum_us: QUANTUM_US },
  'fair-share': { slice_us: QUANTUM_US },
  slo: { quantum_us: QUANTUM_US },
  proactive: { quantum_us: QUANTUM_US },
  utilization: { quantum_us: QUANTUM_US, window_us: 50 },
  'ias-lite': { quanta_us: QUANTUM_US },
  classes: { quantum_us: QUANTUM_US, [paramOf(1, 'priority')]: 2, [paramOf(2, 'cores')]: 2 },
  chaos: { every_us: 5 },
};

const member = fc.record({
  vcpus: fc.integer({ min: 1, max: 4 }),
  lc: fc.boolean(),
  min: fc.integer({ min: 0, max: 2 }),
  max: fc.integer({ min: 1, max: 4 }),
  weight: fc.constantFrom(50, 100, 300),
  sloUs: fc.constantFrom(0, 0, 15, 60),
  group: fc.integer({ min: 0, max: 2 }),
  liar: fc.constantFrom(false, false, false, true),
  work: fc.integer({ min: 0, max: 5 }),
});

/** What admission would let in: nobody is promised what is not there. */
function admitted(members: readonly Required<Member>[], cores: number): Required<Member>[] {
  let left = cores;
  return members.map((one) => {
    const max = Math.min(one.max, one.vcpus, cores);
    const min = Math.min(one.min, max, left);
    left -= min;
    return { ...one, min, max };
  });
}

const town = fc
  .record({
    cores: fc.integer({ min: 1, max: 6 }),
    members: fc.array(member, { minLength: 1, maxLength: 8 }),
    seed: fc.integer({ min: 1, max: 2 ** 30 }),
  })
  .map(({ cores, members, ...rest }) => ({ ...rest, cores, members: admitted(members, cores) }));

/** Load that changes: now and then a VM has other work to do. */
function restless(crowd: Crowd): () => void {
  return () => {
    if (crowd.random(40) !== 0) return;
    const slot = crowd.random(crowd.members.length);
    crowd.work[slot] = crowd.random(5);
    if (crowd.random(4) === 0) crowd.w.hint(slot, crowd.random(4), 20 + crowd.random(200));
  };
}

/** How long an honest VM has wanted n cores without having them: the longest, in us. */
function longestWant(
  crowd: Crowd,
  slot: number,
  cores: (work: number) => number,
): { see(): void; longest: number } {
  let since = crowd.us;
  return {
    longest: 0,
    see(): void {
      const wants = cores(crowd.work[slot]);
      if (wants === 0 || crowd.w.held(slot) >= wants) since = crowd.us;
      this.longest = Math.max(this.longest, crowd.us - since);
    },
  };
}

describe.each(builtinPolicies.map((policy) => [policy.name, policy] as const))('%s', (name, policy) => {
  const params = fast[name] ?? {};
  // Random moves go back and forth as they come.
  const pingPongUs = name === 'chaos' ? 0 : 20;

  test('keeps cores, limits, used guarantees and generations, and plays no ping-pong', () => {
    fc.assert(
      fc.property(town, (options) => {
        const crowd = new Crowd({ ...options, policy, params, pingPongUs });
        crowd.run(400, restless(crowd));
      }),
      runs(25),
    );
  });

  // Random moves keep what is guaranteed, but give it to nobody first.
  if (name !== 'chaos') {
    test('gives what is guaranteed to whoever can use it, soon', () => {
      fc.assert(
        fc.property(town, (options) => {
          const crowd = new Crowd({ ...options, policy, params });
          const wants = options.members.map(({ min }, slot) =>
            longestWant(crowd, slot, (work) => Math.min(work, min)),
          );
          crowd.run(600, () => {
            restless(crowd)();
            wants.forEach((want) => want.see());
          });
          options.members.forEach(({ liar }, slot) => {
            // Two who lie may stand in the way one after the other, each until it is forced.
            if (!liar) expect(wants[slot].longest, `VM ${slot}`).toBeLessThan(200);
          });
        }),
        runs(15),
      );
    });
  }

  test('lets nobody starve among equals', () => {
    // Caladan's quanta are for best-effort VMs only, and a partition has a part for as many VMs as there are cores.
    const lc = name === 'ias-lite' ? fc.constant(false) : fc.boolean();
    const equals = fc.record({ options: town, lc }).map(({ options, lc }) => {
      const members = options.members.map((one) => ({
        ...one,
        lc,
        liar: false,
        min: 0,
        sloUs: 0,
        group: 0,
        weight: 100,
        work: 1 + (one.work % 4),
      }));
      return { ...options, members: name === 'static' ? members.slice(0, options.cores) : members };
    });
    fc.assert(
      fc.property(equals, (options) => {
        const crowd = new Crowd({ ...options, policy, params });
        const wants = options.members.map((_, slot) => longestWant(crowd, slot, () => 1));
        const rounds = Math.ceil(options.members.length / options.cores) + 2;
        const bound = name === 'chaos' ? 2000 : rounds * QUANTUM_US * 2;
        crowd.run(bound + 500, () => wants.forEach((want) => want.see()));
        wants.forEach((want, slot) => expect(want.longest, `VM ${slot}`).toBeLessThan(bound));
      }),
      runs(15),
    );
  });

  test('decides the same in the same world', () => {
    fc.assert(
      fc.property(town, (options) => {
        const once = (): string => {
          const crowd = new Crowd({ ...options, policy, params });
          crowd.run(200, restless(crowd));
          return crowd.had.join();
        };
        expect(once()).toBe(once());
      }),
      runs(3),
    );
  });
});

/** A policy that somebody might write: wishes at random, nonsense among them, and now and then an error. */
function anyPolicy(sort: { seed: number; nonsense: boolean; throws: boolean; still: number }): Policy {
  return definePolicy({
    ...{ api: POLICY_API, name: 'any', version: '1.0.0', summary: 'at random' },
    bind(view, out) {
      let state = sort.seed | 1;
      const pick = (below: number): number => {
        state = (Math.imul(state, 1664525) + 1013904223) | 0;
        return Math.floor(((state >>> 0) / 2 ** 32) * below);
      };
      const someVm = (): number => {
        if (sort.nonsense && pick(4) === 0) return [-7, MAX_VMS, 0x7fffffff, MAX_VMS - 1][pick(4)];
        return pick(10) - 1;
      };
      return () => {
        for (let k = 0; k < view.head[HEAD_CORES]; k++) {
          if (pick(sort.still) !== 0) continue;
          out.target[k] = someVm();
          out.heir[k] = someVm();
          if (sort.throws && pick(16) === 0) throw new Error('on purpose');
        }
      };
    },
  });
}

test('any policy: no core is lost, no limit broken, no used guarantee taken, no generation goes back', () => {
  const sort = fc.record({
    seed: fc.integer(),
    nonsense: fc.boolean(),
    throws: fc.boolean(),
    still: fc.integer({ min: 1, max: 20 }),
  });
  fc.assert(
    fc.property(town, sort, (options, kind) => {
      const crowd = new Crowd({ ...options, policy: anyPolicy(kind) });
      crowd.run(500, restless(crowd));
    }),
    runs(50),
  );
});

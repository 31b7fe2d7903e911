import { describe, expect, it } from 'vitest';
import { rotate } from '../lib/rotate.ts';
import { Refusal, type Contestant } from './contestant.ts';
import { lanesOf, type Entrant } from './lane.ts';
import { ROWS, SAMPLE_NS, sortRow, type RowSpec } from './rows.ts';

interface Call {
  who: string;
  samples: number;
  ops: number;
  expectMs: number;
}

/** A contestant whose every operation takes `ns`. */
function fake(name: string, ns: number, calls: Call[], refuse?: (call: number) => Error | null): Entrant {
  let count = 0;
  const contestant: Contestant = {
    ...{ name, version: '1' },
    async run(_key, samples, ops, expectMs) {
      const error = refuse?.(count++);
      if (error) throw error;
      calls.push({ who: name, samples, ops, expectMs });
      return Array.from({ length: samples }, () => ns * ops);
    },
    async close() {},
    kill() {},
  };
  return { name, where: 'one', cores: 1, contestant };
}

const spec: RowSpec = ROWS.find(({ key }) => key === 'yield')!;

describe('lanes', () => {
  it('give each contestant as many operations as fill a sample, and as many blocks as the others', async () => {
    const calls: Call[] = [];
    const lanes = lanesOf(spec, [fake('quick', 10, calls), fake('slow', 10_000, calls)], 2);
    for (const lane of lanes) await lane.prepare();
    const warm = calls.length;
    await rotate(
      lanes.map((lane) => ({ name: lane.name, run: () => lane.block() })),
      { rounds: 2 },
    );
    const blocks = calls.slice(warm);
    expect(blocks.map(({ who }) => who)).toEqual(['quick', 'slow', 'slow', 'quick']);
    expect(blocks[0]).toMatchObject({ samples: spec.samples, ops: SAMPLE_NS / 10 });
    expect(blocks[1]).toMatchObject({ samples: spec.samples, ops: SAMPLE_NS / 10_000 });
    expect(blocks[0].expectMs).toBeCloseTo((SAMPLE_NS * spec.samples) / 1e6);
    expect(lanes.map((lane) => lane.summary()?.p50)).toEqual([10, 10_000]);
    expect(lanes[0].summary()?.n).toBe(2 * spec.samples);
  });

  it('do what takes fixed numbers as it is', async () => {
    const calls: Call[] = [];
    const entrant = { ...fake('a', 5, calls), where: 'all' as const };
    const [lane] = lanesOf(sortRow(2_000_000), [entrant, fake('b', 5, calls)], 1, 'ms');
    await lane.prepare();
    await lane.block();
    expect(calls).toEqual([
      { who: 'a', samples: 1, ops: 2_000_000, expectMs: 0 },
      { who: 'a', samples: 1, ops: 2_000_000, expectMs: 10 },
    ]);
    expect(lane.summary()).toMatchObject({ n: 1, p50: 10 });
  });

  it('are not measured if their contestant is missing, refuses, or stops in the middle', async () => {
    const calls: Call[] = [];
    const never = fake('never', 1, calls, () => new Refusal('no such row'));
    const dies = fake('dies', SAMPLE_NS, calls, (call) => (call > 2 ? new Refusal('it has ended') : null));
    const missing: Entrant = { name: 'none', where: 'one', cores: 1, contestant: { missing: 'no compiler' } };
    const lanes = lanesOf(spec, [never, dies, missing], 3);
    for (const lane of lanes) await lane.prepare();
    for (let i = 0; i < 3; i++) for (const lane of lanes) await lane.block();
    expect(lanes.map((lane) => lane.missing)).toEqual(['no such row', 'it has ended', 'no compiler']);
    expect(lanes.map((lane) => lane.summary())).toEqual([undefined, undefined, undefined]);
  });

  it('are not measured on fewer cores than they need', async () => {
    const calls: Call[] = [];
    const steal = ROWS.find(({ key }) => key === 'steal')!;
    const entrant = { ...fake('a', 5, calls), where: 'all' as const };
    const [lonely, paired] = lanesOf(steal, [entrant, { ...entrant, cores: 2 }], 1);
    for (const lane of [lonely, paired]) await lane.prepare();
    expect([lonely.missing, paired.missing]).toEqual(['it needs 2 cores', null]);
    expect(calls).toHaveLength(1);
  });

  it('let errors that are no refusals through', async () => {
    const [lane] = lanesOf(spec, [fake('broken', 1, [], () => new TypeError('a mistake'))], 1);
    await expect(lane.prepare()).rejects.toThrow('a mistake');
  });
});

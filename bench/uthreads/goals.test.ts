import { describe, expect, it } from 'vitest';
import { GO, goalsOf, HOSTED, KVM, PTHREADS, TOKIO, type Measured } from './goals.ts';
import { ROWS, sortRow } from './rows.ts';

const spec = (key: string): Measured['row'] => ROWS.find((row) => row.key === key && row.where === 'one')!;
const measured = (row: Measured['row'], p50: Record<string, number>): Measured => ({
  ...{ row, title: row.title },
  p50: new Map(Object.entries(p50)),
});
const goalFor = (of: Measured, who: string, what: RegExp) =>
  goalsOf([of]).find(({ name }) => name.startsWith(who) && what.test(name));

describe('goals', () => {
  const spawned = measured(spec('spawn'), {
    [KVM]: 90,
    [HOSTED]: 300,
    [GO]: 200,
    [TOKIO]: 100,
    [PTHREADS]: 2000,
  });

  it('are against the faster of the two runtimes', () => {
    expect(goalFor(spawned, KVM, /below/)).toMatchObject({ limit: 100, value: 90, ok: true });
    expect(goalFor(spawned, HOSTED, /below/)).toMatchObject({ limit: 100, value: 300, ok: false });
    expect(goalFor(spawned, KVM, /below/)?.note).toContain('tokio');
  });

  it('are against pthreads where a thread must be far ahead', () => {
    expect(goalFor(spawned, KVM, /pthreads/)).toMatchObject({ limit: 100, value: 90, ok: true });
    expect(goalFor(measured(spec('mutex'), { [KVM]: 1, [PTHREADS]: 2 }), KVM, /pthreads/)).toBeUndefined();
  });

  it('are not measured, and so not met, if a rival or FluxOS itself is missing', () => {
    const without = measured(spec('yield'), { [KVM]: 1, [GO]: 200 });
    expect(goalFor(without, KVM, /below/)).toMatchObject({ limit: 200, value: null, ok: null });
    expect(goalFor(without, KVM, /below/)?.note).toContain('tokio: not measured');
    const alone = measured(spec('yield'), { [GO]: 2, [TOKIO]: 3 });
    expect(goalFor(alone, KVM, /below/)).toMatchObject({ limit: 2, value: null, ok: null });
    expect(goalFor(measured(spec('yield'), {}), KVM, /below/)).toMatchObject({ limit: 0, ok: null });
  });

  it('leave out the floor, and ask of the sort that it is near the best of all', () => {
    expect(goalsOf([measured(spec('floor'), { [KVM]: 9, [GO]: 1, [TOKIO]: 1 })])).toEqual([]);
    const sort = measured(sortRow(10), {
      [KVM]: 104,
      [HOSTED]: 106,
      [GO]: 100,
      [TOKIO]: 200,
      [PTHREADS]: 150,
    });
    expect(goalFor(sort, KVM, /within 5 %/)).toMatchObject({ limit: 105, value: 104, ok: true });
    expect(goalFor(sort, HOSTED, /within 5 %/)).toMatchObject({ limit: 105, value: 106, ok: false });
    // The best may be FluxOS's other way to run.
    const ours = measured(sortRow(10), {
      [KVM]: 100,
      [HOSTED]: 104,
      [GO]: 200,
      [TOKIO]: 200,
      [PTHREADS]: 150,
    });
    expect(goalFor(ours, HOSTED, /within 5 %/)).toMatchObject({ limit: 105, ok: true });
  });
});

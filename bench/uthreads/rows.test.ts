import { describe, expect, it } from 'vitest';
import { hash, MAX_OPS, nextOps, rowName, ROWS, rowsOf, SAMPLE_NS, sortRow } from './rows.ts';

describe('rows', () => {
  it('have names of their own, for the guest as well', () => {
    const rows = [...ROWS, sortRow(1000)];
    const keys = new Set(rows.map(({ key }) => key));
    expect(new Set([...keys].map(hash)).size).toBe(keys.size);
    const names = rows.map((row) => rowName(row, 'x', 2));
    expect(new Set(names).size).toBe(names.length);
  });

  it('are hashed as the guest hashes them', () => {
    // The same two are in guest-libos/apps/src/micro/mod.rs.
    expect(hash('')).toBe(0x811c9dc5);
    expect(hash('yield')).toBe(0x6c96f2ae);
  });

  it('say how many cores they are on', () => {
    const sort = sortRow(1_000_000);
    expect(rowName(sort, 'Go', 4)).toBe('parallel quicksort of 1,000,000 (4 cores): Go');
    expect(rowName(sort, 'Go', 1)).toContain('(1 core)');
    expect(rowName(ROWS[0], 'Go', 4)).toContain('(1 core)');
  });
});

describe('rows that are asked for', () => {
  const keys = (asked?: string[]) => rowsOf(asked, sortRow(1000)).map(({ key, where }) => `${key} ${where}`);

  it('are all of them unless told, and have the floor with them', () => {
    expect(keys()).toHaveLength(ROWS.length + 1);
    expect(keys(['sort', 'spawn'])).toEqual(['floor one', 'spawn one', 'spawn all', 'sort all']);
  });

  it('are refused if there are none of that name', () => {
    expect(() => keys(['spawn', 'fly'])).toThrow('there is no row "fly"; choose from floor, clock, spawn');
  });
});

describe('operations of a sample', () => {
  it('come to what takes as long as a sample is to take', () => {
    expect(nextOps(1000, SAMPLE_NS / 2)).toBe(2000);
    expect(nextOps(1000, SAMPLE_NS * 4)).toBe(250);
  });

  it('are even, at least two, grow tenfold at most, and not without end', () => {
    expect(nextOps(100, (SAMPLE_NS * 100) / 333)).toBe(334);
    expect(nextOps(2, SAMPLE_NS * 1000)).toBe(2);
    expect(nextOps(2, 1)).toBe(20);
    expect(nextOps(MAX_OPS, 1)).toBe(MAX_OPS);
    expect(nextOps(100, 0)).toBe(1000);
  });
});

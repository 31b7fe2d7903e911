import { describe, expect, test } from 'vitest';
import { CLASS_LC } from '../../arbiter/abi/layout.gen.ts';
import { N_ACTIVE, N_CORES, N_IN_FLIGHT, N_SLICED, N_STALE } from '../../arbiter/loop/state.ts';
import { COUNTERS, S_RECORDS } from '../../arbiter/loop/stats.ts';
import { warmUp } from '../../arbiter/loop/warmup.ts';
import { readRecords } from '../../arbiter/observe/explain.ts';
import { World } from './world.ts';

function warm(w: World, rounds: number): void {
  // The clock has to go on: ages and delays decide what the policy does.
  const now = w.mem.clock.now.bind(w.mem.clock);
  (w.mem.clock as { now: () => void }).now = () => {
    w.time += 700;
    now();
  };
  warmUp(w.mem, w.state, w.turn, { rounds, vms: 11, cores: 5 });
  (w.mem.clock as { now: () => void }).now = now;
}

function live(w: World): void {
  // Other pages, as the arbiter's main thread would put there.
  w.table.fill(0);
  w.bridge.claim(1, 0, w.cores);
  w.turn.cores.manage(w.cores);
}

describe('warm-up', () => {
  test('takes every kind of command, every kind of failure and the guard along', () => {
    const w = new World();
    // What it did is counted until it is over and forgotten; a counter array of its own keeps it.
    const seen = new Set<string>();
    const { counters } = w.stats;
    const chunk = w.turn.chunk.bind(w.turn);
    (w.turn as { chunk: (n: number) => void }).chunk = (n) => {
      chunk(n);
      COUNTERS.forEach((name, i) => counters[i] > 0 && seen.add(name));
    };
    warm(w, 4000);
    for (const name of [
      'grants',
      'moves',
      'parks',
      'heirs',
      'busy',
      'owner_changed',
      'in_flight',
      'dead',
      'edits',
      'preempts',
      'invalid',
      'offline',
    ]) {
      expect([...seen], name).toContain(name);
    }
  });

  test('leaves nothing behind', () => {
    const w = new World();
    w.vm(0);
    w.queue(0, 0, 1);
    w.run(3);
    const before = readRecords(w.stats, 100);
    expect(before.length).toBeGreaterThan(0);
    warm(w, 500);
    expect(w.state.n[N_CORES]).toBe(0);
    expect(w.state.n[N_STALE]).toBe(0);
    expect(w.state.n[N_SLICED]).toBe(0);
    expect(w.state.n[N_IN_FLIGHT]).toBe(0);
    expect([...w.stats.counters].every((count) => count === 0)).toBe(true);
    expect([...w.stats.view.vmCores].every((count) => count === 0)).toBe(true);
    expect([...w.state.vmSpan].every((count) => count === 0)).toBe(true);
    expect([...w.state.vmBusyCores].every((count) => count === 0)).toBe(true);
    expect(w.stats.words[S_RECORDS]).toBe(before.length);
    expect(readRecords(w.stats, 100)).toEqual(before);
    expect(w.arena.every((word) => word === 0)).toBe(true);
  });

  test('the loop does its work afterwards', () => {
    const w = new World([1]);
    warm(w, 1000);
    live(w);
    expect(w.state.n[N_ACTIVE]).toBe(0);
    w.vm(7, { vmClass: CLASS_LC });
    w.vm(8);
    w.queue(8, 0, 3);
    w.run(100);
    expect(w.owner(1)).toBe(8);
    w.ring(7, 1);
    w.run(3);
    w.leave(1);
    expect(w.owner(1)).toBe(7);
  });
});

/** `--idle adaptive`: the loop rests when nothing is active, never past what may happen, and not otherwise. */
import { describe, expect, it } from 'vitest';
import {
  W_SUMMARY_FLAGS,
  W_SUMMARY_NEXT_TIMER,
  SUMMARY_BOOTED,
  SUMMARY_TIMER,
} from '../../arbiter/abi/layout.gen.ts';
import { summaryBase } from '../../arbiter/bridge/words.ts';
import { makeIdle } from '../../arbiter/loop/idle.ts';
import { summarize } from '../../arbiter/loop/histogram.ts';
import { N_LOADS } from '../../arbiter/loop/state.ts';
import { histogramOf } from '../../arbiter/loop/stats.ts';
import { World } from './world.ts';

const MAX_US = 800;

/** A world whose loop rests: `rests` has how long each was, in microseconds of the world's own time. */
function resting(maxUs = MAX_US): { world: World; rests: number[]; chunks: (n: number) => void } {
  const world = new World([1, 2]);
  const rests: number[] = [];
  const wait = (ms: number): void => {
    rests.push(Math.round(ms * 1000));
    world.time += ms * 1e6;
  };
  const idle = makeIdle(world.mem, world.state, maxUs, wait, () => world.time / 1e6);
  const chunks = (n: number): void => {
    for (let i = 0; i < n; i++) {
      world.run(4);
      if (idle.rest() !== 0) world.turn.rested();
    }
  };
  return { world, rests, chunks };
}

function setTimer(world: World, slot: number, inUs: number): void {
  const at = summaryBase(slot);
  world.arena[at + W_SUMMARY_FLAGS] = SUMMARY_BOOTED | SUMMARY_TIMER;
  world.arena[at + W_SUMMARY_NEXT_TIMER] = world.stamp(-inUs);
  world.arena[at]++;
}

describe('an idle loop', () => {
  it('rests longer and longer while all VMs are dormant, never longer than it may', () => {
    const { world, rests, chunks } = resting();
    world.vm(0);
    world.vm(1);
    chunks(20);
    expect(rests.length).toBeGreaterThan(6);
    expect(rests.slice(0, 6)).toEqual([50, 100, 200, 400, 800, 800]);
    expect(Math.max(...rests)).toBe(MAX_US);
    expect(world.counter('rests')).toBe(rests.length);
    expect(world.counter('resting_ns')).toBeCloseTo(rests.reduce((a, b) => a + b) * 1000, -1);
  });

  it('does not rest before it was quiet for a while', () => {
    const { world, rests, chunks } = resting();
    world.vm(0);
    chunks(7);
    expect(rests).toEqual([]);
    chunks(1);
    expect(rests).toEqual([50]);
  });

  it('never rests if it is to spin', () => {
    const { world, rests, chunks } = resting(0);
    world.vm(0);
    chunks(50);
    expect(rests).toEqual([]);
  });

  it('does not rest while a VM has a core, and begins anew with short rests afterwards', () => {
    const { world, rests, chunks } = resting();
    const vm = world.vm(0);
    chunks(15);
    rests.length = 0;
    world.queue(vm, 0, 3, 50);
    chunks(20);
    expect(world.owner(1)).toBe(vm);
    expect(rests).toEqual([]);
    world.queue(vm, 0, 0);
    while (world.leave(1) || world.leave(2));
    chunks(12);
    expect(rests.slice(0, 2)).toEqual([50, 100]);
  });

  it('does not rest while somebody wants something that it cannot have', () => {
    const { world, rests, chunks } = resting();
    // It is booting and all cores are somebody else's by order of the test: it wants one.
    world.vm(0, { booted: false });
    chunks(30);
    expect(rests).toEqual([]);
  });

  it('does not rest while a load is armed', () => {
    const { world, rests, chunks } = resting();
    world.vm(0);
    world.state.n[N_LOADS] = 1;
    chunks(30);
    expect(rests).toEqual([]);
  });

  it('is back before the timer of a dormant VM is due, and serves it', () => {
    const { world, rests, chunks } = resting();
    const vm = world.vm(0);
    chunks(20);
    rests.length = 0;
    setTimer(world, vm, 300);
    const due = world.time + 300_000;
    while (world.time < due) {
      const left = (due - world.time) / 1000;
      const before = rests.length;
      chunks(1);
      if (rests.length > before) expect(rests.at(-1)).toBeLessThanOrEqual(left);
    }
    chunks(2);
    expect(rests.length).toBeGreaterThan(0);
    expect(world.owner(1) === vm || world.owner(2) === vm).toBe(true);
  });

  it('takes no rest for a gap or a turn', () => {
    const { world, rests, chunks } = resting();
    world.vm(0);
    chunks(30);
    expect(rests.length).toBeGreaterThan(0);
    // A turn is a microsecond here, so whatever is longer would be a rest.
    expect(summarize(histogramOf(world.stats, 'gap_ns')).n).toBe(0);
    expect(summarize(histogramOf(world.stats, 'turn_ns')).max).toBeLessThan(2000);
  });
});

import { expect, test } from 'vitest';
import { random } from '../../bench/load/random.ts';
import { Timers } from './timers.ts';

test('timers come in the order of their times, whatever was set, moved and cancelled before', () => {
  const draw = random(7, 0);
  const timers = new Timers(200);
  const expected = new Map<number, number>();
  const pick = (n: number): number => Math.floor(draw() * n);
  for (let round = 0; round < 20_000; round++) {
    const timer = pick(200);
    if (pick(4) === 0) {
      timers.cancel(timer);
      expected.delete(timer);
    } else {
      // Few different times, so that many are equal.
      const when = pick(50);
      timers.set(timer, when);
      expected.set(timer, when);
    }
    const first = [...expected].sort(([a, x], [b, y]) => x - y || a - b).at(0);
    expect(timers.first).toBe(first?.[0] ?? -1);
    if (first !== undefined && pick(3) === 0) {
      timers.cancel(first[0]);
      expected.delete(first[0]);
    }
  }
  const order: number[] = [];
  for (; timers.first >= 0; timers.cancel(timers.first)) order.push(timers.when[timers.first]);
  expect(order).toEqual([...expected.values()].sort((a, b) => a - b));
});

import { describe, expect, it } from 'vitest';
import { agree } from '../../bench/loop/agree.ts';
import { Stage } from '../../bench/loop/stage.ts';

describe('the C twin of the loop', () => {
  const stage = new Stage(16);

  it.each([1, 2, 3, 4])('decides as the TypeScript loop does in random worlds (seed %i)', (seed) => {
    const result = agree(stage, { worlds: 40, turns: 100, seed });
    expect(result.difference).toBeUndefined();
    expect(result.turns).toBe(4000);
    // Worlds in which nothing is decided would prove nothing.
    expect(result.commands).toBeGreaterThan(1000);
  });

  it.each(['x86-64-v4', 'x86-64-v3', 'x86-64'])('does so compiled for %s', (level) => {
    // A CPU without the level cannot run it; the next one down is what is measured there.
    if (!stage.twin.useLevel(level)) return;
    expect(agree(stage, { worlds: 20, turns: 100, seed: 5 }).difference).toBeUndefined();
  });

  it('would be caught if it decided otherwise', () => {
    // A twin with other parameters is another policy.
    const { configure: honest } = stage.twin;
    stage.twin.configure = (times) => honest(times.map((time, i) => (i === 0 ? time + 1000 : time)));
    try {
      expect(agree(stage, { worlds: 20, turns: 100 }).difference).toMatch(/TypeScript/);
    } finally {
      stage.twin.configure = honest;
    }
  });
});

/**
 * The words of a command stand in four places: flux_handoff.h, the crate handoff, the
 * addon's wrapper (which compares itself with the header when it is loaded) and the
 * arbiter's bridge interface. This keeps the others from drifting.
 */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import * as arbiter from '../../arbiter/bridge/bridge.ts';
import * as native from '../../native/index.ts';

const isConstant = (name: string): boolean => /^(CMD|OP|FLAG)_/.test(name);
const constants = (module: object): Record<string, number> =>
  Object.fromEntries(
    Object.entries(module).filter(([name, value]) => isConstant(name) && typeof value === 'number'),
  );

describe('the words of a command', () => {
  const checked = constants(native);

  test('the arbiter has them as the addon does', () => {
    // CMD_SHIFT is the arbiter's own, for indexing the batch.
    const { CMD_SHIFT, ...words } = constants(arbiter);
    expect(words).toEqual(checked);
    expect(1 << CMD_SHIFT).toBe(checked.CMD_WORDS);
    expect(Object.keys(checked).length).toBeGreaterThan(10);
  });

  test('the crate handoff has them as the addon does', () => {
    const source = readFileSync(new URL('../../vmm/handoff/src/bridge.rs', import.meta.url), 'utf8');
    const found: Record<string, number> = {};
    for (const [, name, value] of source.matchAll(/^(?:pub )?const ([A-Z_]+): (?:usize|i32) = (\d+);$/gm)) {
      const known = name === 'COMMAND_WORDS' ? 'CMD_WORDS' : isConstant(name) ? name : `CMD_${name}`;
      found[known] = Number(value);
    }
    expect(found).toEqual(checked);
  });
});

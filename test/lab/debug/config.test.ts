import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { dropped, parseConfig } from './config.ts';

const fragment = readFileSync(new URL('debug.config', import.meta.url), 'utf8');

test('what Kconfig changed or left out is named; an option it does not show is off', () => {
  const wanted = 'CONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\n# CONFIG_D is not set\n';
  expect(dropped(wanted, 'CONFIG_A=y\nCONFIG_B=y\n# CONFIG_C is not set\n')).toEqual(['CONFIG_B=m became y']);
  expect(dropped('CONFIG_A=y\n', '')).toEqual(['CONFIG_A=y became unknown or invisible']);
});

test('the fragment says everything once, and has the checkers that the suite relies on', () => {
  const lines = fragment.split('\n').filter((line) => /^(# )?CONFIG_/.test(line));
  const config = parseConfig(fragment);
  expect(lines).toHaveLength(config.size);
  for (const name of ['KASAN', 'PROVE_LOCKING', 'PROVE_RCU', 'DEBUG_ATOMIC_SLEEP', 'DEBUG_KMEMLEAK'])
    expect(config.get(`CONFIG_${name}`)).toBe('y');
});

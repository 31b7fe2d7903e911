/** `hyperflux kmod` as a user runs it, on whatever machine this is. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Cli } from './run.ts';

let cli: Cli;
beforeAll(() => void (cli = new Cli()));
afterAll(() => cli.end());

const PARTS = ['build', 'install', 'uninstall', 'load', 'unload', 'status'];

describe('help', () => {
  test('names every part', async () => {
    const { out } = await cli.run('kmod', '--help');
    for (const part of PARTS) expect(out).toMatch(new RegExp(`^  ${part}\\b`, 'm'));
  });

  test.each(PARTS)('of %s has examples and --json', async (part) => {
    const { code, out } = await cli.run('kmod', part, '--help');
    expect(code).toBe(0);
    expect(out).toContain('--json');
    expect(out).toMatch(new RegExp(`\\$ .*hyperflux kmod ${part}`));
  });
});

test.each([
  ['no part', []],
  ['an unknown part', ['lode']],
  ['an unknown option', ['build', '--frob']],
  ['an extra argument', ['status', 'now']],
  ['both kinds of build', ['build', '--kernel', '6.1.0', '--all-headers']],
])('wrong usage, %s: exit code 2', async (_name, args) => {
  const { code, out, err } = await cli.run('kmod', ...args);
  expect([code, out]).toEqual([2, '']);
  expect(err).toMatch(/^hyperflux: .+\n/);
});

test('status, as text and as JSON', async () => {
  const status = await cli.json('kmod', 'status');
  expect(status).toMatchObject({
    schema: 1,
    kernel: expect.stringMatching(/^\d+\.\d+/) as string,
    module: { loaded: expect.any(Boolean) as boolean },
    clone: { version: expect.any(String) as string, abi: expect.any(String) as string },
    usable: { usable: expect.any(Boolean) as boolean, why: expect.stringMatching(/./) as string },
    security: { lockdown: expect.any(String) as string },
  });
  expect((await cli.run('kmod', 'status')).out).toMatch(/^module +kflux: /);
});

test('a dry run changes nothing and says what would be', async () => {
  const { steps } = (await cli.json('kmod', 'install', '--dry-run')) as {
    steps: { what: string; state: string }[];
  };
  expect(steps.map(({ what }) => what).join()).toMatch(/60-hyperflux\.rules.*group hyperflux/);
  expect(steps.some(({ state }) => state === 'done')).toBe(false);
});

test('errors as JSON have a reason and a hint', async () => {
  const { code, error } = await cli.error('kmod', 'build', '--kernel', '5.10.0');
  expect(code).toBe(1);
  expect(error).toMatchObject({ code: 'failed', message: expect.stringContaining('too old') as string });
  expect(error.hint).not.toBe('');
});

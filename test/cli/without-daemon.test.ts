/** What the command line says when nothing runs, or when it is used wrongly. */
import { mkdirSync, writeFileSync } from 'node:fs';
import type { Server } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ControlError } from '../../arbiter/control/protocol.ts';
import { serve } from '../../arbiter/control/server.ts';
import { Cli } from './run.ts';

let cli: Cli;
beforeAll(() => void (cli = new Cli()));
afterAll(() => cli.end());

const COMMANDS = [
  'start',
  'run',
  'ps',
  'stop',
  'status',
  'explain',
  'record',
  'doctor',
  'demo',
  'bench',
  'kmod',
  'policy',
  'hint',
];

describe('help', () => {
  test('of the program names every command, shows examples, and the exit codes', async () => {
    const { code, out, err } = await cli.run('--help');
    expect([code, err]).toEqual([0, '']);
    for (const command of COMMANDS) expect(out).toMatch(new RegExp(`^  ${command}\\b`, 'm'));
    expect(out).toContain('Examples:');
    expect(out).toContain(
      '0 ok, 1 failed, 2 wrong usage, 3 the daemon is not running, 4 versions do not match, 5 permission denied',
    );
  });

  test.each(COMMANDS)('of %s has examples and --json', async (command) => {
    const { code, out } = await cli.run(command, '--help');
    expect(code).toBe(0);
    expect(out).toContain('--json');
    expect(out).toContain(`$ hyperflux ${command}`);
  });

  test('version', async () => {
    expect((await cli.run('--version')).out).toMatch(/^\d+\.\d+\.\d+\n$/);
  });
});

describe('wrong usage: exit code 2, what was wrong, and what to do', () => {
  test.each([
    ['no command', []],
    ['unknown command', ['frob']],
    ['unknown option', ['ps', '--frob']],
    ['unknown option of the program', ['--frob']],
    ['missing argument', ['run', '--workload', 'serve']],
    ['missing option', ['run', 'web']],
    ['unknown workload', ['run', 'web', '--workload', 'srve']],
    ['unknown class', ['run', 'web', '--workload', 'serve', '--class', 'urgent']],
    ['too many vCPUs', ['run', 'web', '--workload', 'serve', '--vcpus', '17']],
    ['a number that is none', ['run', 'web', '--workload', 'serve', '--vcpus', 'two']],
    ['neither VM nor --all', ['stop']],
    ['both', ['stop', 'web', '--all']],
    ['unknown benchmark', ['bench', 'nothing']],
    ['cores that are none', ['start', '--cores', 'one']],
    ['cores backwards', ['start', '--cores', '3-1']],
    ['a parameter without a value', ['start', '--param', 'threshold_us']],
    ['a parameter that the policy does not have', ['start', '--policy-params', 'slice_us=5']],
    ['no such policy', ['start', '--policy', 'fairest']],
    ['no such limit of the guard', ['start', '--guard', 'moves=5']],
    ['a policy of rules without rules', ['start', '--policy', 'classes']],
    ['rules for a policy that has none', ['start', '--policy-params', 'rules=rules.toml']],
    ['rules that are not there', ['start', '--policy', 'classes', '--policy-params', 'rules=/nowhere.toml']],
    ['a hint without cores', ['hint', 'web']],
    ['a hint for a time without a unit', ['hint', 'web', '--cores', '2', '--for', '20']],
    ['extra argument', ['status', 'now']],
    ['seconds that are none', ['demo', '--seconds', 'long']],
  ])('%s', async (_name, args) => {
    const { code, out, err } = await cli.run(...args);
    expect(code).toBe(2);
    expect(out).toBe('');
    expect(err).toMatch(/^hyperflux: .+\n/);
  });

  test.each([[['ps', '--frob']], [['stop']], [['frob']]])('%j, as JSON', async (args) => {
    const { code, error } = await cli.error(...args);
    expect(code).toBe(2);
    expect(error).toMatchObject({
      code: 'usage',
      message: expect.stringMatching(/./) as string,
      hint: expect.any(String) as string,
    });
  });

  test('a typo is answered with what was probably meant', async () => {
    expect((await cli.run('stauts')).err).toContain('status');
    expect((await cli.run('run', 'web', '--worklaod', 'serve')).err).toContain('--workload');
  });

  test('rules that are wrong are told with file and line', async () => {
    const file = join(cli.dir, 'rules.toml');
    mkdirSync(cli.dir, { recursive: true });
    writeFileSync(file, '[[class]]\nname = "web"\nprio = 3\n');
    const { code, err } = await cli.run('start', '--policy', 'classes', '--policy-params', `rules=${file}`);
    expect(code).toBe(2);
    expect(err).toContain(`${file}:3: a class has no prio`);
    expect(err).toContain('docs/policies.md');
  });

  test('the parameters that the policy has are named, with their defaults', async () => {
    const { err } = await cli.run('start', '--policy', 'fair-share', '--policy-params', 'slice=5');
    expect(err).toMatch(/slice_us \(1000\), tenure_us \(50\)/);
  });

  test('the workloads that there are are named', async () => {
    expect((await cli.run('run', 'web', '--workload', 'srve')).err).toMatch(/serve.*batch.*probe/);
  });
});

describe('policy list', () => {
  test('shows each policy with its version, what it is for, and its parameters', async () => {
    const { code, out } = await cli.run('policy', 'list');
    expect(code).toBe(0);
    expect(out).toMatch(/^delay 1\.0\.0: cores follow queueing delay/m);
    expect(out).toMatch(/^ {4}slice_us +1000 {2}\S/m);
    expect(out).toContain('rules=FILE');
    const { policies } = (await cli.json('policy', 'list')) as {
      policies: { name: string; params: object[] }[];
    };
    expect(policies.map(({ name }) => name)).toEqual(
      expect.arrayContaining([
        'static',
        'delay',
        'proactive',
        'utilization',
        'fair-share',
        'slo',
        'ias-lite',
        'chaos',
        'classes',
      ]),
    );
    expect(policies.find(({ name }) => name === 'chaos')!.params).toContainEqual(
      expect.objectContaining({ name: 'every_us', default: 100, min: 0 }),
    );
  });
});

describe('no daemon: exit code 3', () => {
  test.each([
    'ps',
    'status',
    'stop --all',
    'stop web',
    'explain',
    'run web --workload serve',
    'hint web --cores 1',
  ])('%s', async (command) => {
    const { code, err } = await cli.run(...command.split(' '));
    expect(code).toBe(3);
    expect(err).toContain('not running');
    expect(err).toContain('hyperflux start');
  });

  test('as JSON', async () => {
    expect(await cli.error('ps')).toMatchObject({ code: 3, error: { code: 'not-running' } });
  });
});

describe('a daemon that refuses', () => {
  let server: Server | undefined;
  const refuseWith = async (error: ControlError): Promise<void> => {
    mkdirSync(cli.dir, { recursive: true });
    server = await serve({
      path: join(cli.dir, 'control.sock'),
      handler: async () => {
        throw error;
      },
    });
  };
  const close = (): Promise<void> => new Promise((resolve) => void server?.close(() => resolve()));

  test('permission: exit code 5', async () => {
    await refuseWith(new ControlError('permission', 'you may not', 'ask somebody'));
    const { code, err } = await cli.run('ps');
    expect(code).toBe(5);
    expect(err).toBe('hyperflux: you may not\nask somebody\n');
    await close();
  });

  test('version: exit code 4', async () => {
    await refuseWith(new ControlError('version', 'too old'));
    expect((await cli.run('ps')).code).toBe(4);
    await close();
  });

  test('anything else: exit code 1', async () => {
    await refuseWith(new ControlError('start-failed', 'it did not start'));
    expect((await cli.error('run', 'web', '--workload', 'serve')).code).toBe(1);
    await close();
  });

  test('nonsense on the socket is an error, not a crash', async () => {
    const { createServer } = await import('node:net');
    const nonsense = createServer((socket) => {
      socket.resume();
      socket.end('HTTP/1.1 400 Bad Request\r\n\r\n');
    });
    await new Promise<void>((resolve) => void nonsense.listen(join(cli.dir, 'control.sock'), resolve));
    const { code, err } = await cli.run('ps');
    expect(code).toBe(1);
    expect(err).toMatch(/^hyperflux: /);
    expect(err).not.toMatch(/^\s+at /m);
    await new Promise((resolve) => nonsense.close(resolve));
  });
});

describe('doctor', () => {
  test('says of each check whether it is ok and what to do if not', async () => {
    const { code, out } = await cli.run('doctor', '--json');
    const diagnosis = JSON.parse(out) as {
      ok: boolean;
      checks: Record<string, string>[];
      ways: Record<string, string>[];
    };
    expect(code).toBe(diagnosis.ok ? 0 : 1);
    expect(diagnosis.ways.map(({ name }) => name)).toEqual(['full', 'unprivileged', 'hosted', 'lab']);
    for (const { name, level, text, next } of [...diagnosis.checks, ...diagnosis.ways]) {
      expect(['ok', 'warn', 'fail'], name).toContain(level);
      expect(text, name).not.toBe('');
      if (level === 'fail') expect(next, name).not.toBe('');
    }
  });

  test('finds what is not built', async () => {
    process.env.HYPERFLUX_FLUXION = '/nonexistent/fluxion';
    process.env.HYPERFLUX_IMAGE = join(cli.dir, 'not-elf');
    writeFileSync(process.env.HYPERFLUX_IMAGE, 'x'.repeat(100));
    try {
      const { out } = await cli.run('doctor', '--json');
      const { checks } = JSON.parse(out) as { checks: Record<string, string>[] };
      const of = (name: string): Record<string, string> => checks.find((check) => check.name === name) ?? {};
      expect(of('fluxion')).toMatchObject({
        level: 'fail',
        text: expect.stringContaining('/nonexistent/fluxion') as string,
      });
      expect(of('image')).toMatchObject({
        level: 'fail',
        text: expect.stringContaining('not a 64-bit ELF file') as string,
      });
    } finally {
      delete process.env.HYPERFLUX_FLUXION;
      delete process.env.HYPERFLUX_IMAGE;
    }
  });
});

/** However a run ends, what it started is undone, in reverse order and once. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, expect, test } from 'vitest';
import type { Interrupted } from '../../bench/demo/cleanup.ts';
import {
  Cleanup,
  endProcess,
  killAll,
  knownProcess,
  processesOf,
  startTime,
  until,
  withCleanup,
} from '../../bench/demo/cleanup.ts';

describe('what is written down', () => {
  test('is undone in reverse order, once', async () => {
    const log: string[] = [];
    const cleanup = new Cleanup();
    for (const name of ['a', 'b', 'c']) cleanup.add(name, () => void log.push(name));
    expect(await cleanup.run()).toEqual([]);
    expect(await cleanup.run()).toEqual([]);
    cleanup.runAtOnce();
    expect(log).toEqual(['c', 'b', 'a']);
  });

  test('can be undone early', async () => {
    const log: string[] = [];
    const cleanup = new Cleanup();
    const early = cleanup.add('early', () => void log.push('early'));
    cleanup.add('late', async () => void log.push('late'));
    await early();
    await early();
    await cleanup.run();
    expect(log).toEqual(['early', 'late']);
  });

  test('is undone even if something before it fails', async () => {
    const log: string[] = [];
    const cleanup = new Cleanup();
    cleanup.add('first', () => void log.push('first'));
    cleanup.add(
      'second',
      () => Promise.reject(new Error('will not')),
      () => void log.push('second, at once'),
    );
    expect(await cleanup.run()).toEqual(['second: will not']);
    expect(log).toEqual(['second, at once', 'first']);
  });

  test('is undone without waiting if there is no time', () => {
    const log: string[] = [];
    const cleanup = new Cleanup();
    cleanup.add(
      'a',
      () => void log.push('slow a'),
      () => void log.push('a'),
    );
    cleanup.add('b', () => void log.push('slow b'));
    cleanup.add(
      'c',
      () => undefined,
      () => {
        throw new Error('no');
      },
    );
    cleanup.runAtOnce();
    expect(log).toEqual(['a']);
  });
});

describe('a run that is over', () => {
  test('starts nothing any more: what comes too late is undone at once', async () => {
    const log: string[] = [];
    const cleanup = new Cleanup();
    cleanup.check();
    cleanup.close(new Error('over'));
    cleanup.close(new Error('over again'));
    expect(() => cleanup.check()).toThrow(/^over$/);
    const late = (): unknown =>
      cleanup.add(
        'late',
        () => void log.push('slow'),
        () => void log.push('at once'),
      );
    expect(late).toThrow(/^over$/);
    expect(await cleanup.run()).toEqual([]);
    expect(log).toEqual(['at once']);
  });
});

describe('a run', () => {
  test('gives its value and cleans up', async () => {
    const log: string[] = [];
    const result = await withCleanup(async (cleanup) => {
      cleanup.add('x', () => void log.push('undone'));
      return 7;
    });
    expect(result).toEqual({ value: 7, failures: [] });
    expect(log).toEqual(['undone']);
  });

  test('that fails cleans up, and says what could not be undone', async () => {
    const run = withCleanup(async (cleanup) => {
      cleanup.add('the directory', () => {
        throw new Error('busy');
      });
      throw new Error('broken');
    });
    await expect(run).rejects.toThrow('broken; besides, not everything could be undone: the directory: busy');
  });

  test('that is stopped by a signal cleans up and tells which', async () => {
    const log: string[] = [];
    const listeners = process.listenerCount('SIGTERM');
    const run = withCleanup(async (cleanup, stopped) => {
      cleanup.add('x', () => void log.push('undone'));
      // As the signal would: the test's process must not get a real one.
      process.emit('SIGTERM', 'SIGTERM');
      try {
        return await stopped;
      } finally {
        // Whatever the body still has to do on its way out comes before the cleanup.
        await new Promise((resolve) => setTimeout(resolve, 5));
        log.push('end of the body');
      }
    });
    await expect(run).rejects.toMatchObject({ signal: 'SIGTERM' } satisfies Partial<Interrupted>);
    expect(log).toEqual(['end of the body', 'undone']);
    expect(process.listenerCount('SIGTERM')).toBe(listeners);
  });
});

describe('a process', () => {
  const start = (script: string): ReturnType<typeof spawn> =>
    spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'ignore'] });

  test('is known by its number and its start', async () => {
    const child = start("setInterval(() => {}, 1000); console.log('up')");
    await once(child.stdout!, 'data');
    const known = knownProcess(child.pid!);
    expect(known.alive()).toBe(true);
    await endProcess(known);
    expect(known.alive()).toBe(false);
    expect(startTime(child.pid!)).toBeUndefined();
    // A number that is nobody's any more is nobody's to kill.
    known.kill('SIGKILL');
  });

  test('that does not want to end is killed', async () => {
    const child = start("process.on('SIGTERM', () => {}); setInterval(() => {}, 1000); console.log('up')");
    await once(child.stdout!, 'data');
    const exit = once(child, 'exit');
    await endProcess(knownProcess(child.pid!), 50);
    expect((await exit)[1]).toBe('SIGKILL');
  });

  test('is found by the directory that it was started for', async () => {
    const mark = `/nowhere/${process.pid}-${Date.now()}`;
    const child = spawn(process.execPath, ['-e', "setInterval(() => {}, 1000); console.log('up')", mark]);
    await once(child.stdout, 'data');
    const exit = once(child, 'exit');
    expect(processesOf(mark).map((known) => known.pid)).toEqual([child.pid]);
    killAll(mark);
    expect((await exit)[1]).toBe('SIGKILL');
    expect(processesOf(mark)).toEqual([]);
    killAll(mark);
  });

  test('that never was is not alive', () => {
    // Above the kernel's largest pid.
    expect(knownProcess(2 ** 22 + 1).alive()).toBe(false);
  });
});

test('waiting ends when the condition holds, or with the time', async () => {
  let looks = 0;
  expect(await until(() => ++looks > 2, 10_000, 1)).toBe(true);
  expect(await until(() => false, 1, 1)).toBe(false);
});

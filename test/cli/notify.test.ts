/** The daemon under a service manager: `start --foreground` with a socket that listens to what it says. */
import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { Manager } from '../../native/test/manager.ts';
import { listen } from '../../native/test/manager.ts';

const main = fileURLToPath(new URL('../../arbiter/cli/main.ts', import.meta.url));

async function cannot(): Promise<string> {
  try {
    const { getAffinity } = await import('../../native/index.ts');
    return getAffinity(0).length < 2 ? 'it needs two cores' : '';
  } catch (error) {
    return `the addon: ${(error as Error).message}`;
  }
}

const why = await cannot();

describe.skipIf(why !== '')(`a service${why === '' ? '' : `, not run: ${why}`}`, () => {
  const folder = mkdtempSync(join(tmpdir(), 'hf-notify-'));
  let manager: Manager;
  let daemon: ChildProcess | undefined;

  beforeAll(async () => void (manager = await listen(folder, join(folder, 'notify'))));
  afterEach(async () => {
    if (daemon === undefined || daemon.exitCode !== null || daemon.signalCode !== null) return;
    const gone = once(daemon, 'exit');
    daemon.kill('SIGKILL');
    await gone;
  });
  afterAll(() => {
    manager.close();
    rmSync(folder, { recursive: true, force: true });
  });

  function start(environment: Record<string, string>): ChildProcess {
    const env = { ...process.env, NODE_OPTIONS: '', HYPERFLUX_RUN: join(folder, 'run'), ...environment };
    daemon = spawn(process.execPath, [main, 'start', '--foreground', '--no-cpuset'], {
      env: { ...env, NOTIFY_SOCKET: join(folder, 'notify') },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    return daemon;
  }

  test('says ready, feeds the watchdog while the loop turns, and says that it stops', async () => {
    const child = start({ WATCHDOG_USEC: '200000' });
    const ready = await manager.until('READY=1');
    // The main process itself: a manager takes nobody else's word.
    expect(ready.pid).toBe(child.pid);
    expect(ready.lines.join()).toMatch(/STATUS=arbiter live on core \d+, managed cores/);
    expect((await manager.until('WATCHDOG=1')).pid).toBe(child.pid);

    // Children have nothing to tell: the arbiter does not even know of the socket.
    const arbiter = Number(readFileSync(join(folder, 'run', 'arbiter.lock'), 'utf8'));
    expect(readFileSync(`/proc/${arbiter}/environ`, 'latin1')).not.toMatch(/NOTIFY_SOCKET|WATCHDOG/);

    // An arbiter that stands still is no life, even if the daemon is well.
    process.kill(arbiter, 'SIGSTOP');
    await manager.until(/^STATUS=.*does not turn/);
    // The daemon replaces it, and the new one's turns count.
    const before = manager.messages.length;
    await manager.untilAfter(before, 'WATCHDOG=1');

    const gone = once(child, 'exit');
    child.kill('SIGTERM');
    await manager.until('STOPPING=1');
    expect(await gone).toEqual([0, null]);
  });

  test('is not watched where the manager watches somebody else', async () => {
    const from = manager.messages.length;
    const child = start({ WATCHDOG_USEC: '50000', WATCHDOG_PID: '1' });
    await manager.untilAfter(from, 'READY=1');
    const gone = once(child, 'exit');
    child.kill('SIGINT');
    await manager.untilAfter(from, 'STOPPING=1');
    await gone;
    expect(manager.messages.slice(from).flatMap(({ lines }) => lines)).not.toContain('WATCHDOG=1');
  });

  test('cannot start: an exit code and a reason, and no word of being ready', async () => {
    const from = manager.messages.length;
    const child = start({ HYPERFLUX_RUN: `/tmp/${'x'.repeat(200)}` });
    expect((await once(child, 'exit'))[0]).toBe(2);
    expect(manager.messages.length).toBe(from);
  });
});

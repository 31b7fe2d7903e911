/** What the daemon tells its service manager, and when the watchdog is fed. */
import { afterEach, describe, expect, test, vi } from 'vitest';
import type { LoopProgress } from '../../arbiter/control/notify.ts';
import { makeWatch, Notifier, takeTarget } from '../../arbiter/control/notify.ts';

describe('what the environment asks for', () => {
  test('nothing', () => {
    expect(takeTarget({ PATH: '/bin' }, 5)).toBeUndefined();
    expect(takeTarget({ NOTIFY_SOCKET: '' }, 5)).toBeUndefined();
  });

  test.each(['vsock:2:99', 'notify', '/', '@'])('%s is no socket that can be written to', (socket) =>
    expect(takeTarget({ NOTIFY_SOCKET: socket }, 5)).toBeUndefined(),
  );

  test('a socket and a watchdog; both are taken out of the environment', () => {
    const env = {
      NOTIFY_SOCKET: '/run/systemd/notify',
      WATCHDOG_USEC: '30000000',
      WATCHDOG_PID: '5',
      PATH: '/bin',
    };
    expect(takeTarget(env, 5)).toEqual({ socket: '/run/systemd/notify', watchdogUs: 30_000_000 });
    expect(env).toEqual({ PATH: '/bin' });
  });

  test.each([
    ['6', '1000', 0],
    ['', '1000', 1000],
    ['5', 'often', 0],
    ['5', '-1', 0],
    ['5', '', 0],
  ])('process 5, WATCHDOG_PID %j, WATCHDOG_USEC %j: %i', (pid, usec, us) => {
    const env = { NOTIFY_SOCKET: '@x', WATCHDOG_USEC: usec, WATCHDOG_PID: pid };
    expect(takeTarget(env, 5)?.watchdogUs).toBe(us);
  });
});

describe('the watch', () => {
  const at = (starts: number, turns: number, live = true): LoopProgress => ({ live, starts, turns });

  test('the first look has nothing to compare with', () => expect(makeWatch()(at(1, 100))).toBe(false));

  test('turns that advance, that stand still, that begin again', () => {
    const advanced = makeWatch();
    const seen = [
      ...[at(1, 100), at(1, 200), at(1, 200), at(1, 201)],
      // A new arbiter that has come as far as the old one is another all the same.
      ...[at(2, 201), at(2, 0), at(2, 0)],
    ].map(advanced);
    expect(seen).toEqual([false, true, false, true, true, true, false]);
  });

  test('an arbiter that is not live does not count, whatever it counts', () => {
    const advanced = makeWatch();
    expect([at(1, 1), at(1, 2, false), at(1, 3)].map(advanced)).toEqual([false, false, true]);
  });
});

describe('the notifier', () => {
  afterEach(() => void vi.useRealTimers());

  function make(watchdogUs: number, target: string | undefined = '/run/n') {
    const world = {
      sent: [] as string[],
      warned: [] as string[],
      turns: 0,
      live: true,
      status: 'up',
      broken: false,
    };
    const notifier = new Notifier({
      target: target === undefined || target === '' ? undefined : { socket: target, watchdogUs },
      send: (socket, text) => {
        if (world.broken) throw new Error('gone');
        world.sent.push(`${socket} ${text}`);
      },
      progress: () => ({ live: world.live, starts: 1, turns: world.turns }),
      status: () => world.status,
      warn: (_fields, text) => void world.warned.push(text),
    });
    return { notifier, world };
  }

  test('ready, fed as long as the loop turns, stopping', () => {
    const { notifier, world } = make(1_000_000);
    notifier.ready();
    expect(world.sent.splice(0)).toEqual(['/run/n READY=1\nSTATUS=up']);
    world.turns = 10;
    notifier.look();
    expect(world.sent.splice(0)).toEqual(['/run/n WATCHDOG=1']);
    notifier.look();
    notifier.look();
    expect(world.sent.splice(0)).toEqual(["/run/n STATUS=the arbiter's loop does not turn"]);
    expect(world.warned).toEqual(["the arbiter's loop does not turn: the watchdog is not fed"]);
    world.turns = 20;
    notifier.look();
    expect(world.sent.splice(0)).toEqual(['/run/n WATCHDOG=1\nSTATUS=up']);
    notifier.stopping();
    expect(world.sent[0]).toMatch(/^\/run\/n STOPPING=1\n/);
  });

  test('is fed at half of what the manager waits, from ready to stopping', () => {
    vi.useFakeTimers();
    const { notifier, world } = make(1_000_000);
    expect(notifier.intervalMs).toBe(500);
    notifier.ready();
    for (let i = 0; i < 4; i++) {
      world.turns++;
      vi.advanceTimersByTime(500);
    }
    expect(world.sent.filter((text) => text.endsWith('WATCHDOG=1')).length).toBe(4);
    notifier.stopping();
    world.turns++;
    vi.advanceTimersByTime(5000);
    expect(world.sent.filter((text) => text.endsWith('WATCHDOG=1')).length).toBe(4);
  });

  test('without a watchdog only the status is told, when it is another', () => {
    const { notifier, world } = make(0);
    notifier.ready();
    world.turns++;
    notifier.look();
    expect(world.sent.length).toBe(1);
    world.turns++;
    world.status = 'up, with a VM';
    notifier.look();
    expect(world.sent[1]).toBe('/run/n STATUS=up, with a VM');
    notifier.stopping();
  });

  test('nobody asked: nothing is said', () => {
    const { notifier, world } = make(0, '');
    notifier.ready();
    notifier.stopping();
    expect(world.sent).toEqual([]);
  });

  test('a manager that does not listen is warned of once and does not end the daemon', () => {
    const { notifier, world } = make(1_000_000);
    world.broken = true;
    notifier.ready();
    world.turns++;
    notifier.look();
    expect(world.warned).toEqual(['the service manager could not be told']);
    world.broken = false;
    world.turns++;
    notifier.look();
    expect(world.sent).toEqual(['/run/n WATCHDOG=1']);
    notifier.stopping();
  });
});

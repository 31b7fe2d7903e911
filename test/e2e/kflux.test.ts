/**
 * The whole product over kFlux: daemon, arbiter and VMs in KVM. Who dies, dies by SIGKILL:
 * the VMs go on, whoever comes next finds the world as it is, and no core is lost.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { renderVms } from '../../arbiter/cli/commands/ps.ts';
import { renderStatus } from '../../arbiter/cli/commands/status.ts';
import { kfluxUsable } from '../../arbiter/kmod/usable.ts';
import { kvmTrouble } from '../../arbiter/vm/host.ts';
import { TestDaemon } from './daemon.ts';

const { usable, why: absent } = kfluxUsable();
const why = usable ? kvmTrouble() : absent;
if (why !== '') console.log(`kFlux, end to end: not run: ${why}`);

// A bound for the whole thing in a lab that is slow, and nothing that is measured.
const timeout = 3_600_000;

describe.skipIf(why !== '')('kFlux, end to end', { timeout }, () => {
  let d: TestDaemon;
  /** The one core that is managed. */
  let last: number;

  beforeAll(async () => {
    const { getAffinity } = await import('../../native/index.ts');
    last = getAffinity(0).at(-1)!;
    // One core for all, so that it has to move; a lease that is not lost because the lab stood still for a second.
    d = new TestDaemon({ arbiter_core: getAffinity(0)[0], cores: [last], lease_ms: 20_000, bridge: 'kflux' });
    expect(await d.start()).toMatchObject({ bridge: 'kflux' });
    await d.run('left');
    await d.run('right');
  }, timeout);
  afterAll(() => d.end(), timeout);

  test('a core goes to and fro between two VMs, and kFlux meters it', async () => {
    const status = await d.status();
    expect(status).toMatchObject({
      ...{ bridge: 'kflux', arbiter: { state: 'live', deadline_thread: "none, kFlux's timers" } },
    });
    expect(renderStatus(status)).toMatch(/bridge +kflux \(it was asked for; kFlux \S+ with ABI/);
    await d.moves();
    await d.until('both are metered', async () => {
      const { left, right } = await d.vms();
      return [left, right].every((vm) => vm.granted_us > 0 && vm.used_us > 0);
    });
    await d.progress('left', 'right');
    const all = Object.values(await d.vms());
    for (const vm of all) expect(vm).toMatchObject({ blocked: expect.any(Number) as number, error: '' });
    expect(renderVms(all).split('\n')[0]).toMatch(/FORCED +PREEMPTED +BLOCKED$/);
  });

  test.each(['SIGKILL', 'SIGSTOP'] as const)(
    'the arbiter gets %s: the VMs go on unmanaged, and the next arbiter adopts them',
    async (signal) => {
      const { arbiter } = await d.status();
      const [left, right] = [d.watch('left'), d.watch('right')];
      process.kill(arbiter.pid, signal);
      // The next arbiter warms up for a while; the lease ends at once, or when the heartbeat has stood still.
      await d.until('nobody manages the VMs', () => !left.managed() && !right.managed());
      const before = [left.done(), right.done()];
      await d.until('both go on', () => left.done() !== before[0] && right.done() !== before[1]);
      await d.until('another arbiter is live', async () => {
        const now = (await d.status()).arbiter;
        return now.state === 'live' && now.pid !== arbiter.pid;
      });
      await d.until('both are adopted', async () => {
        const { left, right } = await d.vms();
        return left.managed && right.managed;
      });
      left.close();
      right.close();
      await d.moves();
      await d.progress('left', 'right');
    },
  );

  test('another arbiter takes the lease: ours ends, and the next takes it back', async () => {
    const { arbiter } = await d.status();
    const { closeFd, mapTable, NativeBridge, openAt } = await import('../../native/index.ts');
    const fd = openAt(null, `/proc/${arbiter.pid}/fd/3`);
    const other = NativeBridge.open(mapTable(fd));
    closeFd(fd);
    other.useKflux();
    other.claim(process.pid, 0, [last]);
    await d.until('ours ends', async () => (await d.status()).arbiter.pid !== arbiter.pid);
    await d.until('both are adopted', async () => {
      const { left, right } = await d.vms();
      return left.managed && right.managed;
    });
    expect(() => other.release()).toThrow(/ESTALE|lease/);
    expect((await d.status()).arbiter.epoch).toBeGreaterThan(arbiter.epoch + 1);
    await d.moves();
    await d.progress('left', 'right');
  });

  test('a VM is killed: its core returns, and its slot', async () => {
    const { right } = await d.vms();
    process.kill(right.pid, 'SIGKILL');
    await d.until('it is gone', async () => (await d.vms()).right === undefined);
    await d.until('the other one has the core', async () => (await d.vms()).left.cores === 1);
    await d.progress('left');
    await d.run('right');
    expect((await d.vms()).right.slot).toBe(right.slot);
    await d.moves();
  });

  test('the daemon is killed: the next one finds arbiter, domain and VMs, and starts more', async () => {
    const before = await d.status();
    process.kill(before.pid, 'SIGKILL');
    await d.progress('left', 'right');
    const ready = await d.start({ bridge: 'affinity' });
    expect(ready).toMatchObject({ bridge: 'kflux' });
    expect(ready.bridge_why).toMatch(/2 VMs live on it, so --bridge affinity has to wait/);
    expect((await d.status()).arbiter).toMatchObject({ pid: before.arbiter.pid, state: 'live' });
    await d.run('third');
    await d.progress('third');
    await d.moves();
  });

  test('daemon and arbiter are killed: the VMs keep the domain, and are adopted', async () => {
    const before = await d.status();
    const left = d.watch('left');
    process.kill(before.pid, 'SIGKILL');
    process.kill(before.arbiter.pid, 'SIGKILL');
    for (let managed = true; managed;) managed = left.managed();
    left.close();
    await d.start({ bridge: 'auto' });
    expect(await d.status()).toMatchObject({ bridge: 'kflux' });
    await d.until('all are adopted', async () => {
      const found = Object.values(await d.vms());
      return found.length === 3 && found.every(({ managed }) => managed);
    });
    await d.moves();
    await d.progress('left', 'right', 'third');
  });

  test('without VMs the next daemon may choose another bridge, and then kFlux again', async () => {
    await d.ask('stop-all');
    const { pid, arbiter } = await d.status();
    process.kill(pid, 'SIGKILL');
    expect(await d.start({ bridge: 'affinity' })).toMatchObject({ bridge: 'affinity' });
    expect((await d.status()).arbiter.pid).not.toBe(arbiter.pid);
    await d.run('plain');
    await d.progress('plain');
    expect((await d.vms()).plain).not.toHaveProperty('blocked');
    await d.ask('stop-all');
    process.kill((await d.status()).pid, 'SIGKILL');
    expect(await d.start()).toMatchObject({ bridge: 'kflux' });
    await d.run('again');
    await d.progress('again');
  });
});

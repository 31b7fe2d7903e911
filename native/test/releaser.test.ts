// SPDX-License-Identifier: Apache-2.0
// The releaser against a guest that is written here, on the same pages.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import * as abi from '../../arbiter/abi/layout.gen.ts';
import * as native from '../index.ts';
import { codeOf, until } from './helpers.ts';
import { Load, NEVER, SLOT, setUp, tsc } from './releaser-stage.ts';

test('nothing is published before it is armed and due; what is due arrives as it was laid down', () => {
  const load = new Load([{ due: 0n, service: 1000, fanout: 4 }, { due: 1n, service: 2000 }, { due: NEVER }]);
  const { guest, releaser, section } = setUp(load);
  expect(releaser.poll()).toBe(0);
  expect(section()).toEqual({ tail: 0, depth: 0, oldest: 0, doorbell: 0 });
  const before = tsc();
  load.state = abi.LOAD_ARMED;
  expect(releaser.poll()).toBe(2);
  expect(load.state).toBe(abi.LOAD_RUNNING);
  expect(load.start).toBeGreaterThanOrEqual(before);
  expect(releaser.poll()).toBe(0);
  expect(guest.tail).toBe(2);
  // newTable says that stamps are TSC >> 6.
  expect(section()).toEqual({
    tail: 2,
    depth: 2,
    oldest: Number(BigInt.asIntN(32, load.start >> 6n)),
    doorbell: 1,
  });

  expect(guest.take()).toEqual({ seq: 0, service: 1000, fanout: 4, due: load.start });
  expect(guest.take()).toEqual({ seq: 1, service: 2000, fanout: 0, due: load.start + 1n });
  releaser.poll();
  expect(section().depth).toBe(0);
  expect(load.entry(0).released).toBeGreaterThanOrEqual(load.start);
  expect(load.entry(1).released).toBeGreaterThan(load.entry(0).released);
  expect(load.entry(2).released).toBe(0n);
  expect(load.counts).toEqual([2, 0, 0]);
});

test('due times count from the start that the maker set', () => {
  const load = new Load([{ due: 0n }], { start: tsc() + NEVER });
  const { releaser } = setUp(load);
  load.state = abi.LOAD_ARMED;
  expect(releaser.poll()).toBe(0);
  const late = new Load([{ due: 7n }], { start: 5n });
  const second = setUp(late);
  late.state = abi.LOAD_ARMED;
  expect(second.releaser.poll()).toBe(1);
  expect(second.guest.take().due).toBe(12n);
});

test('completions are collected in order of seq, and a load is done with the last', () => {
  const load = new Load([{ due: 0n }, { due: 0n }, { due: 0n }]);
  const { guest, releaser } = setUp(load);
  load.state = abi.LOAD_ARMED;
  expect(releaser.poll()).toBe(3);
  guest.complete(1);
  guest.complete(2);
  releaser.poll();
  expect(load.counts).toEqual([3, 0, 0]);
  expect(load.state).toBe(abi.LOAD_RUNNING);
  guest.complete(0);
  releaser.poll();
  expect(load.counts).toEqual([3, 3, 0]);
  expect(load.state).toBe(abi.LOAD_DONE);
  for (const index of [0, 1, 2]) {
    expect(load.entry(index).done).toBeGreaterThan(load.entry(index).released);
  }
});

test('what a guest claims is held between its release and now', () => {
  const load = new Load([{ due: 0n }, { due: 0n }, { due: 0n }]);
  const { guest, releaser, section } = setUp(load);
  load.state = abi.LOAD_ARMED;
  releaser.poll();
  guest.complete(0, 0, 1n);
  guest.complete(1, 0xffffffff, 2n ** 64n - 1n);
  // It says that it took more than there is, or less than it finished.
  guest.say(1000);
  releaser.poll();
  const now = tsc();
  const early = load.entry(0);
  expect([early.done, early.wait]).toEqual([early.released, early.released - load.start]);
  const late = load.entry(1);
  expect(late.done >= late.released && late.done <= now).toBe(true);
  expect(late.wait).toBeLessThanOrEqual(late.done - load.start);
  expect(section().depth).toBe(1);
  guest.say(0x80000000);
  releaser.poll();
  expect(section().depth).toBe(1);
  guest.say(3);
  releaser.poll();
  expect(section().depth).toBe(0);
});

test('a full ring holds requests back, each counted once, and goes on when there is room', () => {
  const total = abi.RING_ENTRIES + 10;
  const load = new Load(Array.from({ length: total }, () => ({ due: 0n })));
  const { guest, releaser } = setUp(load);
  load.state = abi.LOAD_ARMED;
  let published = 0;
  for (let turn = 0; turn < 200; turn += 1) {
    published += releaser.poll();
  }
  expect([published, guest.tail]).toEqual([abi.RING_ENTRIES, abi.RING_ENTRIES]);
  expect(load.counts).toEqual([abi.RING_ENTRIES, 0, 10]);
  // Taken is not finished: the completions still need their places.
  for (let i = 0; i < 5; i += 1) {
    guest.take();
  }
  expect(releaser.poll()).toBe(0);
  [0, 1, 2].forEach((seq) => guest.complete(seq));
  releaser.poll();
  expect(releaser.poll()).toBe(3);
  expect(guest.tail).toBe(abi.RING_ENTRIES + 3);
  for (let turn = 0; load.state !== abi.LOAD_DONE && turn < 1000; turn += 1) {
    while (guest.head !== guest.tail) {
      const { seq } = guest.take();
      guest.complete(seq);
    }
    // Those that were taken above are finished late, and hold back the collecting of all after them.
    if (turn === 5) {
      [3, 4].forEach((seq) => guest.complete(seq));
    }
    releaser.poll();
  }
  expect(load.counts).toEqual([total, total, 10]);
  expect(load.state).toBe(abi.LOAD_DONE);
});

test('what an earlier load left in the ring is not written over', () => {
  const first = new Load(Array.from({ length: abi.RING_ENTRIES }, () => ({ due: 0n })));
  const { guest, releaser, section } = setUp(first);
  first.state = abi.LOAD_ARMED;
  for (let turn = 0; turn < 100; turn += 1) {
    releaser.poll();
  }
  expect(guest.tail).toBe(abi.RING_ENTRIES);
  // The guest finished the first one and is slow to take the others.
  for (let seq = 0; seq < abi.RING_ENTRIES; seq += 1) {
    guest.complete(seq);
  }
  guest.take();
  for (let turn = 0; turn < 100; turn += 1) {
    releaser.poll();
  }
  expect(first.state).toBe(abi.LOAD_DONE);
  releaser.remove(SLOT);
  const next = new Load([{ due: 0n }, { due: 0n }]);
  releaser.add(SLOT, guest.fd, next.fd);
  next.state = abi.LOAD_ARMED;
  expect(releaser.poll()).toBe(1);
  expect(next.counts).toEqual([1, 0, 1]);
  expect(section().depth).toBe(abi.RING_ENTRIES);
  expect(guest.take().seq).toBe(1);
  expect(releaser.poll()).toBe(1);
});

test('grace ends a load whose requests are not finished; they are counted, not dropped', () => {
  const load = new Load([{ due: 0n }, { due: 0n }], { grace: 0n });
  const { guest, releaser, section } = setUp(load);
  load.state = abi.LOAD_ARMED;
  releaser.poll();
  expect(load.state).toBe(abi.LOAD_DONE);
  expect(load.counts).toEqual([2, 0, 0]);
  expect(load.entry(0).done).toBe(0n);
  // They still are in the ring, so the policy must still see them.
  expect(section().depth).toBe(2);
  guest.take();
  guest.take();
  releaser.poll();
  expect(section().depth).toBe(0);
});

test('the maker can end a load at any time', () => {
  const load = new Load([{ due: 0n }, { due: NEVER }]);
  const { releaser } = setUp(load);
  load.state = abi.LOAD_ARMED;
  releaser.poll();
  load.state = abi.LOAD_STOP;
  releaser.poll();
  expect(load.state).toBe(abi.LOAD_DONE);
  expect(load.counts).toEqual([1, 0, 0]);
  const unarmed = new Load([]);
  const second = setUp(unarmed);
  unarmed.state = abi.LOAD_STOP;
  second.releaser.poll();
  expect(unarmed.state).toBe(abi.LOAD_DONE);
});

test('sequence numbers wrap, and go on from one load to the next', () => {
  const base = 0xfffffffd;
  const load = new Load(Array.from({ length: 5 }, () => ({ due: 0n })));
  const { guest, releaser, section, vm } = setUp(load, { base });
  load.state = abi.LOAD_ARMED;
  expect(releaser.poll()).toBe(5);
  releaser.poll();
  // The request with seq 0xffffffff has a completion mark of 0, which a fresh page is full of.
  expect(load.counts).toEqual([5, 0, 0]);
  expect([guest.tail, section().depth]).toEqual([2, 5]);
  const seqs = [0, 1, 2, 3, 4].map(() => guest.take().seq);
  expect(seqs).toEqual([0xfffffffd, 0xfffffffe, 0xffffffff, 0, 1]);
  seqs.forEach((seq) => guest.complete(seq));
  releaser.poll();
  expect([load.state, section().depth]).toEqual([abi.LOAD_DONE, 0]);

  const next = new Load([{ due: 0n }]);
  expect(codeOf(() => releaser.add(SLOT, guest.fd, next.fd))).toBe('EBUSY');
  expect([releaser.remove(SLOT), releaser.remove(SLOT)]).toEqual([true, false]);
  releaser.add(SLOT, guest.fd, next.fd);
  next.state = abi.LOAD_ARMED;
  releaser.poll();
  expect(guest.take().seq).toBe(2);
  expect(vm[abi.W_VM_RING_TAIL]).toBe(3);
});

test('the doorbell wakes vCPUs that say they wait', async () => {
  const load = new Load([{ due: 0n }]);
  const { table, vm, releaser } = setUp(load);
  const rung: number[] = [];
  const at = abi.VMS_OFFSET + SLOT * abi.VM_BYTES + abi.OFF_VM_DOORBELL;
  const stop = native.watchWord(table, at, (value) => rung.push(value));
  // The watcher sleeps on the doorbell, as a vCPU's thread would, once a wake finds it there.
  await until(() => native.futexWake(table, at, 1) === 1);
  await until(() => native.futexWake(table, at, 1) === 1);
  Atomics.store(vm, abi.W_VM_WAITERS, 1);
  load.state = abi.LOAD_ARMED;
  releaser.poll();
  await until(() => rung.length > 0);
  expect(rung).toEqual([1]);
  stop();
});

test.each(['busy', 'hybrid'] as const)('a thread of its own does the same (%s)', async (spin) => {
  const step = BigInt(native.calibrateTsc().khz);
  const load = new Load(Array.from({ length: 20 }, (_, index) => ({ due: (BigInt(index) * step) / 2n })));
  const { guest, releaser } = setUp(load);
  expect(typeof releaser.runThread({ spin })).toBe('boolean');
  expect(codeOf(() => releaser.runThread({ spin }))).toBe('EBUSY');
  load.state = abi.LOAD_ARMED;
  await until(() => {
    while (guest.head !== guest.tail) {
      guest.complete(guest.take().seq);
    }
    return load.state === abi.LOAD_DONE;
  });
  releaser.stop();
  releaser.stop();
  expect(load.counts).toEqual([20, 20, 0]);
  for (let index = 0; index < 20; index += 1) {
    expect(load.entry(index).released).toBeGreaterThanOrEqual(load.start + (BigInt(index) * step) / 2n);
  }
});

test('loads are added while the thread spins, and it ends with its releaser', async () => {
  const { guest, releaser, table } = setUp(new Load([{ due: NEVER }]));
  releaser.runThread({ spin: 'busy' });
  const other = native.Releaser.wrap(releaser.id);
  const loads = [1, 2, 3].map((slot) => {
    const load = new Load([{ due: 0n }]);
    load.state = abi.LOAD_ARMED;
    other.add(slot, guest.fd, load.fd);
    return { slot, load };
  });
  await until(() => loads.every(({ load }) => load.counts[0] === 1));
  loads.forEach(({ slot }) => expect(other.remove(slot)).toBe(true));
  expect(new Int32Array(table, abi.VMS_OFFSET + abi.VM_BYTES)[abi.W_VM_RING_TAIL]).toBe(1);
  releaser.stop();
});

test('a process ends while its releaser spins', () => {
  const index = fileURLToPath(new URL('../index.ts', import.meta.url));
  const source = `import(${JSON.stringify(index)}).then((n) => {
    const fd = n.createTable();
    const table = n.mapShared(fd, ${abi.TABLE_BYTES});
    n.initTable(table, 1000000, 6);
    globalThis.releaser = n.Releaser.open(table);
    globalThis.releaser.runThread({ spin: 'busy' });
    n.watchWord(table, 0, () => undefined, { keepAlive: true });
    process.exit(7);
  })`;
  expect(spawnSync(process.execPath, ['-e', source], { stdio: 'inherit' }).status).toBe(7);
});

test('areas that cannot be trusted are refused', () => {
  const good = new Load([]);
  const { guest, releaser } = setUp(good);
  const add = (fd: number, page = guest.fd) => codeOf(() => releaser.add(1, page, fd));
  const wrongMagic = new Load([]);
  wrongMagic.words[abi.W_LOAD_MAGIC] = 1;
  expect(add(wrongMagic.fd)).toBe('EINVAL');
  const otherMajor = new Load([]);
  otherMajor.words[abi.W_LOAD_ABI_MAJOR] = 9;
  expect(add(otherMajor.fd)).toBe('EPROTO');
  const tooMany = new Load([{ due: 0n }]);
  tooMany.words[abi.W_LOAD_ENTRIES] = 0x7fffffff;
  expect(add(tooMany.fd)).toBe('EINVAL');
  tooMany.words[abi.W_LOAD_ENTRIES] = -1;
  expect(add(tooMany.fd)).toBe('EINVAL');
  expect(add(good.fd, good.fd)).toBe('EINVAL');
  expect(add(0)).toBe('EPERM');
  const buffer = native.mapShared(native.createTable(), abi.TABLE_BYTES);
  expect(codeOf(() => native.Releaser.open(buffer))).toBe('EINVAL');
  expect(codeOf(() => native.Releaser.wrap(0xffffff))).toBe('ENOENT');
});

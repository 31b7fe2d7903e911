// SPDX-License-Identifier: Apache-2.0
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import * as native from '../index.ts';
import { codeOf, until } from './helpers.ts';

function page(): { words: Int32Array; buffer: ArrayBuffer; fd: number } {
  const fd = native.createSealedMemfd('test', 4096);
  const buffer = native.mapShared(fd, 4096);
  return { words: new Int32Array(buffer), buffer, fd };
}

test('a watch calls back after a change, and its last call has the last value', async () => {
  const { words, buffer } = page();
  const seen: number[] = [];
  const stop = native.watchWord(buffer, 12, (value) => seen.push(value));
  Atomics.store(words, 3, 1);
  native.futexWake(buffer, 12);
  await until(() => seen.at(-1) === 1);
  for (let value = 2; value <= 100; value += 1) {
    Atomics.store(words, 3, value);
    native.futexWake(buffer, 12);
  }
  await until(() => seen.at(-1) === 100);
  expect(seen.length).toBeLessThanOrEqual(100);
  Atomics.store(words, 3, -1);
  native.futexWake(buffer, 12);
  await until(() => seen.at(-1) === -1);
  stop();
  const calls = seen.length;
  Atomics.store(words, 3, 5);
  native.futexWake(buffer, 12);
  stop();
  await new Promise((resolve) => setImmediate(resolve));
  expect(seen.length).toBe(calls);
});

test('a watch sees what another process did, and can be ended from its own callback', async () => {
  const { buffer, fd } = page();
  const index = fileURLToPath(new URL('../index.ts', import.meta.url));
  const source = `import(${JSON.stringify(index)}).then((n) => {
    const buffer = n.mapShared(3, 4096);
    Atomics.store(new Int32Array(buffer), 0, 7);
    n.futexWake(buffer, 0);
  })`;
  const seen: number[] = [];
  const stop = native.watchWord(buffer, 0, (value) => {
    seen.push(value);
    stop();
  });
  const child = spawn(process.execPath, ['-e', source], { stdio: ['ignore', 'inherit', 'inherit', fd] });
  expect((await once(child, 'exit'))[0]).toBe(0);
  await until(() => seen.length === 1);
  expect(seen).toEqual([7]);
  native.closeFd(fd);
});

test('a watch keeps its pages after unmap, and wakes are counted', async () => {
  const { words, buffer } = page();
  let calls = 0;
  const other = new Int32Array(native.wrapShared(native.shareId(buffer)));
  const stop = native.watchWord(buffer, 0, () => (calls += 1));
  native.unmap(buffer);
  expect(words.length).toBe(0);
  // The watcher is the only sleeper, once it has gone to sleep.
  let woken = 0;
  await until(() => (woken = native.futexWake(other.buffer, 0, 1)) === 1);
  expect(woken).toBe(1);
  expect(calls).toBe(0);
  stop();
  expect(native.futexWake(other.buffer, 0)).toBe(0);
});

test('a worker that ends with a watch open takes it down with it', async () => {
  const { words, buffer } = page();
  const worker = new Worker(new URL('./futex-worker.ts', import.meta.url), {
    workerData: native.shareId(buffer),
  });
  await once(worker, 'message');
  await worker.terminate();
  Atomics.store(words, 0, 1);
  expect(native.futexWake(buffer, 0)).toBe(0);
});

test('words are in their mapping and aligned', () => {
  const { buffer } = page();
  for (const offset of [-4, 4096, 4094, 2, 1.5]) {
    expect(codeOf(() => native.watchWord(buffer, offset, () => undefined))).toBe('ERR_OUT_OF_RANGE');
    expect(codeOf(() => native.futexWake(buffer, offset))).toBe('ERR_OUT_OF_RANGE');
  }
  expect(codeOf(() => native.futexWake(new ArrayBuffer(8), 0))).toBe('ERR_INVALID_ARG_TYPE');
  expect(codeOf(() => native.futexWake(buffer, 0, 0))).toBe('ERR_OUT_OF_RANGE');
});

// SPDX-License-Identifier: Apache-2.0
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { CONTROL_BYTES, HOT_BYTES } from '../../arbiter/abi/layout.gen.ts';
import * as native from '../index.ts';
import { codeOf } from './helpers.ts';

const PAGE = 4096;

test('two mappings of a sealed memory file show the same words', () => {
  const fd = native.createSealedMemfd('test', 2 * PAGE);
  const one = new Int32Array(native.mapShared(fd, 2 * PAGE));
  const two = new Int32Array(native.mapShared(fd, PAGE, { offset: PAGE }));
  expect([one.length, two.length]).toEqual([2 * PAGE, PAGE].map((bytes) => bytes / 4));
  Atomics.store(one, PAGE / 4 + 3, 42);
  expect(Atomics.load(two, 3)).toBe(42);
  native.closeFd(fd);
  Atomics.add(two, 3, 1);
  expect(one[PAGE / 4 + 3]).toBe(43);
});

test('a sealed memory file can be neither shortened nor lengthened', () => {
  const fd = native.createSealedMemfd('test', PAGE);
  expect(codeOf(() => ftruncateSync(fd, 0))).toBe('EPERM');
  expect(codeOf(() => ftruncateSync(fd, 2 * PAGE))).toBe('EPERM');
  native.closeFd(fd);
});

test('files that could raise SIGBUS are refused: too short, or not sealed', () => {
  const fd = native.createSealedMemfd('test', PAGE);
  expect(codeOf(() => native.mapShared(fd, 2 * PAGE))).toBe('EINVAL');
  expect(codeOf(() => native.mapShared(fd, PAGE, { offset: PAGE }))).toBe('EINVAL');
  expect(() => native.mapShared(fd, 2 * PAGE)).toThrow(/too short: it has 4096 .* needed are 8192/);
  native.closeFd(fd);

  const folder = mkdtempSync(join(tmpdir(), 'hf-native-'));
  const file = openSync(join(folder, 'plain'), 'w+');
  writeSync(file, Buffer.alloc(PAGE));
  expect(() => native.mapShared(file, PAGE)).toThrow(/not sealed/);
  expect(codeOf(() => native.mapShared(file, PAGE))).toBe('EPERM');
  expect(codeOf(() => native.mapShared(file, 2 * PAGE, { expectSealed: false }))).toBe('EINVAL');
  expect(native.mapShared(file, PAGE, { expectSealed: false }).byteLength).toBe(PAGE);
  closeSync(file);
  rmSync(folder, { recursive: true });
});

test('unmap empties the buffer and leaves the pages to others', () => {
  const fd = native.createSealedMemfd('test', PAGE);
  const buffer = native.mapShared(fd, PAGE);
  native.closeFd(fd);
  const other = new Int32Array(native.wrapShared(native.shareId(buffer)));
  const words = new Int32Array(buffer);
  words[0] = 7;
  native.unmap(buffer);
  expect([buffer.byteLength, words.length]).toEqual([0, 0]);
  expect(other[0]).toBe(7);
  expect(codeOf(() => native.unmap(buffer))).toBe('ERR_INVALID_ARG_TYPE');
});

test('an arena shows a control page while it is attached, and zeroes before and after', () => {
  const arena = native.reserveArena(4);
  expect([arena.slots, arena.stride, arena.buffer.byteLength]).toEqual([4, HOT_BYTES, 4 * HOT_BYTES]);
  const words = new Int32Array(arena.buffer);
  const at = (2 * HOT_BYTES) / 4;
  const fd = native.createControlPage('test');
  const page = new Int32Array(native.mapShared(fd, CONTROL_BYTES));
  page[5] = 55;
  expect(words[at + 5]).toBe(0);

  arena.attach(2, fd);
  expect(words[at + 5]).toBe(55);
  words[at + HOT_BYTES / 4 - 1] = 66;
  expect(page[HOT_BYTES / 4 - 1]).toBe(66);
  expect([words[at - 1], words[at + HOT_BYTES / 4]]).toEqual([0, 0]);

  const fd2 = native.createControlPage('test2');
  arena.attach(2, fd2);
  expect(words[at + 5]).toBe(0);

  arena.attach(2, fd);
  arena.detach(2);
  expect(words[at + 5]).toBe(0);
  page[5] = 56;
  expect(words[at + 5]).toBe(0);
  // What is written to an empty slot is nobody's, and gone with the next VM.
  words[at + 5] = 1;
  arena.attach(2, fd);
  expect(words[at + 5]).toBe(56);
  native.closeFd(fd);
  native.closeFd(fd2);
});

test('an arena takes only sealed files that hold a hot part, and only its own slots', () => {
  const arena = native.reserveArena(2);
  const short = native.createSealedMemfd('short', HOT_BYTES - PAGE);
  const good = native.createControlPage('good');
  expect(codeOf(() => arena.attach(0, short))).toBe('EINVAL');
  expect(codeOf(() => arena.attach(2, good))).toBe('ERR_OUT_OF_RANGE');
  expect(codeOf(() => arena.attach(-1, good))).toBe('ERR_OUT_OF_RANGE');
  expect(codeOf(() => arena.detach(2))).toBe('ERR_OUT_OF_RANGE');
  expect(codeOf(() => native.reserveArena(0))).toBe('ERR_OUT_OF_RANGE');
  expect(codeOf(() => native.reserveArena(1, HOT_BYTES + 1))).toBe('ERR_OUT_OF_RANGE');
  native.closeFd(short);
  expect(codeOf(() => arena.attach(0, short))).toBe('EBADF');
  native.closeFd(good);
});

test('a worker sees the same arena and mapping through their ids', async () => {
  const arena = native.reserveArena(2);
  const fd = native.createControlPage('test');
  const mapped = native.mapShared(fd, CONTROL_BYTES);
  const worker = new Worker(new URL('./memory-worker.ts', import.meta.url), {
    workerData: { arena: arena.id, mapped: native.shareId(mapped) },
  });
  const words = new Int32Array(mapped);
  const answers: unknown[] = [];
  await new Promise<void>((resolve, reject) => {
    worker.on('error', reject);
    worker.on('message', (message: unknown) => {
      answers.push(message);
      if (answers.length === 1) {
        // Attached by this thread after the worker wrapped the arena.
        arena.attach(1, fd);
        words[3] = 33;
        worker.postMessage('look');
      } else {
        resolve();
      }
    });
  });
  await worker.terminate();
  expect(answers).toEqual(['ready', 33]);
  expect(words[4]).toBe(44);
  expect(codeOf(() => native.wrapShared(0xffffffff))).toBe('ENOENT');
  native.closeFd(fd);
});

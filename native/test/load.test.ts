// SPDX-License-Identifier: Apache-2.0
// Loading, the comparison of layouts, and arguments that are not what they should be.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import * as layout from '../../arbiter/abi/layout.gen.ts';
import * as native from '../index.ts';
import { addon } from '../lib/addon.ts';
import { codeOf, newTable } from './helpers.ts';

test('the compiler and the generator agree on the contract', () => {
  native.checkAbi(addon.abiInfo());
  expect(addon.abiInfo().layout.OFF_VM_RING_TAIL).toBe(layout.OFF_VM_RING_TAIL);
});

test('another version, another offset and a missing one are refused, and named', () => {
  const info = addon.abiInfo();
  expect(() => native.checkAbi({ ...info, major: info.major + 1 })).toThrow(
    new RegExp(`addon has ABI ${info.major + 1}\\.${info.minor}, this program ${info.major}\\.${info.minor}`),
  );
  const shifted = { ...info, layout: { ...info.layout, OFF_VM_STATE: 4 } };
  expect(() => native.checkAbi(shifted)).toThrow(/OFF_VM_STATE is 0 here and 4 in the addon/);
  expect(codeOf(() => native.checkAbi(shifted))).toBe('EPROTO');
  expect(() => native.checkAbi(info, { ...layout, SIZE_NEW: 8 })).toThrow(/SIZE_NEW is 8 here and not known/);
});

test('an addon that is absent or broken says what to do', () => {
  const folder = mkdtempSync(join(tmpdir(), 'hf-native-'));
  const broken = join(folder, 'broken.node');
  writeFileSync(broken, 'no addon');
  expect(() => native.loadAddon(join(folder, 'absent.node'))).toThrow(
    /not there: .*absent\.node\. Build it: node scripts/,
  );
  expect(() => native.loadAddon(broken)).toThrow(/cannot load .*broken\.node.*Build it again/);
  rmSync(folder, { recursive: true });
});

test('no function of the addon crashes on arguments that make no sense', () => {
  const table = newTable();
  const fd = native.createSealedMemfd('test', 4096);
  const small = native.mapShared(fd, 4096);
  native.closeFd(fd);
  const detached = native.wrapShared(native.shareId(small));
  const detachedWords = new Int32Array(detached);
  native.unmap(detached);
  const odd = [
    ...[
      undefined,
      null,
      true,
      '',
      'a\0b',
      -1,
      0,
      1,
      1.5,
      Number.NaN,
      Infinity,
      2 ** 53,
      1e300,
      10n,
      Symbol('x'),
    ],
    ...[{}, [], [Number.NaN], [1, 'x'], () => 0, new ArrayBuffer(8), detached, detachedWords, small],
    ...[new Int32Array(0), new Uint8Array(0), new Float64Array(0), new DataView(small), new Proxy([], {})],
  ];
  // Those that would end the test, hang it or close somebody's descriptors if they took an argument for good.
  const dangerous = new Set([
    'kill',
    'closeFd',
    'counterRead',
    'pinProcess',
    'setAffinity',
    'setScheduler',
    'exchangeFrame',
    'unmap',
  ]);
  const opened: number[] = [];
  function tryAll(target: object, seed: number): void {
    for (const [name, call] of Object.entries(target)) {
      if (typeof call !== 'function' || dangerous.has(name)) {
        continue;
      }
      for (let i = 0; i < odd.length * 6; i += 1) {
        const args = [0, 1, 2, 3, 4].map(
          (k) => odd[(i * (k + 1) + k * k * seed + Math.floor(i / odd.length) * k) % odd.length],
        );
        try {
          const result: unknown = (call as (...args: unknown[]) => unknown)(...args.slice(0, i % 6));
          if (name === 'watchWord') {
            (result as () => void)();
          }
          if (name === 'openAt' || name === 'lockFile' || name === 'holdCpuDmaLatency') {
            opened.push(Number(result ?? -1));
          }
        } catch (error) {
          expect(typeof (error as { code: unknown }).code, `${name}: ${String(error)}`).toBe('string');
        }
      }
    }
  }
  tryAll(addon, 1);
  const bridge = addon.bridgeOpen(table, 4);
  tryAll(bridge, 2);
  const releaser = addon.releaserOpen(table);
  tryAll(releaser, 3);
  releaser.stop();
  tryAll(addon.clockOpen(8), 4);
  for (const name of dangerous) {
    const call = (addon as unknown as Record<string, (...args: unknown[]) => unknown>)[name];
    for (const bad of [undefined, null, 'x', {}, -1, 1.5, Number.NaN, new ArrayBuffer(8)]) {
      expect(['ERR_INVALID_ARG_TYPE', 'ERR_OUT_OF_RANGE']).toContain(codeOf(() => call(bad, bad, bad)));
    }
  }
  for (const open of opened.filter((open) => open > 2)) {
    native.closeFd(open);
  }
});

test('a bridge needs a table, and commands that fit its batch', () => {
  const table = newTable();
  native.checkTable(table);
  const plain = new Int32Array(1024);
  expect(codeOf(() => native.NativeBridge.open(plain.buffer))).toBe('ERR_INVALID_ARG_TYPE');
  const fd = native.createSealedMemfd('test', 4096);
  const small = native.mapShared(fd, 4096);
  native.closeFd(fd);
  expect(codeOf(() => native.NativeBridge.open(small))).toBe('EINVAL');
  expect(codeOf(() => native.checkTable(small))).toBe('EINVAL');
  expect(codeOf(() => native.initTable(small, 1, 1))).toBe('EINVAL');

  const bridge = native.NativeBridge.open(table, { capacity: 4 });
  expect(bridge.batch.length).toBe(4 * native.CMD_WORDS);
  expect(codeOf(() => bridge.submit(5))).toBe('ERR_OUT_OF_RANGE');
  expect(codeOf(() => bridge.submit(-1))).toBe('ERR_OUT_OF_RANGE');
  expect(bridge.submit(0)).toBe(0);
  const other = native.NativeBridge.wrap(bridge.id);
  other.batch[native.CMD_RESULT] = 77;
  expect(bridge.batch[native.CMD_RESULT]).toBe(77);
  expect(codeOf(() => native.NativeBridge.wrap(0xffffff))).toBe('ENOENT');

  // A table of another major is refused with both versions, and left alone.
  new Int32Array(table)[layout.W_TABLE_ABI_MAJOR] = 9;
  expect(codeOf(() => native.NativeBridge.open(table))).toBe('EPROTO');
  expect(() => native.checkTable(table)).toThrow(
    new RegExp(`table has ABI 9\\.${layout.ABI_MINOR}, this addon ${layout.ABI_MAJOR}\\.${layout.ABI_MINOR}`),
  );
});

test('the lease is taken, given back, and lost to a later one', () => {
  const table = newTable();
  const words = new Int32Array(table);
  const bridge = native.NativeBridge.open(table);
  const epoch = bridge.claim(process.pid, 0, [1]);
  expect(epoch).toBeGreaterThan(0);
  expect(words[layout.W_TABLE_EPOCH]).toBe(epoch);
  expect(words[layout.W_TABLE_ARBITER_PID]).toBe(process.pid);
  expect(words[layout.W_TABLE_MANAGED]).toBe(2);
  bridge.beat();
  expect(bridge.poll()).toBe(0);
  const arena = native.reserveArena(2);
  bridge.setPage(0, arena);
  expect(codeOf(() => bridge.setPage(2, arena))).toBe('ERR_OUT_OF_RANGE');
  expect(codeOf(() => bridge.setPage(0, native.reserveArena(2)))).toBe('EINVAL');
  bridge.setPage(0, null);

  const later = native.NativeBridge.open(table);
  expect(later.claim(process.pid, 0, [1])).toBe(epoch + 1);
  expect(codeOf(() => bridge.release())).toBe('ESTALE');
  later.release();
});

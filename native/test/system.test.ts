// SPDX-License-Identifier: Apache-2.0
// Clock, threads, locks and probes.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { fstatSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, test } from 'vitest';
import * as native from '../index.ts';
import { codeOf } from './helpers.ts';

const folder = mkdtempSync(join(tmpdir(), 'hf-native-'));
afterAll(() => rmSync(folder, { recursive: true }));

const wide = (low: number, high: number): bigint => (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);

test('the time stamp counter goes forward, in all its forms', () => {
  const out = new Int32Array(5);
  native.tscNow(out, 1);
  native.tscNow(out, 3);
  expect(out[0]).toBe(0);
  expect(wide(out[3], out[4])).toBeGreaterThan(wide(out[1], out[2]));
  const clock = new native.Clock(8);
  clock.now();
  expect(wide(clock.words[0], clock.words[1])).toBeGreaterThan(wide(out[3], out[4]));
  const first = clock.stamp();
  expect(first).toBe(first | 0);
  const before = wide(clock.words[0], clock.words[1]);
  expect((first - Number(BigInt.asIntN(32, before >> 8n))) | 0).toBeGreaterThanOrEqual(0);
});

test('calibration agrees with itself, and a stamp ticks in at least 64 ns', () => {
  const found = native.calibrateTsc();
  expect(found.khz).toBeGreaterThan(100_000);
  expect(Math.abs(found.khz - found.measured) / found.measured).toBeLessThan(0.0011);
  expect(native.calibrateTsc()).toEqual(found);
  expect([1_000_000, 2_000_000, 2_596_122, 4_000_000, 4_000_001].map(native.chooseStampShift)).toEqual([
    6, 7, 8, 8, 9,
  ]);
  expect(() => native.chooseStampShift(0)).toThrow(RangeError);
});

test('threads are pinned and scheduled as told', () => {
  const cores = native.getAffinity(0);
  expect(cores.length).toBeGreaterThan(0);
  native.pinThread(cores[0]);
  expect(native.getAffinity(native.gettid())).toEqual([cores[0]]);
  native.pinProcess(cores);
  expect(native.getAffinity(0)).toEqual(cores);
  expect(codeOf(() => native.pinThread(255))).toBe('EINVAL');
  expect(codeOf(() => native.setAffinity(0, []))).toBe('ERR_OUT_OF_RANGE');
  expect(codeOf(() => native.setAffinity(0, [256]))).toBe('ERR_OUT_OF_RANGE');
  expect(codeOf(() => native.setSchedFifo(0, 0))).toBe('ERR_OUT_OF_RANGE');
  native.setSchedOther(0);
});

test('signals reach processes and threads, but never a group or process 1', async () => {
  const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { stdio: 'ignore' });
  await once(child, 'spawn');
  const pid = child.pid ?? 0;
  native.kill(pid, 0);
  native.tgkill(pid, pid, 15);
  expect((await once(child, 'exit'))[1]).toBe('SIGTERM');
  expect(codeOf(() => native.tgkill(pid, pid, 0))).toBe('ESRCH');
  for (const bad of [-1, 0, 1, 1.5, Number.NaN]) {
    expect(codeOf(() => native.kill(bad, 0))).toBe('ERR_OUT_OF_RANGE');
  }
  expect(codeOf(() => native.tgkill(process.pid, 0, 0))).toBe('ERR_OUT_OF_RANGE');
});

test('a lock keeps others out until its descriptor is closed', () => {
  const path = join(folder, 'lock');
  const fd = native.lockFile(path);
  expect(fd).not.toBeNull();
  expect(native.lockFile(path)).toBeNull();
  const index = fileURLToPath(new URL('../index.ts', import.meta.url));
  const other = `import(${JSON.stringify(index)}).then((n) => console.log(n.lockFile(${JSON.stringify(path)}) === null))`;
  expect(spawnSync(process.execPath, ['-e', other], { encoding: 'utf8' }).stdout.trim()).toBe('true');
  native.closeFd(fd ?? -1);
  const again = native.lockFile(path);
  expect(again).not.toBeNull();
  native.closeFd(again ?? -1);
  expect(codeOf(() => native.lockFile(join(folder, 'no/such/lock')))).toBe('ENOENT');
});

test('memory files are reached through /proc, as a load area is', () => {
  const fd = native.createSealedMemfd('test', 4096);
  const other = native.openAt(null, `/proc/${process.pid}/fd/${fd}`);
  expect(fstatSync(other).ino).toBe(fstatSync(fd).ino);
  expect(native.mapShared(other, 4096).byteLength).toBe(4096);
  native.closeFd(fd);
  native.closeFd(other);
  expect(codeOf(() => native.closeFd(other))).toBe('EBADF');
  expect(codeOf(() => native.openAt(null, join(folder, 'absent')))).toBe('ENOENT');
});

test('PM QoS is held or found not to be offered', () => {
  const fd = native.holdCpuDmaLatency(0);
  if (fd !== null) {
    native.closeFd(fd);
  }
  expect(fd === null || fd >= 0).toBe(true);
});

test('waiting for a word: it changed, or it did not', () => {
  const fd = native.createSealedMemfd('test', 4096);
  const buffer = native.mapShared(fd, 4096);
  native.closeFd(fd);
  const out = new Int32Array(2);
  expect(native.waitWordChange(buffer, 8, 0, 100, out)).toBe(0);
  expect(native.waitWordChange(buffer, 8, 5, 100, out)).toBe(1);
  expect(wide(out[0], out[1])).toBeGreaterThan(0n);
  // A word is the same whether it is read as signed or as unsigned.
  new Int32Array(buffer)[2] = -1;
  expect([-1, 0xffffffff].map((old) => native.waitWordChange(buffer, 8, old, 0, out))).toEqual([0, 0]);
});

test('floors are measured, from another core', () => {
  const cores = native.getAffinity(0);
  const other = cores[cores.length - 1];
  native.pinThread(other);
  const none = new Float64Array(1);
  expect(codeOf(() => native.futexWakeFloor(other, 1, none))).toBe('EINVAL');
  expect(codeOf(() => native.membarrierFloor(other, 1, none))).toBe('EINVAL');
  if (cores.length === 1) {
    return;
  }
  native.setAffinity(0, cores.slice(0, -1));
  const out = new Float64Array(6);
  expect(native.futexWakeFloor(other, 5, out)).toBe(5);
  expect([...out].map((ns) => ns > 0)).toEqual([true, true, true, true, true, false]);
  expect(native.preemptionFloor(other, 3, out)).toBe(3);
  expect(native.preemptionFloor(other, 3, out, { donor: 'other' })).toBe(3);
  expect(native.membarrierFloor(other, 3, out)).toBe(3);
  expect(codeOf(() => native.futexWakeFloor(other, 7, out))).toBe('ERR_OUT_OF_RANGE');
  expect(codeOf(() => native.futexWakeFloor(255, 1, out))).toBe('EINVAL');
  native.setAffinity(0, cores);
});

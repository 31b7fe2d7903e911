// SPDX-License-Identifier: Apache-2.0
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import * as native from '../index.ts';
import { codeOf } from './helpers.ts';
import { listen } from './manager.ts';

const folder = mkdtempSync(join(tmpdir(), 'hf-notify-'));
afterAll(() => rmSync(folder, { recursive: true }));

test.each([
  ['a path', join(folder, 'notify')],
  ['an abstract address', `@hf-notify-${process.pid}`],
])('a message to %s arrives whole, from this process', async (_name, address) => {
  const manager = await listen(folder, address);
  const before = readdirSync('/proc/self/fd').length;
  native.notify(address, 'READY=1\nSTATUS=up');
  native.notify(address, 'WATCHDOG=1');
  await manager.until('WATCHDOG=1');
  expect(manager.messages).toEqual([
    { pid: process.pid, lines: ['READY=1', 'STATUS=up'] },
    { pid: process.pid, lines: ['WATCHDOG=1'] },
  ]);
  expect(readdirSync('/proc/self/fd').length).toBe(before);
  manager.close();
});

test('nobody there, and what cannot be sent', () => {
  expect(codeOf(() => native.notify(join(folder, 'absent'), 'x'))).toBe('ENOENT');
  expect(codeOf(() => native.notify('@hf-notify-nobody', 'x'))).toBe('ECONNREFUSED');
  expect(() => native.notify('@hf-notify-nobody', 'x')).toThrow(/Nobody listens/);
  expect(codeOf(() => native.notify('x'.repeat(108), 'x'))).toBe('ERR_OUT_OF_RANGE');
  expect(codeOf(() => native.notify('', 'x'))).toBe('ERR_OUT_OF_RANGE');
  expect(codeOf(() => native.notify('/a', 'x'.repeat(4097)))).toBe('ERR_OUT_OF_RANGE');
  expect(codeOf(() => native.notify('/a', 1 as unknown as string))).toBe('ERR_INVALID_ARG_TYPE');
});

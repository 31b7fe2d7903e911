// SPDX-License-Identifier: Apache-2.0
import { execFileSync, spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, readSync, rmSync } from 'node:fs';
import { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import * as native from '../index.ts';
import { codeOf } from './helpers.ts';

const folder = mkdtempSync(join(tmpdir(), 'hf-native-'));
const peer = join(folder, 'peer');
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const text = (frame: Uint8Array): string => new TextDecoder().decode(frame);
const openFds = (): number => readdirSync('/proc/self/fd').length;

beforeAll(() => {
  const source = fileURLToPath(new URL('peer.c', import.meta.url));
  execFileSync(process.env.CXX ?? 'g++', ['-x', 'c++', '-w', '-o', peer, source]);
});
afterAll(() => rmSync(folder, { recursive: true }));

let count = 0;
async function start(mode: string): Promise<{ path: string; child: ChildProcess }> {
  const path = join(folder, `${(count += 1)}.sock`);
  const child = spawn(peer, [path, mode], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  return { path, child };
}

const attach = (path: string, timeoutMs = 60_000): native.Attached =>
  native.attachVm(path, bytes('say hello'), bytes('say attach'), timeoutMs);

test('attach brings two answers and two descriptors that are closed on exec', async () => {
  const { path, child } = await start('good');
  const { fd, frames, fds } = attach(path);
  expect(frames.map(text)).toEqual(['hello', 'attach']);
  expect(fds.length).toBe(2);
  const first = fds.map((one) => {
    const byte = Buffer.alloc(1);
    readSync(one, byte, 0, 1, 0);
    return byte.toString();
  });
  expect(first).toEqual(['c', 't']);
  for (const one of [fd ?? -1, ...fds]) {
    const flags = /flags:\s+(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${one}`, 'utf8'))?.[1];
    expect(parseInt(flags ?? '0', 8) & 0o2000000).not.toBe(0);
  }
  expect(native.peerCred(fd ?? -1)).toEqual({
    pid: child.pid,
    uid: process.getuid?.(),
    gid: process.getgid?.(),
  });
  [fd ?? -1, ...fds].forEach(native.closeFd);
  expect((await once(child, 'exit'))[0]).toBe(0);
});

test("the connection is fit for Node's event loop, which notices its end", async () => {
  const { path, child } = await start('good');
  const { fd, fds } = attach(path);
  fds.forEach(native.closeFd);
  const socket = new Socket({ fd: fd ?? -1 });
  socket.resume();
  child.kill('SIGKILL');
  await once(socket, 'close');
});

test('a peer that closes after hello is no error: its answer says why', async () => {
  const { path } = await start('reject');
  const { fd, frames, fds } = attach(path);
  expect([fd, frames.map(text), fds]).toEqual([null, ['hello'], []]);
});

test.each([
  ['huge', 'EPROTO', /claims to be 4294967295 bytes/],
  ['cut', 'ECONNRESET', /closed the connection/],
  ['many', 'EMSGSIZE', /answer/],
])('a peer that misbehaves (%s) is an error and leaves no descriptor behind', async (mode, code, message) => {
  const { path, child } = await start(mode);
  const exited = once(child, 'exit');
  const before = openFds();
  expect(codeOf(() => attach(path))).toBe(code);
  expect(openFds()).toBe(before);
  await exited;
  const again = await start(mode);
  const exitedAgain = once(again.child, 'exit');
  expect(() => attach(again.path)).toThrow(message);
  await exitedAgain;
});

test('a peer that says nothing ends in a time-out', async () => {
  const { path, child } = await start('silent');
  expect(codeOf(() => attach(path, 30))).toBe('ETIMEDOUT');
  await once(child, 'exit');
});

test('nobody there, impossible paths and frames', () => {
  expect(codeOf(() => attach(join(folder, 'absent.sock')))).toBe('ENOENT');
  expect(codeOf(() => native.connectUnix('x'.repeat(108), 10))).toBe('ERR_OUT_OF_RANGE');
  expect(codeOf(() => native.exchangeFrame(0, new Uint8Array(0), 10))).toBe('ERR_OUT_OF_RANGE');
  expect(codeOf(() => native.exchangeFrame(0, new Uint8Array(1048577), 10))).toBe('ERR_OUT_OF_RANGE');
  const file = native.createSealedMemfd('no socket', 4096);
  expect(codeOf(() => native.exchangeFrame(file, bytes('x'), 10))).toBe('ENOTSOCK');
  expect(codeOf(() => native.peerCred(file))).toBe('ENOTSOCK');
  native.closeFd(file);
});

/** The control socket: what it does with clients that are wrong, and that others do not notice. */
import { Packr } from 'msgpackr';
import { mkdtempSync, rmSync } from 'node:fs';
import type { Server, Socket } from 'node:net';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ABI_MAJOR, FRAME_MAX } from '../../arbiter/abi/layout.gen.ts';
import { ControlClient } from '../../arbiter/control/client.ts';
import { decodeBody, encodeFrame, FrameReader } from '../../arbiter/control/frames.ts';
import { runPaths } from '../../arbiter/control/paths.ts';
import {
  CONTROL_PROTOCOL,
  ControlError,
  DEFAULT_QUANTUM_US,
  requests,
  runRequest,
  toError,
} from '../../arbiter/control/protocol.ts';
import type { Handler } from '../../arbiter/control/server.ts';
import { serve } from '../../arbiter/control/server.ts';

const plain = new Packr({ useRecords: false });

describe('frames', () => {
  test('come whole, however the stream is cut', () => {
    const stream = Buffer.concat(
      [{ a: 1 }, { b: 'x'.repeat(5000) }, {}].map((message) => encodeFrame(message)),
    );
    for (const cut of [1, 2, 3, 5, 7, 4096, stream.length]) {
      const reader = new FrameReader();
      const found: unknown[] = [];
      for (let at = 0; at < stream.length; at += cut) {
        reader.push(stream.subarray(at, at + cut));
        for (let body = reader.next(); body !== undefined; body = reader.next()) found.push(decodeBody(body));
      }
      expect(found).toEqual([{ a: 1 }, { b: 'x'.repeat(5000) }, {}]);
      expect(reader.pending).toBe(0);
    }
  });

  test('are plain MessagePack, which other languages read', () => {
    const frame = encodeFrame({ id: 1, op: 'status' });
    // A fixmap of two, not the record extension.
    expect(frame[4]).toBe(0x82);
  });

  test.each([
    ['not MessagePack', Buffer.from([0xc1])],
    ['cut off inside', Buffer.from([0x82, 0xa1])],
    ['a number', plain.pack(7)],
    ['a list', plain.pack([1, 2])],
    ['nil', plain.pack(null)],
  ])('a body that is %s is refused', (_name, body) => {
    expect(() => decodeBody(body)).toThrow(/MessagePack/);
  });
});

describe('control socket', () => {
  let directory: string;
  let server: Server;
  let path: string;
  let handled: [string, unknown][];
  let handler: Handler;
  const sockets: Socket[] = [];

  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), 'hf-control-'));
    path = join(directory, 'control.sock');
    handled = [];
    handler = async (op, fields) => {
      handled.push([op, fields]);
      if (op === 'stop') throw new ControlError('not-found', 'there is no such VM', 'look at ps');
      return { answer: op };
    };
    server = await serve({ path, handler: (op, fields) => handler(op, fields), stallMs: 150, maxClients: 8 });
  });
  afterEach(() => {
    for (const socket of sockets.splice(0)) socket.destroy();
    server.close();
    rmSync(directory, { recursive: true, force: true });
  });

  /** A client that sends bytes as they are. */
  async function raw(): Promise<{
    socket: Socket;
    next(): Promise<Record<string, unknown>>;
    closed: Promise<void>;
  }> {
    const socket = connect(path);
    sockets.push(socket);
    socket.on('error', () => {});
    const reader = new FrameReader();
    const waiting: ((message: Record<string, unknown>) => void)[] = [];
    const got: Record<string, unknown>[] = [];
    socket.on('data', (data: Buffer) => {
      reader.push(data);
      for (let body = reader.next(); body !== undefined; body = reader.next()) {
        const message = decodeBody(body);
        const take = waiting.shift();
        if (take === undefined) got.push(message);
        else take(message);
      }
    });
    const closed = new Promise<void>((resolve) => socket.on('close', () => resolve()));
    await new Promise<void>((resolve) => socket.once('connect', () => resolve()));
    const next = (): Promise<Record<string, unknown>> =>
      new Promise((resolve) => {
        const message = got.shift();
        if (message === undefined) waiting.push(resolve);
        else resolve(message);
      });
    return { socket, next, closed };
  }

  async function greeted(): ReturnType<typeof raw> {
    const client = await raw();
    client.socket.write(
      encodeFrame({ id: 0, op: 'hello', protocol: CONTROL_PROTOCOL, abi_major: ABI_MAJOR }),
    );
    expect(await client.next()).toMatchObject({ id: 0, ok: true });
    return client;
  }

  const length = (bytes: number): Buffer => {
    const head = Buffer.alloc(4);
    head.writeUInt32LE(bytes);
    return head;
  };

  test('answers requests in order', async () => {
    const { socket, next } = await greeted();
    socket.write(Buffer.concat([encodeFrame({ id: 1, op: 'status' }), encodeFrame({ id: 2, op: 'ps' })]));
    expect(await next()).toEqual({ id: 1, ok: true, answer: 'status' });
    expect(await next()).toEqual({ id: 2, ok: true, answer: 'ps' });
  });

  test.each([
    ['an empty frame', length(0), /empty/],
    ['an oversized frame', length(FRAME_MAX + 1), new RegExp(`${FRAME_MAX + 1} bytes; ${FRAME_MAX}`)],
    ['the largest length there is', length(0xffffffff), /4294967295/],
    ['text instead of frames', Buffer.from('GET / HTTP/1.1\r\n\r\n'), /bytes/],
    [
      'a frame that is not MessagePack',
      Buffer.concat([length(1), Buffer.from([0xc1])]),
      /not a MessagePack map/,
    ],
    ['a frame that is not a map', Buffer.concat([length(1), plain.pack(5)]), /not a MessagePack map/],
  ])('%s: told why, then closed; others are not disturbed', async (_name, bytes, message) => {
    const other = await greeted();
    const { socket, next, closed } = await greeted();
    socket.write(bytes);
    const error = await next();
    expect(error).toMatchObject({ ok: false, code: 'frame' });
    expect(error.message).toMatch(message);
    expect(error.hint).not.toBe('');
    await closed;
    other.socket.write(encodeFrame({ id: 9, op: 'ps' }));
    expect(await other.next()).toMatchObject({ id: 9, ok: true });
  });

  test('the limit is one of the frame, not of what waits in the buffer', async () => {
    const { socket, next } = await greeted();
    const many = Array.from({ length: 40 }, (_, id) => encodeFrame({ id, op: 'status' }));
    socket.write(Buffer.concat(many));
    for (let id = 0; id < many.length; id++) expect(await next()).toMatchObject({ id, ok: true });
  });

  test('a frame that ends in the middle: told so', async () => {
    const { socket, next, closed } = await greeted();
    socket.end(encodeFrame({ id: 1, op: 'status' }).subarray(0, 9));
    expect(await next()).toMatchObject({
      ok: false,
      code: 'frame',
      message: expect.stringContaining('only 9 bytes') as string,
    });
    await closed;
  });

  test('a frame that stops in the middle: told so after a while', async () => {
    const { socket, next, closed } = await greeted();
    socket.write(length(100));
    expect(await next()).toMatchObject({ ok: false, code: 'frame' });
    await closed;
  });

  test('a client that says nothing may stay', async () => {
    const { socket, next } = await greeted();
    await new Promise((resolve) => setTimeout(resolve, 400));
    socket.write(encodeFrame({ id: 1, op: 'status' }));
    expect(await next()).toMatchObject({ ok: true });
  });

  test('an unknown request: told what there is, and the connection stays', async () => {
    const { socket, next } = await greeted();
    socket.write(encodeFrame({ id: 1, op: 'frobnicate' }));
    const error = await next();
    expect(error).toMatchObject({
      id: 1,
      ok: false,
      code: 'request',
      message: expect.stringContaining('frobnicate') as string,
    });
    expect(error.hint).toContain('status');
    socket.write(encodeFrame({ id: 2, op: 'toString' }));
    expect(await next()).toMatchObject({ id: 2, ok: false, code: 'request' });
    socket.write(encodeFrame({ id: 3, op: 'ps' }));
    expect(await next()).toMatchObject({ id: 3, ok: true });
  });

  test.each([
    [{ op: 'status' }, 'no id'],
    [{ id: 1 }, 'no op'],
    [{ id: 'one', op: 'status' }, 'an id that is no number'],
    [{ id: 1, op: 7 }, 'an op that is no string'],
  ])('%j (%s): refused and closed', async (message, _why) => {
    const { socket, next, closed } = await greeted();
    socket.write(encodeFrame(message));
    expect(await next()).toMatchObject({ ok: false, code: 'request' });
    await closed;
  });

  test.each([
    ['run', { name: 'a' }, 'workload'],
    ['run', { workload: 'serve' }, 'name'],
    ['run', { name: 'a/b', workload: 'serve' }, 'name'],
    ['run', { name: 'a', workload: 'srve' }, 'there are serve, batch, probe'],
    ['run', { name: 'a', workload: 'serve', vcpus: 17 }, 'vcpus'],
    ['run', { name: 'a', workload: 'serve', vcpus: 'two' }, 'vcpus'],
    ['run', { name: 'a', workload: 'serve', colour: 1 }, 'colour'],
    ['run', { name: 'a', workload: 'serve', args: ['no equals sign'] }, 'key=value'],
    ['stop', {}, 'name'],
    ['load', { name: 'a', pid: -1, fd: 3 }, 'pid'],
    ['decisions', { count: 1e9 }, 'count'],
  ])('%s %j: refused by name', async (op, fields, says) => {
    const { socket, next } = await greeted();
    socket.write(encodeFrame({ id: 4, op, ...fields }));
    const error = await next();
    expect(error).toMatchObject({ id: 4, ok: false, code: 'request' });
    expect(error.message).toContain(says);
    expect(handled).toEqual([]);
  });

  test('before hello nothing is answered', async () => {
    const { socket, next, closed } = await raw();
    socket.write(encodeFrame({ id: 1, op: 'status' }));
    expect(await next()).toMatchObject({
      ok: false,
      code: 'request',
      message: expect.stringContaining('hello') as string,
    });
    await closed;
    expect(handled).toEqual([]);
  });

  test('another version: both are named, then closed', async () => {
    const { socket, next, closed } = await raw();
    socket.write(encodeFrame({ id: 1, op: 'hello', protocol: 99, abi_major: 7 }));
    const error = await next();
    expect(error).toMatchObject({ ok: false, code: 'version' });
    expect(error.message).toMatch(/99 and ABI 7.* 1 and 1/);
    await closed;
  });

  test('a client that vanishes in the middle of its request harms nobody', async () => {
    let finish: (() => void) | undefined;
    handler = () => new Promise((resolve) => (finish = () => resolve({ late: true })));
    const { socket } = await greeted();
    socket.write(encodeFrame({ id: 1, op: 'ps' }));
    while (finish === undefined) await new Promise((resolve) => setTimeout(resolve, 1));
    socket.destroy();
    await new Promise((resolve) => setTimeout(resolve, 20));
    finish();
    handler = async () => ({});
    const other = await greeted();
    other.socket.write(encodeFrame({ id: 2, op: 'ps' }));
    expect(await other.next()).toMatchObject({ id: 2, ok: true });
  });

  test('more clients than there may be are told so', async () => {
    for (let i = 0; i < 8; i++) await greeted();
    const { next, closed } = await raw();
    expect(await next()).toMatchObject({ ok: false, code: 'busy' });
    await closed;
  });

  test('random bytes never bring it down', async () => {
    let seed = 99;
    for (let round = 0; round < 60; round++) {
      const bytes = Buffer.from(
        Array.from({ length: 40 }, () => (seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0) >>> 24),
      );
      // Every other one with a length that fits, so that the bytes are looked at.
      if (round % 2 === 0) bytes.writeUInt32LE(36);
      const { socket, closed } = await raw();
      socket.end(bytes);
      await closed;
    }
    const { socket, next } = await greeted();
    socket.write(encodeFrame({ id: 1, op: 'ps' }));
    expect(await next()).toMatchObject({ ok: true });
  });

  describe('client', () => {
    const open = (): Promise<ControlClient> => ControlClient.connect(runPaths(directory));

    test('asks and gets answers', async () => {
      const client = await open();
      expect(await client.ask('status')).toEqual({ answer: 'status' });
      client.close();
    });

    test('gets code, message and hint of a failure', async () => {
      const client = await open();
      await expect(client.ask('stop', { name: 'x' })).rejects.toMatchObject({
        ...{ code: 'not-found', message: 'there is no such VM', hint: 'look at ps' },
      });
      client.close();
    });

    test('says that nobody is there', async () => {
      await expect(ControlClient.connect(runPaths(join(directory, 'nowhere')))).rejects.toMatchObject({
        code: 'not-running',
        hint: expect.stringContaining('hyperflux start') as string,
      });
    });

    test('notices when the daemon goes', async () => {
      handler = () => new Promise(() => {});
      const client = await open();
      const asked = client.ask('ps');
      // The server's side of the connection is the one that is not ours.
      await new Promise((resolve) => setTimeout(resolve, 20));
      server.close();
      client.close();
      await expect(asked).rejects.toThrow();
    });
  });
});

describe('protocol', () => {
  test('a run request is filled in', () => {
    expect(runRequest.parse({ name: 'web', workload: 'serve' })).toMatchObject({
      class: 'be',
      vcpus: 1,
      min_cores: 0,
      mem_mib: 64,
      quantum_us: DEFAULT_QUANTUM_US,
      backend: 'auto',
    });
  });

  test('every request has a schema that refuses what it does not know', () => {
    for (const schema of Object.values(requests))
      expect(schema.safeParse({ nonsense: true }).success).toBe(false);
  });

  test('errors of the system become codes', () => {
    expect(toError(Object.assign(new Error('x'), { code: 'EACCES' })).code).toBe('permission');
    expect(toError(Object.assign(new Error('x'), { code: 'ENOSPC' })).code).toBe('failed');
    expect(toError('text').message).toBe('text');
  });
});

/** A client of hyperfluxd: for the command line, the demo and the benchmarks. */
import type { Socket } from 'node:net';
import { connect } from 'node:net';
import { ABI_MAJOR, ABI_MINOR } from '../abi/layout.gen.ts';
import { decodeBody, encodeFrame, FrameReader } from './frames.ts';
import type { RunPaths } from './paths.ts';
import { runPaths } from './paths.ts';
import type { ControlOp, ErrorCode } from './protocol.ts';
import { CONTROL_PROTOCOL, ControlError, VERSION } from './protocol.ts';

interface Waiting {
  resolve(fields: Record<string, unknown>): void;
  reject(error: Error): void;
}

export class ControlClient {
  private readonly socket: Socket;
  private readonly reader = new FrameReader();
  private readonly waiting = new Map<number, Waiting>();
  private nextId = 1;
  private broken: Error | undefined;

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (data: Buffer) => this.data(data));
    socket.on('error', (error) => this.fail(error));
    socket.on('close', () =>
      this.fail(
        new ControlError(
          'failed',
          'the daemon closed the connection',
          'Its log says why: log/daemon.log in the run directory.',
        ),
      ),
    );
  }

  /** Connects and says hello. Throws `not-running`, `permission` or `version` as ControlError. */
  static async connect(paths: RunPaths = runPaths()): Promise<ControlClient> {
    const socket = connect(paths.control);
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', (error: NodeJS.ErrnoException) => reject(connectError(error, paths)));
    });
    const client = new ControlClient(socket);
    try {
      await client.send('hello', {
        protocol: CONTROL_PROTOCOL,
        abi_major: ABI_MAJOR,
        abi_minor: ABI_MINOR,
        version: VERSION,
      });
    } catch (error) {
      client.close();
      throw error;
    }
    return client;
  }

  /** Asks; the answer's fields. Throws ControlError with the daemon's code, message and hint. */
  ask<T = Record<string, unknown>>(op: ControlOp, fields: object = {}): Promise<T> {
    return this.send(op, fields) as Promise<T>;
  }

  close(): void {
    this.broken ??= new ControlError('failed', 'the connection is closed');
    this.socket.destroy();
  }

  private send(op: string, fields: object): Promise<Record<string, unknown>> {
    return new Promise((resolve, reject) => {
      if (this.broken !== undefined) return reject(this.broken);
      const id = this.nextId++;
      this.waiting.set(id, { resolve, reject });
      this.socket.write(encodeFrame({ id, op, ...fields }));
    });
  }

  private data(data: Buffer): void {
    this.reader.push(data);
    try {
      for (let body = this.reader.next(); body !== undefined; body = this.reader.next())
        this.answer(decodeBody(body));
    } catch (error) {
      this.fail(error as Error);
      this.socket.destroy();
    }
  }

  private answer({ id, ok, ...fields }: Record<string, unknown>): void {
    const text = (name: string): string => (typeof fields[name] === 'string' ? fields[name] : '');
    const error = (): ControlError =>
      new ControlError(text('code') as ErrorCode, text('message'), text('hint'));
    // No id: the daemon refuses the connection as a whole.
    if (typeof id !== 'number') return this.fail(error());
    const waiting = this.waiting.get(id);
    this.waiting.delete(id);
    if (ok === true) waiting?.resolve(fields);
    else waiting?.reject(error());
  }

  private fail(error: Error): void {
    this.broken ??= error;
    for (const waiting of this.waiting.values()) waiting.reject(this.broken);
    this.waiting.clear();
  }
}

function connectError(error: NodeJS.ErrnoException, paths: RunPaths): ControlError {
  if (error.code === 'ENOENT' || error.code === 'ECONNREFUSED') {
    return new ControlError(
      'not-running',
      `the daemon is not running (nobody listens on ${paths.control})`,
      'Start it with: hyperflux start',
    );
  }
  if (error.code === 'EACCES' || error.code === 'EPERM') {
    return new ControlError(
      'permission',
      `you may not connect to ${paths.control}`,
      'Use the account that started the daemon, or set HYPERFLUX_RUN to a directory of yours.',
    );
  }
  return new ControlError('failed', `cannot connect to ${paths.control}: ${error.message}`);
}

/**
 * The control socket. Each client gets its answers in the order of its requests; a
 * client that sends nonsense is told so and closed, one that vanishes is forgotten,
 * and neither is noticed by anybody else.
 */
import { chmodSync, unlinkSync } from 'node:fs';
import type { Server, Socket } from 'node:net';
import { createServer } from 'node:net';
import { ABI_MAJOR, ABI_MINOR } from '../abi/layout.gen.ts';
import { decodeBody, encodeFrame, FrameError, FrameReader } from './frames.ts';
import type { ControlOp } from './protocol.ts';
import {
  checkHello,
  CONTROL_PROTOCOL,
  ControlError,
  helloRequest,
  isOp,
  requests,
  toError,
  VERSION,
} from './protocol.ts';

/** Answers to a request; the fields were checked. */
export type Handler = (op: ControlOp, fields: Record<string, unknown>) => Promise<object>;

export interface ServerOptions {
  path: string;
  handler: Handler;
  maxClients?: number;
  /** How long a frame may stay half sent. */
  stallMs?: number;
}

/** A client that does not take its answers is closed when so much waits for it. */
const BACKLOG_MAX = 4 << 20;

class Client {
  private readonly socket: Socket;
  private readonly options: ServerOptions;
  private readonly reader = new FrameReader();
  private greeted = false;
  private closing = false;
  /** The answer before the next: requests of one client are carried out one after the other. */
  private turn: Promise<void> = Promise.resolve();
  private waiting = 0;

  constructor(socket: Socket, options: ServerOptions) {
    this.socket = socket;
    this.options = options;
    socket.setTimeout(options.stallMs ?? 10_000);
    socket.on('data', (data: Buffer) => this.data(data));
    socket.on('end', () => this.ended());
    socket.on('timeout', () => {
      if (this.reader.pending > 0) this.truncated('stopped in the middle of a frame');
    });
    // A client that is gone: its requests go on, their answers are dropped.
    socket.on('error', () => socket.destroy());
  }

  refuse(error: unknown, id: unknown = null): void {
    this.send({ id, ok: false, ...toError(error) });
    this.closing = true;
    this.socket.end();
  }

  private data(data: Buffer): void {
    if (this.closing) return;
    this.reader.push(data);
    try {
      for (let body = this.reader.next(); body !== undefined && !this.closing; body = this.reader.next()) {
        this.request(decodeBody(body));
      }
    } catch (error) {
      // The stream cannot be cut into frames any more, or was not the protocol at all.
      this.refuse(error);
    }
  }

  private ended(): void {
    if (this.reader.pending > 0 && !this.closing) this.truncated('ended in the middle of a frame');
    else void this.turn.then(() => this.socket.end());
  }

  private truncated(what: string): void {
    this.refuse(new FrameError(`the connection ${what}: only ${this.reader.pending} bytes of it came`));
  }

  private request(message: Record<string, unknown>): void {
    const { id, op, ...fields } = message;
    if (typeof id !== 'number' || typeof op !== 'string') {
      this.refuse(new ControlError('request', 'a request needs id (a number) and op (a string)'), id);
      return;
    }
    if (op === 'hello') {
      this.hello(id, fields);
      return;
    }
    if (!this.greeted) {
      this.refuse(new ControlError('request', `hello has to come before ${op}`), id);
      return;
    }
    if (++this.waiting > 64) {
      this.refuse(
        new ControlError('busy', 'too many requests at once', 'Wait for answers before asking more.'),
        id,
      );
      return;
    }
    this.turn = this.turn.then(() => this.answer(id, op, fields));
  }

  private hello(id: number, fields: Record<string, unknown>): void {
    try {
      checkHello(helloRequest.parse(fields));
    } catch (error) {
      this.refuse(error, id);
      return;
    }
    this.greeted = true;
    const versions = {
      protocol: CONTROL_PROTOCOL,
      abi_major: ABI_MAJOR,
      abi_minor: ABI_MINOR,
      version: VERSION,
    };
    this.send({ id, ok: true, ...versions, pid: process.pid });
  }

  private async answer(id: number, op: string, fields: Record<string, unknown>): Promise<void> {
    try {
      if (!isOp(op)) {
        throw new ControlError(
          'request',
          `unknown request ${op}`,
          `There are ${Object.keys(requests).join(', ')}.`,
        );
      }
      const checked = requests[op].parse(fields);
      this.send({ id, ok: true, ...(await this.options.handler(op, checked)) });
    } catch (error) {
      this.send({ id, ok: false, ...toError(error) });
    }
    this.waiting--;
  }

  private send(message: object): void {
    if (this.socket.destroyed || !this.socket.writable) return;
    if (this.socket.writableLength > BACKLOG_MAX) {
      this.socket.destroy();
      return;
    }
    try {
      this.socket.write(encodeFrame(message));
    } catch (error) {
      this.socket.write(
        encodeFrame({ id: (message as { id?: unknown }).id ?? null, ok: false, ...toError(error) }),
      );
    }
  }
}

/** Listens; the lock of the run directory makes sure that an old socket file is nobody's. */
export async function serve(options: ServerOptions): Promise<Server> {
  try {
    unlinkSync(options.path);
  } catch (error) {
    if ((error as { code?: string }).code !== 'ENOENT') throw error;
  }
  let clients = 0;
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    const client = new Client(socket, options);
    clients++;
    socket.on('close', () => clients--);
    if (clients > (options.maxClients ?? 64)) {
      client.refuse(new ControlError('busy', 'too many clients', 'Close some connections and try again.'));
    }
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(options.path, resolve);
  });
  chmodSync(options.path, 0o600);
  return server;
}

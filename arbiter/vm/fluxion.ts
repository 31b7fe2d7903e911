/**
 * Speaking to a Fluxion (abi/protocol.h). Two ways: blocking calls with descriptors
 * for the arbiter's main thread, and a plain question over a Node socket for
 * hyperfluxd, which must not block.
 */
import { connect } from 'node:net';
import { Packr } from 'msgpackr';
import { closeFd, exchangeFrame, attachVm as exchangeAttach } from '../../native/index.ts';
import { ABI_MAJOR, ABI_MINOR, E_VERSION, FRAME_MAX, PROTOCOL } from '../abi/layout.gen.ts';
import type { AttachReply, HelloReply, Op, Replies, Requests } from '../abi/protocol.gen.ts';
import { FIELDS } from '../abi/protocol.gen.ts';

// No records: other languages do not know msgpackr's extension. Counters stay numbers to 2^53.
const packr = new Packr({ useRecords: false, variableMapSize: true, int64AsType: 'number' });

export class FluxionError extends Error {
  readonly code: string;
  readonly hint: string;

  constructor(code: string, message: string, hint = '') {
    super(message);
    this.code = code;
    this.hint = hint;
  }
}

const encode = <O extends Op>(id: number, op: O, fields: Requests[O]): Uint8Array =>
  packr.pack({ id, op, ...fields });
const hello = { protocol: PROTOCOL, abi_major: ABI_MAJOR, abi_minor: ABI_MINOR };

/** Checks a frame's body against what the answer to `op` has; throws what the Fluxion reports. */
function decode<O extends Op>(op: O, body: Uint8Array): Replies[O] {
  let reply: unknown;
  try {
    reply = packr.unpack(body);
  } catch {
    throw new FluxionError('frame', `the VM's answer to ${op} is not MessagePack`);
  }
  if (typeof reply !== 'object' || reply === null) {
    throw new FluxionError('request', `the VM's answer to ${op} is not a map`);
  }
  const fields = reply as Record<string, unknown>;
  if (fields.ok !== true) {
    const text = (name: string): string => (typeof fields[name] === 'string' ? fields[name] : '');
    throw new FluxionError(
      text('code') || 'request',
      text('message') || `the VM refused ${op}`,
      text('hint'),
    );
  }
  for (const [name, type] of Object.entries(FIELDS[`${op}_reply`])) {
    const value = fields[name];
    const good =
      type === 'bool'
        ? typeof value === 'boolean'
        : type === 'string'
          ? typeof value === 'string'
          : value !== undefined;
    if (!good || ((type === 'u32' || type === 'u64') && typeof value !== 'number')) {
      throw new FluxionError('request', `the VM's answer to ${op} has no valid field ${name}`);
    }
  }
  return reply as Replies[O];
}

export interface Attachment {
  /** The connection: once `manage` was said on it, it is the lease. */
  socket: number;
  /** The control page. */
  page: number;
  /** The hand-off table as this VM knows it. */
  table: number;
  hello: HelloReply;
  reply: AttachReply;
}

/** Connects, says hello and attach, and brings the descriptors. Blocks for `timeoutMs` at most a step. */
export function attachFluxion(path: string, timeoutMs: number): Attachment {
  const { fd, frames, fds } = exchangeAttach(
    path,
    encode(1, 'hello', hello),
    encode(2, 'attach', {}),
    timeoutMs,
  );
  const give = (): void => [...(fd === null ? [] : [fd]), ...fds].forEach(closeFd);
  try {
    const greeting = decode('hello', frames[0]);
    if (greeting.abi_major !== ABI_MAJOR) throw foreign(greeting);
    if (fd === null || frames.length < 2) throw new FluxionError('request', 'the VM closed the connection');
    const reply = decode('attach', frames[1]);
    if (fds.length !== 2)
      throw new FluxionError('request', `the VM sent ${fds.length} descriptors instead of 2`);
    return { socket: fd, page: fds[0], table: fds[1], hello: greeting, reply };
  } catch (error) {
    give();
    throw error;
  }
}

function foreign(greeting: HelloReply): FluxionError {
  const theirs = `${greeting.abi_major}.${greeting.abi_minor}`;
  return new FluxionError(
    E_VERSION,
    `the VM speaks ABI ${theirs}, this arbiter ${ABI_MAJOR}.${ABI_MINOR}`,
    'It stays unmanaged and goes on running; stop it and start it again to have it managed.',
  );
}

/** Takes the lease on a connection that has attached. */
export function manageFluxion(socket: number, epoch: number, timeoutMs: number): void {
  decode('manage', exchangeFrame(socket, encode(3, 'manage', { epoch }), timeoutMs).frame);
}

/** One question on a connection of its own. */
export function askFluxion<O extends Op>(
  path: string,
  op: O,
  fields: Requests[O],
  timeoutMs: number,
): Promise<Replies[O]> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    let received = Buffer.alloc(0);
    let greeted = false;
    const timer = setTimeout(
      () => fail(new FluxionError('timeout', `the VM did not answer ${op} in ${timeoutMs} ms`)),
      timeoutMs,
    );
    const end = (): void => {
      clearTimeout(timer);
      socket.destroy();
    };
    const fail = (error: Error): void => {
      end();
      reject(error);
    };
    const send = (body: Uint8Array): void => {
      const head = Buffer.alloc(4);
      head.writeUInt32LE(body.length);
      socket.write(Buffer.concat([head, body]));
    };
    const take = (body: Uint8Array): void => {
      if (!greeted) {
        decode('hello', body);
        greeted = true;
        send(encode(2, op, fields));
        return;
      }
      const reply = decode(op, body);
      end();
      resolve(reply);
    };
    socket.on('error', fail);
    socket.on('close', () => fail(new FluxionError('gone', 'the VM closed the connection')));
    socket.on('data', (data: Buffer) => {
      received = Buffer.concat([received, data]);
      while (received.length >= 4) {
        const length = received.readUInt32LE();
        if (length < 1 || length > FRAME_MAX)
          return fail(new FluxionError('frame', `the VM sent a frame of ${length} bytes`));
        if (received.length < 4 + length) return;
        const body = received.subarray(4, 4 + length);
        received = received.subarray(4 + length);
        try {
          take(body);
        } catch (error) {
          return fail(error as Error);
        }
      }
    });
    send(encode(1, 'hello', hello));
  });
}

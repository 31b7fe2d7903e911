// SPDX-License-Identifier: Apache-2.0
/**
 * The transport of abi/protocol.h, with descriptors, which Node's own sockets cannot receive. These calls block until
 * their timeout; they are for a main thread with nothing else to do.
 */
import { addon } from './addon.ts';

export interface Exchange {
  /** The answer's MessagePack body. */
  frame: Uint8Array;
  /** Descriptors that came along, closed on exec; the caller owns them. */
  fds: number[];
}

/** Connects to a Unix socket. Throws `ENOENT` or `ECONNREFUSED` where nobody listens. */
export const connectUnix: (path: string, timeoutMs: number) => number = addon.connectUnix;

/**
 * Sends one body (the length goes before it by itself) and reads one answer. Throws `ECONNRESET` or `EPIPE` if the
 * other side closed, `ETIMEDOUT`, `EPROTO` for an impossible length. After an error the connection is good for nothing.
 */
export const exchangeFrame: (fd: number, body: Uint8Array, timeoutMs: number) => Exchange =
  addon.exchangeFrame;

/** Who is at the other end of a Unix socket. */
export const peerCred: (fd: number) => { pid: number; uid: number; gid: number } = addon.peerCred;

export interface Attached {
  /**
   * The connection, to be kept open. null if the other side closed it after its answer to hello, which is then the
   * only frame and tells why.
   */
  fd: number | null;
  /** Bodies of the answers, in order. */
  frames: Uint8Array[];
  /** All descriptors that came along; after a good attach, the control page and the table. */
  fds: number[];
}

/** Connects to a Fluxion and says hello and attach; both are MessagePack bodies. The timeout is for each step. */
export function attachVm(
  socketPath: string,
  hello: Uint8Array,
  attach: Uint8Array,
  timeoutMs: number,
): Attached {
  const fd = connectUnix(socketPath, timeoutMs);
  const fds: number[] = [];
  const frames: Uint8Array[] = [];
  try {
    for (const body of [hello, attach]) {
      const answer = exchangeFrame(fd, body, timeoutMs);
      frames.push(answer.frame);
      fds.push(...answer.fds);
    }
    return { fd, frames, fds };
  } catch (error) {
    const code = (error as { code?: unknown }).code;
    addon.closeFd(fd);
    for (const received of fds) {
      addon.closeFd(received);
    }
    if (frames.length === 1 && (code === 'ECONNRESET' || code === 'EPIPE')) {
      return { fd: null, frames, fds: [] };
    }
    throw error;
  }
}

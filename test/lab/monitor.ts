/**
 * QEMU's monitor (QMP): how the machine came to its end, and what its CPUs were at then. A machine that resets
 * itself, as by a triple fault, has no kernel left that could tell.
 */
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** How long QEMU may take to show the registers. */
const ANSWER_MS = 10_000;

export interface Monitor {
  path: string;
  /** The guest's end, when QEMU has told of it: QEMU stands still then, and is to be ended. */
  stopped: Promise<Stop>;
  close(): void;
}

export interface Stop {
  /** QEMU's word: guest-shutdown, guest-reset, guest-panic... */
  reason: string;
  /** All CPUs' registers if the machine reset itself. */
  registers: string;
}

interface Message {
  event?: string;
  data?: { reason?: string };
  return?: unknown;
  error?: unknown;
}

const isReset = (reason: string): boolean => reason.endsWith('-reset');

export async function openMonitor(folder: string): Promise<Monitor> {
  const path = join(folder, 'monitor');
  let tell: (stop: Stop) => void;
  const stopped = new Promise<Stop>((resolve) => (tell = resolve));
  let connection: Socket | undefined;
  const server = createServer((socket) => {
    connection = socket;
    server.close();
    void converse(socket, tell).catch(() => undefined);
  });
  server.listen(path);
  await once(server, 'listening');
  return {
    path,
    stopped,
    close: () => {
      connection?.destroy();
      server.close();
    },
  };
}

async function converse(socket: Socket, tell: (stop: Stop) => void): Promise<void> {
  const say = (execute: string, args?: object): void =>
    void socket.write(`${JSON.stringify({ execute, ...(args && { arguments: args }) })}\n`);
  const end = new AbortController();
  let reason: string | undefined;
  const stop = (registers: string): void => {
    end.abort();
    tell({ reason: reason ?? '', registers: general(registers) });
  };
  say('qmp_capabilities');
  for await (const line of lines(socket)) {
    const message = JSON.parse(line) as Message;
    if (message.event === 'SHUTDOWN' && reason === undefined) {
      reason = message.data?.reason ?? 'no reason';
      if (!isReset(reason)) return stop('');
      say('human-monitor-command', { 'command-line': 'info registers -a' });
      void sleep(ANSWER_MS, undefined, { signal: end.signal }).then(
        () => stop('QEMU does not show them'),
        () => undefined,
      );
    } else if (reason !== undefined && ('return' in message || 'error' in message)) {
      const { return: text } = message;
      return stop(typeof text === 'string' ? text : JSON.stringify(message));
    }
  }
}

/** Without the floating point and vector registers, which are most of it and say nothing. */
function general(registers: string): string {
  const shown = registers.replaceAll('\r', '').split('\n');
  return shown.filter((line) => line !== '' && !/^(FCW|FPR|[XYZ]MM|Opmask)/.test(line)).join('\n');
}

async function* lines(socket: Socket): AsyncGenerator<string> {
  let rest = '';
  for await (const chunk of socket.setEncoding('utf8') as AsyncIterable<string>) {
    const parts = (rest + chunk).split('\n');
    rest = parts.pop() ?? '';
    yield* parts.filter((part) => part.trim() !== '');
  }
}

/** What QEMU noted of CPUs that reset themselves or were reset, from the last triple fault on if there is one. */
export function lastResets(log: string): string {
  const at = log.lastIndexOf('Triple fault');
  return at < 0 ? '' : log.slice(at).trim();
}

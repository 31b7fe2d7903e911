// SPDX-License-Identifier: Apache-2.0
/** A service manager's socket for tests: a small C program, because Node has no Unix datagram sockets. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { join } from 'node:path';

export interface Message {
  /** Who sent it, told by the kernel. */
  pid: number;
  /** Its lines. */
  lines: string[];
}

export interface Manager {
  messages: Message[];
  /** Ends when a message has come that has this line. */
  until(line: string | RegExp): Promise<Message>;
  /** The same for messages from number `from` on. */
  untilAfter(from: number, line: string | RegExp): Promise<Message>;
  close(): void;
}

/** Listens at a path or at `@name`; what is built for it goes into `folder`. */
export async function listen(folder: string, address: string): Promise<Manager> {
  const program = join(folder, 'datagrams');
  const source = fileURLToPath(new URL('datagrams.c', import.meta.url));
  execFileSync(process.env.CXX ?? 'g++', ['-x', 'c++', '-w', '-o', program, source]);
  const child = spawn(program, [address], { stdio: ['ignore', 'pipe', 'inherit'] });
  const reader = createInterface({ input: child.stdout });
  const messages: Message[] = [];
  let news: (() => void)[] = [];
  const ready = once(reader, 'line');
  reader.on('line', (text: string) => {
    const [, pid, rest] = /^(\d+) (.*)$/.exec(text) ?? [];
    if (pid === undefined) return;
    messages.push({ pid: Number(pid), lines: rest.split(';') });
    for (const tell of news.splice(0)) tell();
  });
  await ready;
  async function untilAfter(from: number, line: string | RegExp): Promise<Message> {
    const has = (text: string): boolean => (typeof line === 'string' ? text === line : line.test(text));
    for (let seen = from; ;) {
      for (; seen < messages.length; seen++) if (messages[seen].lines.some(has)) return messages[seen];
      await new Promise<void>((resolve) => (news = [...news, resolve]));
    }
  }
  return {
    messages,
    until: (line) => untilAfter(0, line),
    untilAfter,
    close: () => void child.kill('SIGKILL'),
  };
}

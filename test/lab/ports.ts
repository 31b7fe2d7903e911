/**
 * The guest's ports: each is a socket that QEMU connects to. A port's contents end with a mark, so that the host
 * knows when it has all of them: what is still on its way when the machine ends would be lost.
 */
import { once } from 'node:events';
import type { Server, Socket } from 'node:net';
import { createServer } from 'node:net';
import { join } from 'node:path';

export interface Port {
  path: string;
  /** Resolves with true at the mark, with false if the port was closed without one. */
  ended: Promise<boolean>;
  close(): void;
}

/** Passes on what comes before the mark, never a part of the mark itself. */
export class MarkFilter {
  private readonly mark: Buffer;
  private kept: Buffer = Buffer.alloc(0);
  done = false;

  constructor(token: string) {
    this.mark = Buffer.from(`\0end ${token}\n`);
  }

  push(chunk: Buffer): Buffer {
    if (this.done) return Buffer.alloc(0);
    const all = Buffer.concat([this.kept, chunk]);
    const at = all.indexOf(this.mark);
    if (at >= 0) {
      this.done = true;
      return all.subarray(0, at);
    }
    // Only what could be the beginning of the mark is held back: a prompt must appear at once.
    const from = Math.max(0, all.length - this.mark.length + 1);
    let hold = all.indexOf(0, from);
    while (hold >= 0 && !all.subarray(hold).equals(this.mark.subarray(0, all.length - hold)))
      hold = all.indexOf(0, hold + 1);
    this.kept = hold < 0 ? Buffer.alloc(0) : Buffer.from(all.subarray(hold));
    return hold < 0 ? all : all.subarray(0, hold);
  }

  /** What was held back and was no mark after all, because nothing more came. */
  rest(): Buffer {
    return this.done ? Buffer.alloc(0) : this.kept;
  }
}

/** Listens for QEMU; everything but the mark goes to `take`, which may ask to be waited for. */
export async function openPort(
  folder: string,
  name: string,
  token: string,
  take: (chunk: Buffer) => void | Promise<void>,
): Promise<Port> {
  const path = join(folder, name);
  const filter = new MarkFilter(token);
  let end: (whole: boolean) => void;
  const ended = new Promise<boolean>((resolve) => (end = resolve));
  let connection: Socket | undefined;
  const server: Server = createServer((socket) => {
    connection = socket;
    const read = async (): Promise<void> => {
      for await (const chunk of socket as AsyncIterable<Buffer>) {
        const part = filter.push(chunk);
        if (part.length > 0) await take(part);
        if (filter.done) end(true);
      }
      await take(filter.rest());
    };
    // A reset connection is QEMU's end, which is dealt with where QEMU is.
    void read()
      .catch(() => undefined)
      .then(() => end(false));
    server.close();
  });
  server.listen(path);
  await once(server, 'listening');
  return {
    path,
    ended,
    close: () => {
      connection?.destroy();
      server.close();
      end(false);
    },
  };
}

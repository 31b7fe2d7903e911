/** Lines of files that are too large to be read at once. */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';

const CHUNK = 1 << 22;

/** `progress`: called now and then with the share of the file that has been read. */
export function* linesOf(path: string, progress?: (share: number) => void): Generator<string> {
  const file = openSync(path, 'r');
  try {
    const total = Math.max(1, fstatSync(file).size);
    const chunk = Buffer.allocUnsafe(CHUNK);
    let rest = '';
    let done = 0;
    for (;;) {
      // The files are ASCII: no character is torn between two chunks.
      const bytes = readSync(file, chunk);
      if (bytes === 0) break;
      done += bytes;
      const lines = (rest + chunk.toString('latin1', 0, bytes)).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) yield line.endsWith('\r') ? line.slice(0, -1) : line;
      progress?.(done / total);
    }
    if (rest !== '') yield rest;
  } finally {
    closeSync(file);
  }
}

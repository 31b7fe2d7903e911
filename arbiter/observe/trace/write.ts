/** Writes a trace to a file, a piece at a time: it may be larger than a string can be. */
import { closeSync, openSync, writeSync } from 'node:fs';
import { ControlError } from '../../control/protocol.ts';
import type { Entry } from './convert.ts';

const PIECE = 1 << 16;

/** Opens the file now, so that a trace is not made in vain. */
export function openOutput(path: string): number {
  try {
    return openSync(path, 'w', 0o644);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    throw new ControlError(
      code === 'EACCES' || code === 'EPERM' || code === 'EROFS' ? 'permission' : 'failed',
      `cannot write ${path}: ${message}`,
      'Name a file in a folder that exists and is yours with --out.',
    );
  }
}

/** Returns the bytes written. Closes the file. */
export function writeTrace(fd: number, path: string, entries: Iterable<Entry>): number {
  let bytes = 0;
  let piece = '{"displayTimeUnit":"ns","traceEvents":[\n';
  const flush = (): void => {
    const data = Buffer.from(piece);
    for (let at = 0; at < data.length;) at += writeSync(fd, data, at);
    bytes += data.length;
    piece = '';
  };
  try {
    let first = true;
    for (const entry of entries) {
      piece += (first ? '' : ',\n') + JSON.stringify(entry);
      first = false;
      if (piece.length > PIECE) flush();
    }
    piece += '\n]}\n';
    flush();
    return bytes;
  } catch (error) {
    throw new ControlError(
      'failed',
      `cannot write ${path}: ${(error as Error).message}`,
      'Choose another file with --out, or trace for a shorter time with --seconds.',
    );
  } finally {
    closeSync(fd);
  }
}

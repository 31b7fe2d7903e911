/** One process at a time in a folder of the cache: apt gives up where another one is at work, and make would mix two builds. */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { kill, pid } from 'node:process';
import { setTimeout as sleep } from 'node:timers/promises';

const POLL_MS = 200;

function take(file: string): boolean {
  try {
    writeFileSync(file, String(pid), { flag: 'wx' });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

/** Whether the process that holds the lock has ended without giving it back. */
function isStale(file: string): boolean {
  let holder: number;
  try {
    holder = Number.parseInt(readFileSync(file, 'utf8'), 10);
  } catch (error) {
    // Given back in this moment.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
  // Taken, and not filled in yet.
  if (Number.isNaN(holder)) return false;
  try {
    kill(holder, 0);
    return false;
  } catch (error) {
    // Anything else (EPERM): it lives, as another user.
    return (error as NodeJS.ErrnoException).code === 'ESRCH';
  }
}

export async function withLock<T>(file: string, work: () => Promise<T>): Promise<T> {
  mkdirSync(dirname(file), { recursive: true });
  while (!take(file)) {
    if (isStale(file)) rmSync(file, { force: true });
    else await sleep(POLL_MS);
  }
  try {
    return await work();
  } finally {
    rmSync(file, { force: true });
  }
}

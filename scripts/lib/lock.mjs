// @ts-check
// One set-up at a time in one tree: two at once would delete node_modules under each other's feet.
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { buildState } from './paths.mjs';
import { say } from './progress.mjs';

const lockFile = join(buildState, 'setup.lock');

/** @param {number} pid */
function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // EPERM: it lives, as another user.
    return /** @type {NodeJS.ErrnoException} */ (error).code === 'EPERM';
  }
}

function tryLock() {
  try {
    writeFileSync(lockFile, String(process.pid), { flag: 'wx' });
    return true;
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code === 'EEXIST') return false;
    throw error;
  }
}

/** The process that holds the lock; unknown when it was released meanwhile, or taken and not filled in yet. */
function readHolder() {
  try {
    return Number.parseInt(readFileSync(lockFile, 'utf8'), 10) || undefined;
  } catch {
    return undefined;
  }
}

/** @template T
 * @param {() => Promise<T>} work
 * @returns {Promise<T>} */
export async function withLock(work) {
  mkdirSync(buildState, { recursive: true });
  let told = false;
  while (!tryLock()) {
    const holder = readHolder();
    if (holder !== undefined && !isAlive(holder)) {
      rmSync(lockFile, { force: true });
      continue;
    }
    if (!told)
      say(
        `another set-up of this tree is running${holder ? ` (process ${holder})` : ''}; waiting for it ...`,
      );
    told = true;
    await sleep(200);
  }
  try {
    return await work();
  } finally {
    rmSync(lockFile, { force: true });
  }
}

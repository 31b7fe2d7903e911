// @ts-check
// Runs the steps that have something to do, and leaves a stamp for each.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { digest, listFiles } from './files.mjs';
import { withLock } from './lock.mjs';
import { anyExists, buildState, exists } from './paths.mjs';
import { runLogged, Failure } from './run.mjs';
import { requireTools } from './tools.mjs';

/** @typedef {import('../steps.mjs').Step} Step */

/** @param {Step} step */
const stampFile = (step) => join(buildState, 'stamps', step.name);

/** @param {Step} step */
const fingerprint = (step) => digest(listFiles(step.inputs, step.ignore), step.command);

/** @param {Step} step */
function isFresh(step) {
  if (!step.outputs.every(exists)) return false;
  try {
    return readFileSync(stampFile(step), 'utf8') === fingerprint(step);
  } catch {
    return false;
  }
}

/** @param {Step[]} steps
 * @param {{ force?: boolean }} [options]
 * @returns {Promise<boolean>} whether anything had to be done */
export async function build(steps, { force = false } = {}) {
  const present = steps.filter((step) => anyExists(step.when));
  /** @param {Step} step */
  const isDue = (step) => force || !isFresh(step);
  if (!present.some(isDue)) return false;

  return await withLock(async () => {
    // Looked at again: another set-up may have done it while this one waited.
    const due = present.filter(isDue);
    await requireTools([...new Set(due.flatMap((step) => step.needs))]);
    for (const [index, step] of due.entries())
      await runStep(step, `[${index + 1}/${due.length}] ${step.title}`);
    return due.length > 0;
  });
}

/** @param {Step} step
 * @param {string} label */
async function runStep(step, label) {
  // Taken before the step runs, so that an edit made meanwhile is not missed by the next run.
  const before = fingerprint(step);
  await runLogged(label, step.command, step);
  const absent = step.outputs.filter((path) => !exists(path));
  if (absent.length > 0) throw new Failure(`${step.name}: ended well but did not make ${absent.join(', ')}`);
  mkdirSync(join(buildState, 'stamps'), { recursive: true });
  writeFileSync(stampFile(step), before);
}

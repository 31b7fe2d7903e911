// @ts-check
// Runs one suite with its output passed through, and counts its tests.
import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { countCargo, countTap, countVitest, noCounts, withCrash } from './counts.mjs';
import { toolEnv } from './env.mjs';
import { buildState, root } from './paths.mjs';
import { vitestReport } from '../suites.mjs';

/** @typedef {import('../suites.mjs').Suite} Suite */

const defaultMinutes = 15;

/** @param {Suite} suite
 * @param {string[]} extra arguments to add to its command
 * @returns {Promise<import('./counts.mjs').Counts & { trouble?: string }>} */
export async function runSuite(suite, extra) {
  mkdirSync(buildState, { recursive: true });
  rmSync(vitestReport, { force: true });
  const { output, trouble } = await spawnSuite(suite, extra);
  return { ...withCrash(countTests(suite, output), trouble === undefined), trouble };
}

/** @param {Suite} suite
 * @param {string} output */
function countTests(suite, output) {
  if (suite.counts === 'cargo') return countCargo(output);
  if (suite.counts === 'tap') return countTap(output);
  try {
    return countVitest(readFileSync(vitestReport, 'utf8'));
  } catch {
    // It ended before it could report; its exit code says so as well.
    return noCounts();
  }
}

/** @param {Suite} suite
 * @param {string[]} extra
 * @returns {Promise<{ output: string, trouble?: string }>} */
function spawnSuite({ command, cwd = '.', env = {}, counts, minutes = defaultMinutes }, extra) {
  const colours = process.stdout.isTTY ? { CARGO_TERM_COLOR: 'always' } : {};
  const child = spawn(command[0], [...command.slice(1), ...extra], {
    cwd: join(root, cwd),
    env: { ...toolEnv(), ...colours, ...env },
    // Only what is counted from its output goes through a pipe; vitest keeps the terminal.
    stdio: ['ignore', counts === 'vitest' ? 'inherit' : 'pipe', 'inherit'],
    // A process group of its own, so that a suite that hangs is killed with all that it started.
    detached: true,
  });
  /** @param {NodeJS.Signals} signal */
  const killGroup = (signal) => {
    try {
      if (child.pid) process.kill(-child.pid, signal);
    } catch {
      // It has ended meanwhile.
    }
  };
  /** @param {NodeJS.Signals} signal */
  const onSignal = (signal) => {
    killGroup(signal);
    process.exit(130);
  };
  process.once('SIGINT', onSignal).once('SIGTERM', onSignal);

  let output = '';
  let hung = false;
  child.stdout?.on('data', (chunk) => {
    output += chunk;
    process.stdout.write(chunk);
  });
  const timer = setTimeout(() => {
    hung = true;
    killGroup('SIGKILL');
  }, minutes * 60_000);

  return new Promise((resolve) => {
    /** @param {string} [trouble] */
    const finish = (trouble) => {
      clearTimeout(timer);
      process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
      resolve({ output, trouble });
    };
    child.on('error', (error) => finish(`could not start: ${error.message}`));
    child.on('close', (code, signal) => {
      if (hung) finish(`killed, it had not ended after ${minutes} minutes`);
      else finish(code === 0 ? undefined : `ended with ${signal ?? `exit code ${code}`}`);
    });
  });
}

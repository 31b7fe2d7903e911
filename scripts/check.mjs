#!/usr/bin/env node
// @ts-check
// Formatters, linters, type checks and fresh generated files, all behind one command.
// Usage: npm run check [-- [--fix] [NAME ...]]; a NAME selects the checks whose names contain it.
import { spawn } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { argv, exit } from 'node:process';
import { checks } from './checks.mjs';
import { toolEnv } from './lib/env.mjs';
import { anyExists, root } from './lib/paths.mjs';
import { seconds } from './lib/progress.mjs';
import { Failure } from './lib/run.mjs';
import { requireTools } from './lib/tools.mjs';

/** @typedef {import('./checks.mjs').Check} Check */

const args = argv.slice(2);
const unknown = args.filter((arg) => arg.startsWith('-') && arg !== '--fix');
if (unknown.length > 0) {
  console.error(`unknown option: ${unknown.join(' ')}; usage: npm run check [-- [--fix] [NAME ...]]`);
  exit(2);
}
const fixing = args.includes('--fix');
const names = args.filter((arg) => !arg.startsWith('-'));
const chosen = checks.filter(
  ({ name, when }) => anyExists(when) && (names.length === 0 || names.some((part) => name.includes(part))),
);
if (chosen.length === 0) {
  console.error(
    `no check is called ${names.join(' or ')}; there are: ${checks.map(({ name }) => name).join(', ')}`,
  );
  exit(2);
}

/** @param {string[]} command
 * @param {Check} check
 * @returns {Promise<{ ok: boolean, output: string }>} */
function capture(command, { cwd = '.', env = {} }) {
  return new Promise((resolve) => {
    const child = spawn(command[0], command.slice(1), {
      cwd: join(root, cwd),
      env: { ...toolEnv(), ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    /** @param {Buffer} chunk */
    const collect = (chunk) => (output += chunk);
    child.stdout.on('data', collect);
    child.stderr.on('data', collect);
    child.on('error', (error) => resolve({ ok: false, output: error.message }));
    child.on('close', (code) => resolve({ ok: code === 0, output }));
  });
}

/** @param {Check} check
 * @returns {Promise<boolean>} */
async function runCheck(check) {
  const started = Date.now();
  const wrong = check.inProcess?.() ?? [];
  const { ok, output } = check.command
    ? await capture(check.command, check)
    : { ok: wrong.length === 0, output: wrong.join('\n') };
  console.log(`${ok ? 'ok  ' : 'FAIL'}  ${check.name} (${seconds(started)})`);
  if (!ok) console.log(output.trimEnd().replace(/^/gm, '      '));
  return ok;
}

try {
  await requireTools([...new Set(chosen.flatMap((check) => check.needs ?? []))]);
} catch (error) {
  if (!(error instanceof Failure)) throw error;
  console.error(error.message);
  exit(1);
}

if (fixing) {
  // One after the other: two fixers must not write one file at a time. What they cannot mend is reported below.
  for (const check of chosen) if (check.fix) await capture(check.fix, check);
}

const waiting = [...chosen];
let failed = 0;
const workers = Array.from({ length: Math.max(2, availableParallelism()) }, async () => {
  for (let check = waiting.shift(); check; check = waiting.shift()) if (!(await runCheck(check))) failed++;
});
await Promise.all(workers);
console.log(
  failed === 0 ? `\nall ${chosen.length} checks are well` : `\n${failed} of ${chosen.length} checks failed`,
);
exit(failed === 0 ? 0 : 1);

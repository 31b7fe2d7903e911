#!/usr/bin/env node
// @ts-check
// Runs every suite; the last line is the total of all of them, "N passed, N failed".
// Usage: npm test [-- [--only SUITE]... [VITEST ARGUMENT]...]; arguments for vitest select its suite alone.
import { existsSync } from 'node:fs';
import { argv, exit } from 'node:process';
import { add, noCounts, totalLine } from './lib/counts.mjs';
import { anyExists, pinnedNode } from './lib/paths.mjs';
import { seconds } from './lib/progress.mjs';
import { Failure } from './lib/run.mjs';
import { runSuite } from './lib/suite.mjs';
import { requireTools } from './lib/tools.mjs';
import { suites } from './suites.mjs';

/** @param {string[]} args */
function parseArguments(args) {
  /** @type {string[]} */
  const only = [];
  /** @type {string[]} */
  const forVitest = [];
  for (let i = 0; i < args.length; i++) {
    if (args[i] === '--only') only.push(...(args[++i] ?? '').split(','));
    else if (args[i].startsWith('--only=')) only.push(...args[i].slice('--only='.length).split(','));
    else forVitest.push(args[i]);
  }
  if (forVitest.length > 0 && only.length === 0) only.push('vitest');
  return { only, forVitest };
}

const { only, forVitest } = parseArguments(argv.slice(2));
const unknown = only.filter((name) => !suites.some((suite) => suite.name === name));
if (unknown.length > 0) {
  console.error(
    `no such suite: ${unknown.join(', ')}; there are: ${suites.map((suite) => suite.name).join(', ')}`,
  );
  exit(2);
}
if (!existsSync(pinnedNode)) {
  console.error('set-up has not been done; run this first: node scripts/setup.mjs');
  exit(1);
}

const total = noCounts();
/** @type {string[]} */
const summary = [];
for (const suite of suites) {
  if (only.length > 0 && !only.includes(suite.name)) continue;
  if (!anyExists(suite.when)) {
    summary.push(`${suite.name}: not there yet`);
    continue;
  }
  console.log(`\n== ${suite.name}`);
  await requireTools(suite.needs ?? []).catch((/** @type {unknown} */ error) => {
    if (!(error instanceof Failure)) throw error;
    console.log(error.message);
  });
  const started = Date.now();
  const { trouble, ...counts } = await runSuite(suite, suite.counts === 'vitest' ? forVitest : []);
  add(total, counts);
  summary.push(
    `${suite.name}: ${totalLine(counts)} in ${seconds(started)}${trouble ? `; FAILED, ${trouble}` : ''}`,
  );
}

console.log(`\n== summary\n${summary.join('\n')}\n\n${totalLine(total)}`);
// A run in which nothing was tested is no success.
process.exitCode = total.failed > 0 || total.passed === 0 ? 1 : 0;

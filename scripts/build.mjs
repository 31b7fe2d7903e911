#!/usr/bin/env node
// @ts-check
// Builds by hand. Usage: node scripts/build.mjs [--list] [--force] [STEP ...]
import { argv, exit } from 'node:process';
import { build } from './lib/build.mjs';
import { anyExists } from './lib/paths.mjs';
import { say, seconds } from './lib/progress.mjs';
import { Failure } from './lib/run.mjs';
import { steps } from './steps.mjs';

const started = Date.now();
const names = argv.slice(2).filter((arg) => !arg.startsWith('--'));
const flags = argv.slice(2).filter((arg) => arg.startsWith('--'));
const bad = [
  ...flags.filter((flag) => flag !== '--list' && flag !== '--force'),
  ...names.filter((name) => !steps.some((step) => step.name === name)),
];

if (bad.length > 0) {
  say(
    `unknown: ${bad.join(', ')}\nusage: node scripts/build.mjs [--list] [--force] [${steps.map((s) => s.name).join(' | ')}]`,
  );
  exit(2);
}
if (flags.includes('--list')) {
  for (const step of steps) {
    console.log(
      `${step.name.padEnd(12)} ${step.title}${anyExists(step.when) ? '' : ` (skipped: no ${step.when})`}`,
    );
  }
  exit(0);
}
try {
  const chosen = names.length > 0 ? steps.filter((step) => names.includes(step.name)) : steps;
  const worked = await build(chosen, { force: flags.includes('--force') });
  say(worked ? `build done in ${seconds(started)}` : 'nothing to do');
} catch (error) {
  say(`build failed: ${error instanceof Failure ? error.message : /** @type {Error} */ (error).stack}`);
  exit(1);
}

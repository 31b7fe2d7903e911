#!/usr/bin/env node
// @ts-check
// All the set-up that a fresh machine needs; `npm start` and `npm test` run it first. It does nothing, quickly,
// when nothing changed. Usage: node scripts/setup.mjs [STEP ...]
import { argv, exit, platform, arch } from 'node:process';
import { build } from './lib/build.mjs';
import { say, seconds } from './lib/progress.mjs';
import { Failure } from './lib/run.mjs';
import { steps } from './steps.mjs';

const started = Date.now();
const wanted = argv.slice(2);
const unknown = wanted.filter((name) => !steps.some((step) => step.name === name));

try {
  if (platform !== 'linux' || arch !== 'x64')
    throw new Failure(`HyperFlux runs on Linux x86-64, not on ${platform} ${arch}`);
  if (unknown.length > 0) {
    throw new Failure(
      `no such step: ${unknown.join(', ')}; there are: ${steps.map((step) => step.name).join(', ')}`,
    );
  }
  const chosen = wanted.length > 0 ? steps.filter((step) => wanted.includes(step.name)) : steps;
  if (await build(chosen)) say(`set-up done in ${seconds(started)}`);
} catch (error) {
  say(`set-up failed: ${error instanceof Failure ? error.message : /** @type {Error} */ (error).stack}`);
  exit(1);
}

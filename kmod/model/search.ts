// SPDX-License-Identifier: GPL-2.0
/** One exhaustive search: the model with its features is translated, compiled and run. */
import { spawn } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Trouble } from './spin.ts';
import type { Variant } from './variants.ts';

/** Of one search; two run at a time, and the machine is not theirs alone. */
const MEMORY_MIB = 1900;
/** Far more than any variant needs. A search that reaches it is not exhaustive, and fails. */
const DEPTH = 1_500_000;

export interface Outcome {
  /** Every state was visited and none is wrong. */
  holds: boolean;
  /** A mistake was found. */
  found: boolean;
  /** Why it is neither. */
  incomplete?: string;
  states: number;
  depth: number;
  seconds: number;
  /** The checker's own line about the mistake. */
  error?: string;
}

interface Ran {
  code: number | null;
  output: string;
  timedOut: boolean;
}

const living = new Set<() => void>();

/** Ends what is still running; called when this program is told to end. */
export function killAll(): void {
  for (const kill of living) kill();
}

function run(command: readonly string[], cwd: string, seconds: number): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const child = spawn(command[0], command.slice(1), { cwd, stdio: ['ignore', 'pipe', 'pipe'] });
    const kill = (): void => void child.kill('SIGKILL');
    living.add(kill);
    let output = '';
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = true;
      kill();
    }, seconds * 1000);
    const keep = (chunk: Buffer): void => {
      output += chunk.toString();
    };
    child.stdout.on('data', keep);
    child.stderr.on('data', keep);
    const done = (): void => {
      clearTimeout(timer);
      living.delete(kill);
    };
    child.on('error', (error) => {
      done();
      reject(new Trouble(`${command[0]} could not be started: ${error.message}`));
    });
    child.on('close', (code) => {
      done();
      resolve({ code, output, timedOut });
    });
  });
}

async function step(what: string, command: readonly string[], cwd: string): Promise<void> {
  const { code, output, timedOut } = await run(command, cwd, 120);
  if (code === 0 && !timedOut) return;
  const tail = output.trim().split('\n').slice(-5).join('\n');
  throw new Trouble(`${what} failed${timedOut ? ': it took more than 120 s' : ''}\n${tail}`);
}

const number = (output: string, pattern: RegExp): number => Number(pattern.exec(output)?.[1] ?? 0);

function judge({ output, timedOut }: Ran, seconds: number, limit: number): Outcome {
  const errors = /errors: /.test(output) ? number(output, /errors: (\d+)/) : NaN;
  const outcome: Outcome = {
    holds: false,
    found: errors > 0,
    states: number(output, /(\d+) states, stored/),
    depth: number(output, /depth reached (\d+)/),
    seconds,
  };
  if (outcome.found) outcome.error = /^pan:\d+: (.*)$/m.exec(output)?.[1];
  else if (timedOut) outcome.incomplete = `not through after ${limit} s`;
  else if (/max search depth too small/.test(output)) outcome.incomplete = `deeper than ${DEPTH}`;
  else if (/out of memory|memory bound|MEMLIM/.test(output))
    outcome.incomplete = `needs more than ${MEMORY_MIB} MiB`;
  else if (errors !== 0 || /Search not completed/.test(output))
    outcome.incomplete = output.trim().split('\n').at(-1) ?? 'it said nothing';
  else outcome.holds = true;
  return outcome;
}

/** The commands, for whoever wants to look at a mistake by hand. */
export function commands(spin: string, model: string, variant: Variant): string[][] {
  const defines = variant.features.map((feature) => `-D${feature}`);
  const fair = variant.ltl !== undefined;
  return [
    [spin, ...defines, '-a', model],
    // Fairness needs its counters; a search for mistakes alone needs no claim.
    [
      'cc',
      '-O2',
      '-w',
      ...(fair ? ['-DCOLLAPSE', '-DNFAIR=3'] : ['-DSAFETY', '-DNOFAIR']),
      `-DMEMLIM=${MEMORY_MIB}`,
      '-o',
      'pan',
      'pan.c',
    ],
    ['./pan', `-m${DEPTH}`, ...(variant.ltl === undefined ? [] : ['-a', '-f', '-N', variant.ltl])],
  ];
}

export async function search(
  spin: string,
  model: string,
  variant: Variant,
  folder: string,
  limit: number,
): Promise<Outcome> {
  const cwd = join(folder, variant.name);
  rmSync(cwd, { recursive: true, force: true });
  mkdirSync(cwd, { recursive: true });
  const [translate, compile, pan] = commands(spin, model, variant);
  await step('the translation of the model', translate, cwd);
  await step('the compilation of the checker', compile, cwd);
  const started = Date.now();
  const ran = await run(pan, cwd, limit);
  return judge(ran, (Date.now() - started) / 1000, limit);
}

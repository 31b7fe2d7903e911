// SPDX-License-Identifier: GPL-2.0
/**
 * Checks the model of kFlux's hand-over: every variant exhaustively, and that every mutant is found.
 *
 *   node kmod/model/check.ts [--seconds N] [--jobs N] [NAME...]
 *
 * Results go to stdout as TAP lines, with a table at the end; progress goes to stderr. Exit code: 0 if all is
 * well, 1 if a variant fails or a mutant survives, 2 if the checker cannot be run.
 */
import { availableParallelism } from 'node:os';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { Outcome } from './search.ts';
import { commands, killAll, search } from './search.ts';
import { findSpin, onPath, Trouble } from './spin.ts';
import type { Variant } from './variants.ts';
import { mutants, variants } from './variants.ts';

const here = fileURLToPath(new URL('.', import.meta.url));
const root = fileURLToPath(new URL('../..', import.meta.url));
const model = join(here, 'kflux.pml');
const folder = join(root, '.build/model');

interface Job {
  number: number;
  variant: Variant;
  mutant: boolean;
}

interface Result extends Job {
  outcome: Outcome;
  ok: boolean;
}

const whole = (text: string, name: string): number => {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1)
    throw new Trouble(`--${name} wants a whole number from 1 on, not ${JSON.stringify(text)}`);
  return value;
};

function readArguments(): { jobs: Job[]; seconds: number; atOnce: number } {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { seconds: { type: 'string', default: '300' }, jobs: { type: 'string' } },
  });
  const all = [
    ...variants.map((variant) => ({ variant, mutant: false })),
    ...mutants.map((variant) => ({ variant, mutant: true })),
  ];
  const unknown = positionals.find((name) => all.every(({ variant }) => variant.name !== name));
  if (unknown !== undefined) {
    const names = all.map(({ variant }) => variant.name).join(', ');
    throw new Trouble(`there is no variant ${JSON.stringify(unknown)}; there are: ${names}`);
  }
  const chosen = all.filter(({ variant }) => positionals.length === 0 || positionals.includes(variant.name));
  return {
    jobs: chosen.map((job, index) => ({ ...job, number: index + 1 })),
    seconds: whole(values.seconds, 'seconds'),
    // Each may take two gigabytes.
    atOnce: values.jobs === undefined ? Math.min(2, availableParallelism()) : whole(values.jobs, 'jobs'),
  };
}

function verdict({ mutant }: Job, outcome: Outcome): string {
  if (outcome.incomplete !== undefined) return `INCOMPLETE: ${outcome.incomplete}`;
  if (mutant) return outcome.found ? 'found' : 'SURVIVES';
  return outcome.holds ? 'holds' : `FAILS: ${outcome.error ?? 'see its trail'}`;
}

/** How to see the steps that lead to a mistake. */
function hint(spin: string, { variant }: Job): string {
  const [translate] = commands(spin, model, variant);
  const replay = [...translate.slice(0, -2), '-t', '-p', '-k', 'kflux.pml.trail', model].join(' ');
  return `# its steps: cd ${relative(process.cwd(), join(folder, variant.name)) || '.'} && ${replay}`;
}

function report(spin: string, result: Result): void {
  const { number, variant, outcome, ok, mutant } = result;
  const counted = `${outcome.states} states, depth ${outcome.depth}, ${outcome.seconds.toFixed(1)} s`;
  const name = `${mutant ? 'mutant ' : ''}${variant.name}: ${variant.about}`;
  console.log(`${ok ? 'ok' : 'not ok'} ${number} - ${name} # ${verdict(result, outcome)}, ${counted}`);
  if (!mutant && outcome.found) console.log(hint(spin, result));
}

function table(results: readonly Result[]): string {
  const rows = [
    ['variant', 'states', 'depth', 'seconds', 'verdict'],
    ...results.map((result) => [
      `${result.mutant ? 'mutant ' : ''}${result.variant.name}`,
      String(result.outcome.states),
      String(result.outcome.depth),
      result.outcome.seconds.toFixed(1),
      verdict(result, result.outcome),
    ]),
  ];
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  const line = (row: string[]): string =>
    row.map((cell, i) => (i > 0 && i < 4 ? cell.padStart(widths[i]) : cell.padEnd(widths[i]))).join('  ');
  return rows.map((row) => `# ${line(row).trimEnd()}`).join('\n');
}

/** Runs the jobs, some at once, and reports each when it is through. */
async function runAll(
  spin: string,
  jobs: readonly Job[],
  seconds: number,
  atOnce: number,
): Promise<Result[]> {
  const waiting = [...jobs];
  const results: Result[] = [];
  const worker = async (): Promise<void> => {
    for (let job = waiting.shift(); job !== undefined; job = waiting.shift()) {
      process.stderr.write(`${job.variant.name} ...\n`);
      const outcome = await search(spin, model, job.variant, folder, seconds);
      const result = { ...job, outcome, ok: job.mutant ? outcome.found : outcome.holds };
      results.push(result);
      report(spin, result);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  return results.sort((a, b) => a.number - b.number);
}

async function main(): Promise<number> {
  const { jobs, seconds, atOnce } = readArguments();
  if (onPath('cc') === undefined)
    throw new Trouble(
      'there is no C compiler\nnext step: install one (Debian: apt-get install gcc libc6-dev)',
    );
  const spin = await findSpin();
  console.log(`1..${jobs.length}`);
  const results = await runAll(spin, jobs, seconds, atOnce);
  const failed = results.filter(({ ok }) => !ok).length;
  console.log(table(results));
  console.log(`${results.length - failed} passed, ${failed} failed`);
  return failed === 0 ? 0 : 1;
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    killAll();
    process.exit(130);
  });
}

try {
  process.exitCode = await main();
} catch (error) {
  killAll();
  // parseArgs explains itself as well.
  const explained = error instanceof Trouble || (error instanceof TypeError && 'code' in error);
  console.error(explained ? `check: ${error.message}` : error);
  process.exitCode = 2;
}

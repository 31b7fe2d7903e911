/** kFlux's test suite in the lab: the cases, the kernel's log, and the trace of the stress against the rules. */
import { spawn } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { join } from 'node:path';
import { argv } from 'node:process';
import { createInterface } from 'node:readline';
import { resetIsShown } from './reset.ts';
import type { SuiteOptions } from './options.ts';
import { labCommand, parseOptions, usage, UsageError } from './options.ts';
import { TapReader } from './tap.ts';
import { describe, TraceChecker } from './trace/check.ts';

const root = join(import.meta.dirname, '../..');
/** Exit codes of the lab: the command was fine and the kernel was not; the kernel did not live to tell. */
const KERNEL_COMPLAINED = 120;
const KERNEL_CRASHED = 121;
const NOT_RUN = [124, 125, 130];

interface Ending {
  code: number;
  /** What there is to say about how the lab ended. */
  ending: string;
  tap: TapReader;
  checker: TraceChecker;
  traced: boolean;
}

/** The cases' reports come by the standard output, the trace by the standard error, with what the lab says. */
async function runInLab(options: SuiteOptions): Promise<Ending> {
  const tap = new TapReader();
  const checker = new TraceChecker();
  let traced = false;
  const keep = options.keepTrace === undefined ? undefined : createWriteStream(options.keepTrace);
  const child = spawn(join(root, 'hyperflux'), labCommand(options), {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const stop = (signal: NodeJS.Signals): void => void child.kill(signal);
  process.on('SIGINT', stop).on('SIGTERM', stop);
  createInterface({ input: child.stdout }).on('line', (line) => {
    tap.line(line);
    console.log(line);
  });
  createInterface({ input: child.stderr }).on('line', (line) => {
    if (!checker.line(line)) return console.error(line);
    traced = true;
    keep?.write(`${line}\n`);
  });
  const [code, ending] = await new Promise<[number, string]>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (status, signal) =>
      resolve([status ?? 1, signal === null ? `exit code ${status}` : `signal ${signal}`]),
    );
  });
  process.off('SIGINT', stop).off('SIGTERM', stop);
  await new Promise<void>((resolve) => (keep === undefined ? resolve() : keep.end(resolve)));
  return { code, ending, tap, checker, traced };
}

async function main(options: SuiteOptions): Promise<number> {
  const { code, ending, tap, checker, traced } = await runInLab(options);
  const report = (good: boolean, name: string, why: readonly string[] = []): void => {
    const line = `${good ? 'ok' : 'not ok'} - ${name}`;
    tap.line(line);
    console.log([line, ...why.map((text) => `#   ${text}`)].join('\n'));
  };
  const { missing } = tap;
  report(
    missing === undefined,
    'suite: every planned case has reported',
    missing ? [missing, `the lab ended with ${ending}`] : [],
  );
  if (!NOT_RUN.includes(code))
    report(
      code !== KERNEL_COMPLAINED && code !== KERNEL_CRASHED,
      'suite: the kernel had nothing to complain about',
    );
  // A filter may leave the stress out.
  if (traced || (options.filter === undefined && tap.tally.planned !== undefined)) {
    const verdict = checker.end();
    report(verdict.violations.length === 0, 'trace: every rule of the protocol was kept', describe(verdict));
  }
  if (options.filter === undefined && !NOT_RUN.includes(code)) {
    const why = await resetIsShown(options);
    report(why.length === 0, 'lab: a machine that resets itself is shown with its registers', why);
  }
  const { passed, failed, skipped } = tap.tally;
  if (code !== 0 && code !== KERNEL_COMPLAINED && failed === 0)
    report(false, `suite: the lab ended with ${ending}`);
  console.log(`\nkflux suite: ${passed} passed, ${tap.tally.failed} failed, ${skipped} skipped`);
  return tap.tally.failed > 0 || passed === 0 ? 1 : 0;
}

try {
  process.exitCode = await main(parseOptions(argv.slice(2)));
} catch (error) {
  if (!(error instanceof UsageError)) throw error;
  console.error(`${error.message}\n${usage}`);
  process.exitCode = 2;
}

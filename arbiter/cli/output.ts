/** How the command line ends and how it says what went wrong. */
import { ControlError, toError } from '../control/protocol.ts';

export const EXIT_OK = 0;
export const EXIT_FAILED = 1;
export const EXIT_USAGE = 2;
export const EXIT_NOT_RUNNING = 3;
export const EXIT_VERSION = 4;
export const EXIT_PERMISSION = 5;

export const exitCodes: readonly [number, string][] = [
  [EXIT_OK, 'ok'],
  [EXIT_FAILED, 'failed'],
  [EXIT_USAGE, 'wrong usage'],
  [EXIT_NOT_RUNNING, 'the daemon is not running'],
  [EXIT_VERSION, 'versions do not match'],
  [EXIT_PERMISSION, 'permission denied'],
];

/** Codes of errors that have an exit code of their own. `request`: what the command line let through, the daemon refused. */
const byCode: Readonly<Record<string, number>> = {
  usage: EXIT_USAGE,
  request: EXIT_USAGE,
  'not-running': EXIT_NOT_RUNNING,
  version: EXIT_VERSION,
  permission: EXIT_PERMISSION,
};

export interface CliError {
  code: string;
  message: string;
  hint: string;
}

export function exitCodeOf(error: CliError): number {
  return byCode[error.code] ?? EXIT_FAILED;
}

/** Writes the error where errors go, as text or as JSON, and returns the exit code. */
export function reportError(
  thrown: unknown,
  json: boolean,
  write: (text: string) => void = (text) => void process.stderr.write(text),
): number {
  const error = toError(thrown);
  if (json) write(`${JSON.stringify({ error })}\n`);
  else write(`hyperflux: ${error.message}\n${error.hint === '' ? '' : `${error.hint}\n`}`);
  return exitCodeOf(error);
}

export const usage = (message: string, hint = ''): ControlError => new ControlError('usage', message, hint);

export const printJson = (value: unknown): void => void process.stdout.write(`${JSON.stringify(value)}\n`);
export const print = (text: string): void => void process.stdout.write(`${text}\n`);

/** A table with a header; columns as wide as they need to be, numbers to the right. */
export function renderTable(
  header: readonly string[],
  rows: readonly (readonly (string | number)[])[],
): string {
  const cells = [
    header,
    ...rows.map((row) => row.map((cell) => (typeof cell === 'number' ? cell.toLocaleString('en-US') : cell))),
  ];
  const right = header.map((_, i) => rows.length > 0 && rows.every((row) => typeof row[i] === 'number'));
  const width = header.map((_, i) => Math.max(...cells.map((row) => row[i].length)));
  const line = (row: readonly string[]): string =>
    row
      .map((cell, i) => (right[i] ? cell.padStart(width[i]) : cell.padEnd(width[i])))
      .join('  ')
      .trimEnd();
  return cells.map(line).join('\n');
}

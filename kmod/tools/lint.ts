#!/usr/bin/env node
/**
 * The kernel's own linters over the module: sparse (make C=2) and checkpatch. Any finding in the module's files is a failure.
 * Usage: lint.ts [--module FOLDER] [--kernel TEXT] [sparse] [checkpatch]
 */
import { relative } from 'node:path';
import { exit, stderr, stdout } from 'node:process';
import { parseArgs } from 'node:util';
import { findCheckpatch, runCheckpatch } from './lib/checkpatch.ts';
import { moduleFolder } from './lib/compile.ts';
import { ToolError } from './lib/run.ts';
import { runSparse } from './lib/sparse.ts';

export interface Finding {
  file: string;
  line: number;
  text: string;
}

const LINTERS = ['sparse', 'checkpatch'] as const;
type Linter = (typeof LINTERS)[number];

export interface LintOptions {
  module?: string;
  /** sparse looks at the module as this kernel's headers make it: the newest whose name contains this. */
  kernel?: string;
  progress?: (text: string) => void;
}

export async function lint(linter: Linter, options: LintOptions = {}): Promise<Finding[]> {
  const module = moduleFolder(options.module);
  const progress = options.progress ?? (() => undefined);
  if (linter === 'sparse') return runSparse(module, options.kernel ?? '6.1.', progress);
  return runCheckpatch(await findCheckpatch(progress), module);
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    options: { module: { type: 'string' }, kernel: { type: 'string' } },
    allowPositionals: true,
  });
  const unknown = positionals.find((name) => !LINTERS.some((linter) => linter === name));
  if (unknown !== undefined)
    throw new ToolError(`there is no linter ${unknown}`, `There are: ${LINTERS.join(', ')}`);
  const progress = (text: string): void => void stderr.write(`lint: ${text}\n`);
  let count = 0;
  for (const linter of LINTERS.filter((name) => positionals.length === 0 || positionals.includes(name))) {
    const findings = await lint(linter, { ...values, progress });
    for (const { file, line, text } of findings)
      stdout.write(`${relative(process.cwd(), file)}:${line}: ${linter}: ${text}\n`);
    stdout.write(`${linter}: ${findings.length === 0 ? 'nothing found' : `${findings.length} findings`}\n`);
    count += findings.length;
  }
  return count === 0 ? 0 : 1;
}

if (import.meta.main) {
  try {
    exit(await main());
  } catch (error) {
    const known =
      error instanceof ToolError || (error as { code?: string }).code?.startsWith('ERR_PARSE_ARGS');
    if (!known) throw error;
    stderr.write(`lint: ${(error as Error).message}\n`);
    if (error instanceof ToolError) stderr.write(`lint: ${error.hint}\n`);
    exit(2);
  }
}

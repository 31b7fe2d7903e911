#!/usr/bin/env node
/**
 * Compiles the kernel module against the headers of every kernel that Debian offers.
 * Usage: matrix.ts [--every] [--only TEXT] [--module FOLDER] [--json FILE] [--list] [--refresh]
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { exit, stderr, stdout } from 'node:process';
import { parseArgs } from 'node:util';
import { RELEASES, updateLists } from './lib/apt.ts';
import { inCache, prune } from './lib/cache.ts';
import { compile, copySources, moduleFolder, repository } from './lib/compile.ts';
import { prepareHeaders } from './lib/headers.ts';
import type { HeaderSet } from './lib/kernels.ts';
import { choose, groupKey, offered } from './lib/kernels.ts';
import type { MatrixReport, Row } from './lib/report.ts';
import { reportOf, table } from './lib/report.ts';
import { ToolError } from './lib/run.ts';
import { prepareToolchain } from './lib/toolchain.ts';

const UNUSED_DAYS = 30;

export interface MatrixOptions {
  /** All ABIs and not only the newest of each series and flavour. */
  every?: boolean;
  /** Only kernels whose names contain this. */
  only?: string;
  /** The module's folder; kmod/ unless told. */
  module?: string;
  /** Ask the mirror again although the lists are fresh. */
  refresh?: boolean;
  progress?: (text: string) => void;
}

/** The kernels that would be compiled against, oldest first; a release that cannot be asked is an error. */
export async function listKernels(options: MatrixOptions = {}): Promise<HeaderSet[]> {
  const matches = ({ kernel }: HeaderSet): boolean => kernel.includes(options.only ?? '');
  return (await groupsOf(options)).flat().filter(matches);
}

/** Kernels of one version and one compiler: their headers are unpacked together, however few of them are compiled against. */
async function groupsOf(options: MatrixOptions): Promise<HeaderSet[][]> {
  const found: HeaderSet[] = [];
  for (const release of RELEASES) {
    options.progress?.(`${release.name}: the lists of packages`);
    await updateLists(release, options.refresh ?? false);
    found.push(...(await offered(release)));
  }
  return [...Map.groupBy(choose(found, options.every ?? false), groupKey).values()];
}

const kbuildOf = (set: HeaderSet): string => set.packages[2].name;

function row(set: HeaderSet, outcome: Row['outcome'], why: string, rest: Partial<Row> = {}): Row {
  const { kernel, series, version, compiler } = set;
  return { kernel, series, release: set.release.name, version, compiler, outcome, why, modules: [], ...rest };
}

async function compileGroup(
  group: readonly HeaderSet[],
  only: string,
  module: string,
  progress: (text: string) => void,
): Promise<Row[]> {
  const rows: Row[] = [];
  const sets = group.filter(({ kernel }) => kernel.includes(only));
  if (sets.length === 0) return rows;
  const [{ release, compiler, version }] = sets;
  try {
    progress(`${release.name}: ${compiler} and the headers of ${version}`);
    const toolchain = await prepareToolchain(release, compiler, [kbuildOf(sets[0])]);
    const headersOf = await prepareHeaders(group, toolchain);
    for (const set of sets) {
      const { ok, why, log, modules } = await compile(set.kernel, headersOf(set), toolchain, module);
      const found = row(set, ok ? 'ok' : 'failed', why, { log, modules });
      progress(`${found.kernel}: ${found.outcome}${why && `: ${why}`}`);
      rows.push(found);
    }
  } catch (error) {
    // Not the module's fault, and no reason not to try the others: recorded as what it is.
    if (!(error instanceof ToolError)) throw error;
    const done = new Set(rows.map(({ kernel }) => kernel));
    const rest = sets.filter(({ kernel }) => !done.has(kernel));
    rows.push(...rest.map((set) => row(set, 'not compiled', error.message.replace(/\s+/g, ' '))));
    progress(`${rest.map(({ kernel }) => kernel).join(', ')}: not compiled: ${error.message}`);
  }
  return rows;
}

export async function runMatrix(options: MatrixOptions = {}): Promise<MatrixReport> {
  const progress = options.progress ?? (() => undefined);
  const module = moduleFolder(options.module);
  const only = options.only ?? '';
  const groups = await groupsOf(options);
  // All kernels get the same sources, even if somebody edits them meanwhile.
  const snapshot = inCache('build', `.snapshot-${process.pid}`);
  const rows: Row[] = [];
  try {
    const sources = copySources(module, snapshot);
    for (const group of groups) rows.push(...(await compileGroup(group, only, sources, progress)));
  } finally {
    rmSync(snapshot, { recursive: true, force: true });
  }
  if (rows.length === 0)
    throw new ToolError(`Debian offers no headers that match "${only}"`, 'See what there is: --list --every');
  for (const folder of ['kernels', 'toolchains', 'build']) prune(inCache(folder), UNUSED_DAYS);
  return reportOf(relative(repository, module) || '.', rows);
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      every: { type: 'boolean' },
      only: { type: 'string' },
      module: { type: 'string' },
      json: { type: 'string' },
      list: { type: 'boolean' },
      refresh: { type: 'boolean' },
    },
  });
  const progress = (text: string): void => void stderr.write(`matrix: ${text}\n`);
  if (values.list) {
    for (const { kernel, release, version, compiler } of await listKernels({ ...values, progress }))
      stdout.write(`${kernel}  ${release.name}  ${version}  ${compiler}\n`);
    return 0;
  }
  const report = await runMatrix({ ...values, progress });
  const json = resolve(values.json ?? join(repository, '.build/kmod-matrix.json'));
  mkdirSync(dirname(json), { recursive: true });
  writeFileSync(json, `${JSON.stringify(report, null, 2)}\n`);
  stdout.write(`${table(report)}\n`);
  // A kernel that could not be tried proves nothing: it is no success either.
  return report.failed > 0 ? 1 : report.notCompiled > 0 ? 3 : 0;
}

if (import.meta.main) {
  try {
    exit(await main());
  } catch (error) {
    const known =
      error instanceof ToolError || (error as { code?: string }).code?.startsWith('ERR_PARSE_ARGS');
    if (!known) throw error;
    stderr.write(`matrix: ${(error as Error).message}\n`);
    if (error instanceof ToolError) stderr.write(`matrix: ${error.hint}\n`);
    exit(2);
  }
}

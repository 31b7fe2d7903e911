/** Builds the module out of tree, from a copy of its sources in .build/kmod/RELEASE. */
import { existsSync, mkdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { ControlError } from '../control/protocol.ts';
import type { Host } from './host.ts';
import { readFile, repository } from './host.ts';
import { findKernel } from './kernel.ts';
import { readModule } from './modinfo.ts';
import { CLONE_VERSION, MODULE } from './names.ts';
import { security, signHint } from './security.ts';
import { copySources, digestOf, moduleSources } from './sources.ts';

export interface Built {
  release: string;
  /** The module file. */
  module: string;
  version: string;
  bytes: number;
  signed: boolean;
  compiler: string;
  log: string;
  /** What has to be known before it is loaded. */
  notes: string[];
}

/** Says what is being done: a step on a terminal, with the latest line of what runs. */
export interface Progress {
  detail(line: string): void;
  end(result: string): void;
}
export type StartProgress = (label: string) => Progress;
export const quiet: StartProgress = () => ({ detail: () => {}, end: () => {} });

export interface BuildOptions {
  kernel?: string;
  progress?: StartProgress;
  clone?: string;
}

export const buildFolder = (release: string, clone: string = repository): string =>
  join(clone, '.build/kmod', release);
export const builtModule = (release: string, clone: string = repository): string =>
  join(buildFolder(release, clone), 'kmod', `${MODULE}.ko`);

/** Holds the digest of the sources that the module there was built from. */
const stampOf = (release: string, clone: string): string => join(buildFolder(release, clone), 'sources');

/** Whether the module for this kernel is there and was built from the clone's sources as they are now. */
export const upToDate = (release: string, clone: string = repository): boolean =>
  existsSync(builtModule(release, clone)) &&
  readFile(stampOf(release, clone)) === digestOf(clone, moduleSources(clone));

const TAIL = 25;

export async function buildModule(host: Host, options: BuildOptions = {}): Promise<Built> {
  const { progress = quiet, clone = repository } = options;
  const kernel = findKernel(host, options.kernel);
  const files = moduleSources(clone);
  const folder = buildFolder(kernel.release, clone);
  mkdirSync(folder, { recursive: true });
  // It is written last: a build that was ended half-way is none.
  const stamp = stampOf(kernel.release, clone);
  rmSync(stamp, { force: true });
  copySources(files, folder, clone);
  const digest = digestOf(folder, files);

  const kmod = join(folder, 'kmod');
  const log = join(folder, 'build.log');
  const command = [
    ...[host.find('make')!, '-C', kernel.build, `M=${kmod}`, `-j${availableParallelism()}`],
    ...[...kernel.makeArguments, 'modules'],
  ];
  const shown = progress(`build ${MODULE} ${CLONE_VERSION} for ${kernel.release}`);
  const { code, output } = await host.run(command, { onLine: (line) => shown.detail(line) });
  writeFileSync(log, output);
  shown.end(code === 0 ? 'done' : `failed (exit code ${code})`);
  if (code !== 0)
    throw new ControlError(
      'failed',
      failure(kernel.release, output.replaceAll(`${folder}/`, '')),
      `The whole output: ${log}`,
    );

  const module = builtModule(kernel.release, clone);
  const info = existsSync(module) ? readModule(module) : undefined;
  if (info === undefined)
    throw new ControlError(
      'failed',
      `the build ended well and made no module ${module}`,
      `Its output: ${log}`,
    );
  writeFileSync(stamp, `${digest}\n`);
  return {
    release: kernel.release,
    module,
    version: info.version ?? '',
    bytes: statSync(module).size,
    signed: info.signed,
    compiler: kernel.compiler,
    log,
    notes: notes(host, module, kernel.build, kernel.release, info.signed),
  };
}

/** The compiler's own words matter most: its errors, or else the end of the output. */
function failure(release: string, output: string): string {
  const lines = output.split('\n').filter((line) => line.trim() !== '');
  const errors = lines.filter((line) => /\berror\b|\bundefined!|\bNo such file\b|\bnot found\b/i.test(line));
  const shown = (errors.length > 0 ? errors : lines).slice(-TAIL);
  return [`the module could not be built for ${release}:`, ...shown.map((line) => `  ${line}`)].join('\n');
}

function notes(host: Host, module: string, build: string, release: string, signed: boolean): string[] {
  const found: string[] = [];
  const { signed: mustBeSigned, secureBoot, lockdown, container, modules } = security(host);
  if (release !== host.release) found.push(`It is for ${release}; the kernel that runs is ${host.release}.`);
  const maybe = secureBoot === true && lockdown === 'unknown';
  if (!signed && (mustBeSigned || maybe)) found.push(signHint(module, build));
  if (container !== '')
    found.push(
      `This is a container (${container}): the module has to be loaded on its host, which must run ${release}.`,
    );
  if (!modules && release === host.release)
    found.push('This kernel cannot load modules (it has no /proc/modules).');
  return found;
}

#!/usr/bin/env node
/**
 * Builds the debug kernel from Debian's source: once, some twenty minutes on two cores, and kept in the cache. An
 * interrupted build goes on where it stopped; a changed configuration rebuilds what it touches.
 * Usage: build.ts [--refresh]
 */
import {
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  copyFileSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { attempt, tail } from '../../../kmod/tools/lib/run.ts';
import { ControlError } from '../../../arbiter/control/protocol.ts';
import { keyOf } from '../cache.ts';
import { EXIT_LAB, labError } from '../fail.ts';
import { withLock } from '../lock.ts';
import { cacheFolder } from '../paths.ts';
import { say } from '../progress.ts';
import { dropped } from './config.ts';
import type { BuildTools } from './tools.ts';
import { prepareBuildTools, unpackSource } from './tools.ts';

const FRAGMENT = fileURLToPath(new URL('debug.config', import.meta.url));
/** For the progress only: how many files a whole build compiles. */
const FILES = 1_500;
const LIMIT_MS = 4 * 3_600_000;
const EVERY_MS = 10_000;

type Progress = (text: string) => void;

interface Build extends BuildTools {
  folder: string;
  progress: Progress;
}

const stampOf = (folder: string): string => join(folder, 'made-of');
const readStamp = (file: string): string => (existsSync(file) ? readFileSync(file, 'utf8') : '');

/** Runs make in the build folder. What it says goes to a file and its end into the error. */
async function make(
  { folder, env, variables, compiler, progress }: Build,
  targets: readonly string[],
): Promise<void> {
  let compiled = 0;
  let told = Date.now();
  const fixed = ['KBUILD_BUILD_USER=hyperflux', 'KBUILD_BUILD_HOST=lab', 'KBUILD_BUILD_TIMESTAMP='];
  const jobs = `-j${availableParallelism()}`;
  const { code, output } = await attempt(
    [
      ...['nice', '-n', '19', 'make', '-C', join(folder, 'source'), `O=${join(folder, 'build')}`, jobs],
      ...[`CC=${compiler}`, ...variables, ...fixed, ...targets],
    ],
    {
      env: { ...process.env, ...env },
      limitMs: LIMIT_MS,
      onLine: (line) => {
        if (/^\s+(CC|AS|HOSTCC)\s/.test(line)) compiled++;
        if (compiled === 0 || Date.now() - told < EVERY_MS) return;
        told = Date.now();
        progress(`debug kernel: ${compiled} files compiled (a whole build has about ${FILES})`);
      },
    },
  );
  const log = join(folder, 'make.log');
  writeFileSync(log, output);
  if (code !== 0)
    throw labError(
      `the debug kernel: make ${targets.join(' ')} ended with code ${code}\n  | ${tail(output)}`,
      `All of it is in ${log}. Run the command again to go on, or remove ${folder} to begin anew.`,
    );
}

async function prepareSource(build: Build): Promise<void> {
  const { folder, source, env, progress } = build;
  const place = join(folder, 'source');
  const stamp = join(place, '.hyperflux-version');
  if (readStamp(stamp) === source.version) return;
  progress(`debug kernel: fetching and unpacking Debian's source, ${source.version}`);
  const partial = `${place}.partial`;
  for (const old of [place, partial, `${partial}.package`, join(folder, 'build')])
    rmSync(old, { recursive: true, force: true });
  mkdirSync(partial, { recursive: true });
  const { code, output } = await attempt(await unpackSource(source, partial, env), { limitMs: LIMIT_MS });
  if (code !== 0)
    throw labError(`the kernel's source cannot be unpacked: ${tail(output)}`, 'Is the disk full? See: df -h');
  rmSync(`${partial}.package`, { recursive: true, force: true });
  rmSync(`${partial}.package.debs`, { recursive: true, force: true });
  writeFileSync(join(partial, '.hyperflux-version'), source.version);
  renameSync(partial, place);
}

async function configure(build: Build, fragment: string): Promise<void> {
  const stamp = join(build.folder, 'build/.hyperflux-config');
  if (readStamp(stamp) === fragment) return;
  mkdirSync(join(build.folder, 'build'), { recursive: true });
  await make({ ...build, variables: [...build.variables, `KCONFIG_ALLCONFIG=${FRAGMENT}`] }, ['allnoconfig']);
  const lost = dropped(fragment, readFileSync(join(build.folder, 'build/.config'), 'utf8'));
  if (lost.length > 0)
    throw labError(
      `Kconfig did not keep all of ${FRAGMENT}:\n  | ${lost.join('\n  | ')}`,
      'Mend that file: a dependency is missing.',
    );
  writeFileSync(stamp, fragment);
}

/** Puts the image and the modules where the lab looks for them. */
async function install(build: Build): Promise<void> {
  const { folder } = build;
  const modules = join(folder, 'modules');
  rmSync(modules, { recursive: true, force: true });
  await make({ ...build, variables: [...build.variables, `INSTALL_MOD_PATH=${modules}`] }, [
    'modules_install',
  ]);
  copyFileSync(join(folder, 'build/arch/x86/boot/bzImage'), join(folder, 'vmlinuz'));
}

/** The folder with vmlinuz, modules/ and build/ (for make -C build M=...). Returns at once if it is there and current. */
export async function buildDebugKernel(
  cacheDir: string,
  progress: Progress,
  refresh = false,
): Promise<string> {
  const folder = join(cacheDir, 'kernels/debug');
  const fragment = readFileSync(FRAGMENT, 'utf8');
  const tools = await prepareBuildTools(folder, refresh);
  const { output: compiler } = await attempt([tools.compiler, '--version']);
  const key = keyOf(fragment, tools.source.version, compiler);
  const current = (): boolean => readStamp(stampOf(folder)) === key;
  if (!current())
    await withLock(join(cacheDir, 'kernels/debug.lock'), 'building the debug kernel', async () => {
      // Another one may have built it while this one waited.
      if (current()) return;
      rmSync(stampOf(folder), { force: true });
      const build: Build = { ...tools, folder, progress };
      await prepareSource(build);
      await configure(build, fragment);
      progress(
        'debug kernel: compiling; this takes a while, and goes on where it stopped if it is interrupted',
      );
      await make(build, ['bzImage', 'modules']);
      await install(build);
      writeFileSync(stampOf(folder), key);
      progress('debug kernel: done');
    });
  utimesSync(folder, new Date(), new Date());
  return folder;
}

if (import.meta.main) {
  try {
    const folder = await buildDebugKernel(cacheFolder(), say, process.argv.includes('--refresh'));
    process.stdout.write(`${folder}\n`);
  } catch (error) {
    if (!(error instanceof ControlError)) throw error;
    say(error.message);
    if (error.hint) say(error.hint);
    process.exitCode = EXIT_LAB;
  }
}

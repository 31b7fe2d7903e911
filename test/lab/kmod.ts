/** Builds kFlux for the lab's kernel, from a copy in the cache: nothing is written into kmod/. */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { availableParallelism } from 'node:os';
import { entry, filesKey, listTree } from './cache.ts';
import { labError } from './fail.ts';
import { put } from './image.ts';
import type { Kernel } from './kernel.ts';
import { inCache, repository } from './paths.ts';
import { step } from './progress.ts';
import { findProgram, needProgram, run } from './run.ts';

export interface Kmod {
  module: string;
  /** The folder that stands for kmod/ there. */
  folder: string;
  /** Its test programs, relative to that folder: they are put beside their sources. */
  programs: string[];
}

const built = /\.(o|ko|mod|mod\.c|cmd|symvers|order|d)$/;
const TESTS = 'test/build';

/** Undefined as long as there is nothing to build. */
export async function prepareKmod(kernel: Kernel): Promise<Kmod | undefined> {
  const source = join(repository, 'kmod');
  if (!existsSync(join(source, 'Makefile')) && !existsSync(join(source, 'Kbuild'))) return undefined;
  if (kernel.build === undefined)
    throw labError(
      `the kernel in ${kernel.folder} has no build/ folder: kFlux cannot be built for it`,
      'Put its build tree there, or run with --no-kflux.',
    );
  const files = [
    ...listTree(source, (name) => built.test(name) || name === 'build').map((path) => `kmod/${path}`),
    // It includes the headers of the contract, and has the version of the product.
    ...readdirSync(join(repository, 'abi'))
      .filter((name) => name.endsWith('.h'))
      .map((name) => `abi/${name}`),
    'package.json',
  ];
  const key = filesKey(repository, files, [kernel.folder, String(statSync(kernel.image).mtimeMs)]);
  const folder = await entry(inCache('kmod', `${kernel.release}-${key}`), (partial) =>
    step(`build kFlux for ${kernel.release}`, async () => {
      for (const file of files) put(join(repository, file), join(partial, file));
      await make(kernel, partial);
    }),
  );
  const kmod = join(folder, 'kmod');
  const tests = join(kmod, TESTS);
  const programs = (existsSync(tests) ? listTree(tests) : [])
    .filter((path) => (statSync(join(tests, path)).mode & 0o111) !== 0)
    .map((path) => `${TESTS}/${path}`);
  return { module: join(kmod, 'kflux.ko'), folder: kmod, programs };
}

async function make(kernel: Kernel, folder: string): Promise<void> {
  const program = needProgram('make', 'Install it: sudo apt-get install make');
  const gcc = 'Install a C compiler: sudo apt-get install gcc libc6-dev';
  // The compiler that Debian built this kernel with, if it is here; another one will do.
  const compiler = findProgram('gcc-12') ?? needProgram('gcc', gcc);
  const kmod = join(folder, 'kmod');
  const jobs = `-j${availableParallelism()}`;
  const hint = `See the messages above; it was built against ${kernel.build}.`;
  await run([program, jobs, '-C', kernel.build!, `M=${kmod}`, `CC=${compiler}`, 'modules'], { hint });
  const module = join(kmod, 'kflux.ko');
  if (!existsSync(module))
    throw labError(`the build has made no ${module}`, 'See kmod/Makefile: obj-m := kflux.o');
  if (existsSync(join(kmod, 'test/Makefile'))) {
    const where = `BUILD=${join(kmod, TESTS)}`;
    await run([program, jobs, '-C', join(kmod, 'test'), where], { hint: 'See the messages above.' });
  }
}

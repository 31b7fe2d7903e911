import type { Command } from 'commander';
import { Option } from 'commander';
import { collect, integer, subcommand } from '../common.ts';
import { EXIT_USAGE, reportError } from '../output.ts';

interface Flags {
  json?: boolean;
  exec?: boolean;
  shell?: boolean;
  kernel: string;
  cpus?: number;
  tcg: 'multi' | 'single';
  memory: number;
  timeout: number;
  kvm: boolean;
  kflux: boolean;
  load: boolean;
  kfluxOptions: string;
  append: string[];
  env: string[];
  checkLog: boolean;
  dmesg?: string;
  out?: string;
  keep?: boolean;
  refresh?: boolean;
  verbose?: boolean;
}

const after = `
Boots a stock Debian kernel in QEMU with this product in it, loads KVM and kFlux there, and runs a command. QEMU and
the kernel are Debian packages, fetched once into a cache; nothing is installed and no root is needed. Behaviour in
the lab is real; times mean something only as ratios within one run, with no more vCPUs than the host has cores.

Exit codes: the command's own; 120 the kernel complained; 121 the machine crashed; 124 timeout; 125 the lab itself
failed; 130 interrupted.
Environment: HYPERFLUX_LAB_CACHE is the cache's folder, HYPERFLUX_LAB_MIRROR a Debian mirror to use.

Examples:
  $ hyperflux lab -- demo                               a command of hyperflux, run in the lab
  $ hyperflux lab -- bench realloc
  $ hyperflux lab --exec -- node node_modules/vitest/vitest.mjs run test/contract
  $ hyperflux lab --exec --out results -- sh -c 'dmesg > /out/dmesg.txt'
  $ hyperflux lab --shell                               look around; exit ends the machine`;

export function addLab(program: Command): void {
  const command = subcommand('lab', 'run the full stack in a virtual machine with a kernel of its own')
    .argument('[command...]', 'after --: a command of hyperflux and its arguments')
    .option('--exec', 'the command is any program of the image, started in the folder of the product')
    .option('--shell', 'an interactive shell instead of a command')
    .option(
      '--kernel <name>',
      '6.1, 6.12, or the folder of a built one (debug: kernels/debug in the cache)',
      '6.1',
    )
    .option('--cpus <n>', 'vCPUs; 4, but for bench never more than the host has cores', integer(1, 64))
    .addOption(
      new Option(
        '--tcg <threads>',
        'the vCPUs run in threads of their own, or by turns in a single one: slow',
      )
        .choices(['multi', 'single'])
        .default('multi'),
    )
    .option('--memory <MiB>', 'memory', integer(512, 65536), 3072)
    .option('--timeout <seconds>', 'end the machine after this time', integer(1, 86_400), 600)
    .option('--no-kvm', 'do not load KVM')
    .option('--no-kflux', 'do not build and load kFlux')
    .option('--no-load', 'build kFlux and its tests, but let the command load it')
    .option('--kflux-options <text>', 'parameters for kFlux when it is loaded', '')
    .option('--append <option>', 'one more option for the kernel (repeatable)', collect, [] as string[])
    .option(
      '--env <NAME=VALUE>',
      'set in the environment of the command (repeatable)',
      collect,
      [] as string[],
    )
    .option('--no-check-log', 'do not fail when the kernel complains')
    .option('--dmesg <file>', "write the kernel's log to a file")
    .option('--out <folder>', 'afterwards, copy what is in /out of the machine to here')
    .option('--keep', "keep the run's temporary folder")
    .option('--refresh', "look for newer packages than the cache's")
    .option('--verbose', "show the kernel's console (warnings and worse) as it comes")
    .addHelpText('after', after)
    .action(async (words: string[], flags: Flags) => {
      process.exitCode = await runLab(words, flags);
    });
  program.addCommand(command);
}

/** The lab's own failures must not look like the command's: they have an exit code of their own. */
async function runLab(words: readonly string[], flags: Flags): Promise<number> {
  const { EXIT_LAB } = await import('../../../test/lab/fail.ts');
  try {
    const { lab } = await import('../../../test/lab/lab.ts');
    const { parseEnv } = await import('../../../test/lab/options.ts');
    const { exec = false, shell = false, keep = false, refresh = false, verbose = false } = flags;
    const { kernel, cpus, tcg, timeout, kvm, kfluxOptions, checkLog, dmesg, out } = flags;
    const options = { kernel, cpus, tcg, timeout, kvm, kfluxOptions, checkLog, dmesg, out };
    return await lab(
      {
        ...{ ...options, exec, shell, keep, refresh, verbose },
        memoryMib: flags.memory,
        // kFlux uses what KVM exports.
        kflux: flags.kflux && kvm,
        load: flags.load && flags.kflux && kvm,
        kernelOptions: flags.append,
        env: parseEnv(flags.env),
      },
      words,
    );
  } catch (error) {
    const code = reportError(error, flags.json === true);
    return code === EXIT_USAGE ? code : EXIT_LAB;
  }
}

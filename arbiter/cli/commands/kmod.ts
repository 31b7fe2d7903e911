import { existsSync, readFileSync, rmSync } from 'node:fs';
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import type { Command } from 'commander';
import { ControlError } from '../../control/protocol.ts';
import type { Built } from '../../kmod/build.ts';
import { buildModule } from '../../kmod/build.ts';
import { repository, thisHost } from '../../kmod/host.ts';
import type { StepResult } from '../../kmod/install.ts';
import { installModule, uninstallModule } from '../../kmod/install.ts';
import { loadModule, unloadModule, versionText } from '../../kmod/load.ts';
import { DEVICE, GROUP, MODULE } from '../../kmod/names.ts';
import { kmodStatus, renderStatus } from '../../kmod/status.ts';
import { kfluxUsable } from '../../kmod/usable.ts';
import { startProgress } from '../../../scripts/lib/progress.mjs';
import { subcommand } from '../common.ts';
import { EXIT_FAILED, EXIT_OK, print, printJson, usage } from '../output.ts';

const after = `
Without the module everything works, but cores are moved from user space. With it, cores change hands in the kernel.

Examples:
  $ hyperflux kmod status
  $ hyperflux kmod build
  $ sudo hyperflux kmod install && sudo hyperflux kmod load
  $ sudo hyperflux kmod unload`;

/** Commander gives --json to kmod, wherever it stands: the parts ask for the options of both. */
interface Json {
  json?: boolean;
}

export function addKmod(program: Command): void {
  const command = subcommand('kmod', 'build, install, load and look at the kernel module').addHelpText(
    'after',
    after,
  );
  for (const part of [build(), install(), uninstall(), load(), unload(), status()]) command.addCommand(part);
  program.addCommand(command);
}

function build(): Command {
  return subcommand('build', 'build it against the headers of a kernel')
    .option(
      '--kernel <release|dir>',
      "for another kernel than the one that runs: its release, or its headers' folder",
    )
    .option('--all-headers', 'against all headers that can be had, to see that it compiles')
    .addHelpText(
      'after',
      `
It is built in .build/kmod/RELEASE; kmod/ stays as it is.

Examples:
  $ hyperflux kmod build
  $ hyperflux kmod build --kernel 6.1.0-56-amd64
  $ hyperflux kmod build --kernel ~/linux`,
    )
    .action(async (_own, part: Command) => {
      const options = part.optsWithGlobals<Json & { kernel?: string; allHeaders?: boolean }>();
      if (options.allHeaders) {
        if (options.kernel !== undefined) throw usage('give either --kernel or --all-headers');
        process.exitCode = await allHeaders(options.json === true);
        return;
      }
      const built = await buildModule(thisHost(), { kernel: options.kernel, progress: startProgress });
      if (options.json) printJson({ schema: 1, ...built });
      else print(renderBuilt(built));
    });
}

function renderBuilt({ module, version, bytes, compiler, notes, release }: Built): string {
  const size = `${Math.round(bytes / 1024)} KiB`;
  const next = `Next: sudo hyperflux kmod install (for good), or sudo hyperflux kmod load (until the next boot)`;
  const lines = [`${module}: ${MODULE} ${version} for ${release}, ${size}, by ${compiler}`, ...notes];
  return [...lines, ...(notes.length === 0 ? [next] : [])].join('\n');
}

/** A program of its own: it fetches headers, says itself what compiled, and leaves a report. */
async function allHeaders(json: boolean): Promise<number> {
  const matrix = join(repository, 'kmod/tools/matrix.ts');
  if (!existsSync(matrix))
    throw new ControlError(
      'failed',
      `there is no ${matrix}`,
      'Build for one kernel: hyperflux kmod build --kernel RELEASE',
    );
  const report = join(repository, '.build/kmod/all-headers.json');
  rmSync(report, { force: true });
  const child = spawn(process.execPath, [matrix, '--json', report], {
    stdio: ['ignore', json ? 'ignore' : 'inherit', 'inherit'],
  });
  const code = await new Promise<number>((resolve, reject) => {
    child.on('error', reject);
    child.on('exit', (ended) => resolve(ended ?? 1));
  });
  if (!existsSync(report))
    throw new ControlError('failed', `the matrix ended with ${code}`, 'What it says above names the cause.');
  if (json) printJson({ schema: 1, ...(JSON.parse(readFileSync(report, 'utf8')) as object) });
  return code === 0 ? EXIT_OK : EXIT_FAILED;
}

const words: Readonly<Record<StepResult['state'], string>> = {
  done: 'done',
  unchanged: 'already',
  would: 'would',
};

function showSteps(steps: readonly StepResult[], json: boolean | undefined): void {
  if (json) printJson({ schema: 1, steps });
  else print(steps.map(({ what, state }) => `${words[state].padEnd(8)}${what}`).join('\n'));
}

function install(): Command {
  return subcommand('install', 'install it for this kernel, with its group and the rule for its device')
    .option('--dry-run', 'only say what would be done')
    .option('--no-dkms', 'do not use DKMS where it is there: the next kernel needs another install')
    .addHelpText(
      'after',
      `
With DKMS the module is built again for each new kernel. A second run does only what is missing.

Examples:
  $ hyperflux kmod install --dry-run
  $ sudo hyperflux kmod install
  $ sudo usermod -aG ${GROUP} $USER      who may use ${DEVICE}`,
    )
    .action(async (_own, part: Command) => {
      const options = part.optsWithGlobals<Json & { dryRun?: boolean; dkms: boolean }>();
      const { dryRun, dkms } = options;
      showSteps(await installModule(thisHost(), { dryRun, dkms, progress: startProgress }), options.json);
      if (!options.json && !dryRun) print('Next: sudo hyperflux kmod load');
    });
}

function uninstall(): Command {
  return subcommand('uninstall', 'unload it and remove all that install brought, but the group')
    .option('--dry-run', 'only say what would be done')
    .addHelpText(
      'after',
      `
Examples:
  $ hyperflux kmod uninstall --dry-run
  $ sudo hyperflux kmod uninstall`,
    )
    .action(async (_own, part: Command) => {
      const options = part.optsWithGlobals<Json & { dryRun?: boolean }>();
      showSteps(await uninstallModule(thisHost(), options), options.json);
    });
}

function load(): Command {
  return subcommand('load', 'load the installed module, or else the one that was built')
    .option('--built', 'the one that was built, also if one is installed')
    .addHelpText(
      'after',
      `
Examples:
  $ sudo hyperflux kmod load
  $ sudo hyperflux kmod load --built`,
    )
    .action(async (_own, part: Command) => {
      const options = part.optsWithGlobals<Json & { built?: boolean }>();
      const { changed, path, module, device } = await loadModule(thisHost(), { built: options.built });
      const usable = kfluxUsable();
      if (options.json) return printJson({ schema: 1, changed, path, module, device, usable });
      const what = `${MODULE} ${versionText(module.version, module.abi)}`;
      print(changed ? `${what} is loaded from ${path}` : `${what} is loaded already`);
      print(`${device.path}: ${device.mode} ${device.owner}:${device.group}`);
      if (!usable.usable) print(`${usable.why}\n${usable.hint ?? ''}`);
    });
}

function unload(): Command {
  return subcommand('unload', 'unload it; says who uses it if it is in use')
    .addHelpText(
      'after',
      `
Examples:
  $ hyperflux stop --all --daemon && sudo hyperflux kmod unload`,
    )
    .action(async (_own, part: Command) => {
      const options = part.optsWithGlobals<Json>();
      const { changed } = await unloadModule(thisHost());
      if (options.json) printJson({ schema: 1, changed });
      else print(changed ? `${MODULE} is unloaded` : `${MODULE} is not loaded`);
    });
}

function status(): Command {
  return subcommand('status', 'show the module, its device, who uses it, and what is missing')
    .addHelpText(
      'after',
      `
Exit code 0, whatever it finds. As root it also shows who uses the module and its tables (debugfs).

Examples:
  $ hyperflux kmod status
  $ hyperflux kmod status --json | jq .usable`,
    )
    .action((_own, part: Command) => {
      const options = part.optsWithGlobals<Json>();
      const found = kmodStatus(thisHost());
      if (options.json) printJson({ schema: 1, ...found });
      else print(renderStatus(found));
    });
}

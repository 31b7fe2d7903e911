import type { Command } from 'commander';
import { InvalidArgumentError } from 'commander';
import { integer, subcommand } from '../common.ts';

interface DemoOptions {
  json?: boolean;
  seconds?: number;
  hosted?: boolean;
  seed?: number;
}

const after = `
The same arrivals are served by a latency-critical VM alone, beside a best-effort VM under plain Linux, and beside it
under HyperFlux; a table compares them. It starts a daemon of its own and needs none that runs.

Examples:
  $ hyperflux demo
  $ hyperflux demo --seconds 3 --json`;

function seconds(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !(value >= 0.5 && value <= 3600))
    throw new InvalidArgumentError('Give seconds from 0.5 to 3600.');
  return value;
}

export function addDemo(program: Command): void {
  const command = subcommand('demo', 'show a core going back and forth between two VMs')
    .option('--seconds <n>', 'length of each phase', seconds)
    .option('--hosted', 'run the guests as ordinary processes even where KVM can be used')
    .option('--seed <n>', 'another seed, another schedule of arrivals', integer(0, 0x7fffffff))
    .addHelpText('after', after)
    .action(async (options: DemoOptions) => {
      const { demo } = await import('../../../bench/demo/demo.ts');
      process.exitCode = await demo(options);
    });
  program.addCommand(command);
}

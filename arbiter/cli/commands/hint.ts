import type { Command } from 'commander';
import { InvalidArgumentError } from 'commander';
import { integer, subcommand, withDaemon } from '../common.ts';
import { print, printJson } from '../output.ts';

interface Hinted {
  cores: number;
  us: number;
  heeded: boolean;
}

const after = `
The policy proactive gives the VM its cores before the work is there, and keeps them for it until the time is over.
A later announcement takes the place of an earlier one; --cores 0 takes it back.

Examples:
  $ hyperflux start --policy proactive
  $ hyperflux hint web --cores 4 --for 20ms`;

const UNITS: Readonly<Record<string, number>> = { us: 1, ms: 1000, s: 1_000_000 };
const MAX_US = 60_000_000;

/** "20ms" in microseconds. */
export function duration(text: string): number {
  const [, number, unit] = /^(\d+(?:\.\d+)?)(us|ms|s)$/.exec(text) ?? [];
  const us = Math.round(Number(number) * UNITS[unit]);
  if (!(us >= 1 && us <= MAX_US))
    throw new InvalidArgumentError('Give a time up to a minute with its unit: 500us, 20ms or 2s.');
  return us;
}

export function addHint(program: Command): void {
  const command = subcommand('hint', 'announce that a VM needs cores for a time')
    .argument('<name>', 'the VM')
    .requiredOption('--cores <n>', 'how many it needs, those that it has included', integer(0, 16))
    .option('--for <time>', 'for how long, for example 20ms', duration, 1_000_000)
    .addHelpText('after', after)
    .action(async (name: string, options: { cores: number; for: number; json?: boolean }) => {
      const hinted = await withDaemon((client) =>
        client.ask<Hinted>('hint', { name, cores: options.cores, us: options.for }),
      );
      if (options.json) return printJson({ name, ...hinted });
      const heeded = hinted.heeded ? '' : '; the policy that decides does not look at it: proactive does';
      if (hinted.cores === 0) print(`${name}: nothing is announced any more`);
      else print(`${name}: needs ${hinted.cores} for ${hinted.us} us, it is announced${heeded}`);
    });
  program.addCommand(command);
}

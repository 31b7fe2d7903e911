import type { Command } from 'commander';
import { integer, subcommand, withDaemon } from '../common.ts';
import { print, printJson, renderTable } from '../output.ts';

interface Decision {
  number: number;
  at_us: number;
  core: number;
  was: number;
  asked: number;
  allowed: number;
  from: string;
  to: string;
  op: string;
  result: string;
  why: string;
  edit: string;
  delay_us: number;
}

const after = `
A line for each decision: which VM's slot the core had, which the policy asked for and the guard allowed, the
command (from and to as slot/vCPU), its result, the policy's reason, and the guard's if it changed something.

Examples:
  $ hyperflux explain
  $ hyperflux explain --count 1000 --json`;

export function addExplain(program: Command): void {
  const command = subcommand('explain', 'show the latest decisions: asked, allowed, applied, and why')
    .option('--count <n>', 'how many', integer(1, 4000), 20)
    .addHelpText('after', after)
    .action(async (options: { count: number; json?: boolean }) => {
      const { decisions } = await withDaemon((client) =>
        client.ask<{ decisions: Decision[] }>('decisions', { count: options.count }),
      );
      if (options.json) printJson({ schema: 1, decisions });
      else print(renderDecisions(decisions));
    });
  program.addCommand(command);
}

const slot = (vm: number): string => (vm < 0 ? '-' : `${vm}`);

function renderDecisions(decisions: readonly Decision[]): string {
  if (decisions.length === 0) return 'no decisions yet';
  const header = ['#', 'AFTER us', 'CORE', 'WAS', 'ASKED', 'ALLOWED', 'COMMAND', 'RESULT', 'WHY', 'GUARD'];
  const rows = decisions.map((d, i) => [
    d.number,
    Math.round(i === 0 ? 0 : d.at_us - decisions[i - 1].at_us),
    d.core,
    ...[slot(d.was), slot(d.asked), slot(d.allowed)],
    ...[d.op === '' ? '-' : `${d.op} ${d.from} -> ${d.to}`, d.result === '' ? '-' : d.result],
    ...[d.why, d.edit === 'none' ? '-' : d.edit],
  ]);
  return renderTable(header, rows);
}

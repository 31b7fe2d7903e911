import type { Command } from 'commander';
import type { StatusInfo, VmInfo } from '../../control/protocol.ts';
import { ControlError } from '../../control/protocol.ts';
import type { TraceSummary } from '../../observe/trace/trace.ts';
import { integer, subcommand, withDaemon } from '../common.ts';
import { print, printJson, usage } from '../output.ts';

interface TraceOptions {
  json?: boolean;
  all?: boolean;
  seconds: number;
  out: string;
  maxEvents: number;
}

const after = `
FluxOS records what its scheduler does: which uThread runs on which vCPU, who wakes whom, steals, parks and resumes.
It costs a VM nothing until it is traced. The file is for https://ui.perfetto.dev (it stays on your machine) or
chrome://tracing. Ctrl-C ends the trace early, and writes what there is.

A ring has room for the last four thousand events of a vCPU: what comes faster than it can be read is counted as lost.

Examples:
  $ hyperflux trace web
  $ hyperflux trace --all --seconds 10 --out ten.json
  $ hyperflux trace web --json | jq '.vms[0].events'`;

export function addTrace(program: Command): void {
  const command = subcommand('trace', "record what the VMs' schedulers do, for Perfetto")
    .argument('[vm]', 'which VM')
    .option('--all', 'all VMs')
    .option('--seconds <n>', 'how long', integer(1, 3600), 5)
    .option('--out <file>', 'where to; overwritten if it is there', 'hyperflux-trace.json')
    .option(
      '--max-events <n>',
      'keep no more, and end when there are so many',
      integer(1000, 10_000_000),
      1_000_000,
    )
    .addHelpText('after', after)
    .action(trace);
  program.addCommand(command);
}

/** Which VMs are meant, and where their sockets are. */
async function chosen(name: string | undefined, all: boolean): Promise<{ names: string[]; runDir: string }> {
  if ((name === undefined) !== all)
    throw usage(
      all ? 'either a VM or --all' : 'which VM is missing',
      'hyperflux ps shows the VMs; --all traces every one of them.',
    );
  const { vms, status } = await withDaemon(async (client) => ({
    vms: (await client.ask<{ vms: VmInfo[] }>('ps')).vms,
    status: await client.ask<StatusInfo>('status'),
  }));
  const names = vms.map((vm) => vm.name).filter((known) => all || known === name);
  if (names.length === 0)
    throw new ControlError(
      'not-found',
      all ? 'there are no VMs' : `there is no VM called ${name}`,
      all ? 'Start one: hyperflux run NAME --workload batch' : 'hyperflux ps shows the VMs.',
    );
  return { names, runDir: status.run_dir };
}

async function trace(name: string | undefined, options: TraceOptions): Promise<void> {
  const { names, runDir } = await chosen(name, options.all ?? false);
  // Only now, so that the other commands need no addon.
  const { traceVms } = await import('../../observe/trace/trace.ts');
  const stop = new AbortController();
  const interrupted = (): void => stop.abort();
  process.once('SIGINT', interrupted);
  try {
    const live = process.stderr.isTTY && !options.json;
    let said = live || options.json;
    const progress = (seconds: number, events: number): void => {
      const text = `tracing ${names.join(', ')}: ${seconds.toFixed(1)} of ${options.seconds} s, ${events.toLocaleString('en-US')} events`;
      if (!said) process.stderr.write(`tracing ${names.join(', ')} for ${options.seconds} s\n`);
      said = true;
      if (live) process.stderr.write(`\r\x1b[K${text.slice(0, (process.stderr.columns ?? 80) - 1)}`);
    };
    const done = await traceVms(names, runDir, {
      ...{ seconds: options.seconds, most: options.maxEvents, out: options.out, signal: stop.signal },
      progress,
    });
    if (live) process.stderr.write('\r\x1b[K');
    if (options.json) printJson({ schema: 1, ...done });
    else print(describe(done));
  } finally {
    process.off('SIGINT', interrupted);
  }
}

function describe({ file, bytes, seconds, skipped, vms }: TraceSummary): string {
  const number = (n: number): string => n.toLocaleString('en-US');
  const lines = vms.map(({ name, vcpus, events, lost, by }) => {
    const kinds = Object.entries(by)
      .sort(([, a], [, b]) => b - a)
      .map(([kind, n]) => `${kind} ${number(n)}`);
    const what = `${name}: ${vcpus} vCPUs, ${number(events)} events, ${number(lost)} lost`;
    return kinds.length === 0 ? what : `${what} (${kinds.join(', ')})`;
  });
  lines.push(...skipped.map(({ name, why }) => `${name}: not traced: ${why}`));
  if (vms.every(({ events }) => events === 0))
    lines.push(
      'Nothing was recorded: no uThread was switched, as in a VM that has no core or only computes, or the image is of an older version.',
    );
  lines.push(
    `${file}: ${seconds.toFixed(1)} s, ${number(Math.ceil(bytes / 1024))} KiB. Open it at https://ui.perfetto.dev, or in chrome://tracing.`,
  );
  return lines.join('\n');
}

import type { Command } from 'commander';
import type { StatusInfo, VmInfo } from '../../control/protocol.ts';
import { integer, subcommand, withDaemon } from '../common.ts';
import { print, printJson } from '../output.ts';

interface RecordOptions {
  json?: boolean;
  seconds: number;
  out: string;
}

const after = `
Records what the policy sees and what it decides, turn for turn, as long as somebody wants something. While nobody
records it costs the arbiter nothing. hyperflux policy replay has a policy decide again what is in the file.
Ctrl-C ends the recording early, and keeps what there is.

Examples:
  $ hyperflux record --seconds 10 --out last.turns
  $ hyperflux policy replay last.turns --policy delay:threshold_us=50`;

export function addRecord(program: Command): void {
  const command = subcommand('record', 'record what the policy sees and decides, for replays')
    .option('--seconds <n>', 'how long', integer(1, 86_400), 5)
    .option('--out <file>', 'where to; overwritten if it is there', 'hyperflux.turns')
    .addHelpText('after', after)
    .action(recordTurns);
  program.addCommand(command);
}

async function recordTurns(options: RecordOptions): Promise<void> {
  const { status, vms } = await withDaemon(async (client) => ({
    status: await client.ask<StatusInfo>('status'),
    vms: (await client.ask<{ vms: VmInfo[] }>('ps')).vms,
  }));
  // Only now, so that the other commands need no addon.
  const { record } = await import('../../record/record.ts');
  const stop = new AbortController();
  const interrupted = (): void => stop.abort();
  process.once('SIGINT', interrupted);
  try {
    const live = process.stderr.isTTY && !options.json;
    if (!live && !options.json) process.stderr.write(`recording for ${options.seconds} s\n`);
    const progress = (seconds: number, turns: number): void => {
      if (!live) return;
      const text = `recording: ${seconds.toFixed(1)} of ${options.seconds} s, ${turns.toLocaleString('en-US')} turns`;
      process.stderr.write(`\r\x1b[K${text}`);
    };
    const done = await record(status, vms, { ...options, signal: stop.signal, progress });
    if (live) process.stderr.write('\r\x1b[K');
    if (options.json) {
      printJson({ schema: 1, ...done });
      return;
    }
    const { file, bytes, seconds, turns, lost } = done;
    const number = (n: number): string => n.toLocaleString('en-US');
    print(
      `${file}: ${seconds.toFixed(1)} s, ${number(turns)} turns that decided, ${number(lost)} lost, ${number(Math.ceil(bytes / 1024))} KiB`,
    );
    if (turns === 0) print('Nothing was recorded: no VM wanted anything.');
  } finally {
    process.off('SIGINT', interrupted);
  }
}

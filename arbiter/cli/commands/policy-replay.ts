import type { Command } from 'commander';
import type { Difference, Replayed } from '../../record/replay.ts';
import { ControlError } from '../../control/protocol.ts';
import { subcommand } from '../common.ts';
import { print, printJson, renderTable } from '../output.ts';

interface ReplayOptions {
  json?: boolean;
  policy?: string;
}

const after = `
The recorded policy with its recorded parameters has to decide the same, bit for bit; the exit code is 1 if it does
not. With --policy another one decides, and what it would have done otherwise is shown: each turn is the recorded
one, so what would have come of it only hyperflux policy sim can tell.

Examples:
  $ hyperflux policy replay last.turns
  $ hyperflux policy replay last.turns --policy delay:threshold_us=50`;

export function addPolicyReplay(policy: Command): void {
  const command = subcommand('replay', 'have a policy decide again what was recorded')
    .argument('<file>', 'of hyperflux record')
    .option('--policy <name>', 'another policy, or the same with other parameters')
    .addHelpText('after', after)
    .action(replayFile);
  policy.addCommand(command);
}

async function replayFile(file: string, options: ReplayOptions): Promise<void> {
  const { existsSync } = await import('node:fs');
  if (!existsSync(file))
    throw new ControlError('usage', `there is no file ${file}`, 'Make one: hyperflux record');
  const { RecordingReader } = await import('../../record/file.ts');
  const { replay } = await import('../../record/replay.ts');
  const { choosePolicy } = await import('../../sim/choose.ts');
  const recording = new RecordingReader(file);
  const { head } = recording;
  const recorded = `${head.policy}${Object.entries(head.params)
    .map(([key, value], i) => `${i === 0 ? ':' : ','}${key}=${value}`)
    .join('')}`;
  const { label, policy, params } = choosePolicy(options.policy ?? recorded);
  const began = performance.now();
  const live = process.stderr.isTTY && !options.json;
  const result = replay(recording, policy, params, (turn) => {
    if (live && performance.now() - began > 1000) process.stderr.write(`\r\x1b[Kreplaying: turn ${turn}`);
  });
  if (live) process.stderr.write('\r\x1b[K');
  if (options.json) printJson({ schema: 1, file, recorded, policy: label, ...result });
  else print(describe(file, recorded, label, head.vms, result));
  if (options.policy === undefined && result.differing > 0) process.exitCode = 1;
}

function describe(
  file: string,
  recorded: string,
  label: string,
  names: Readonly<Record<string, string>>,
  result: Replayed,
): string {
  const number = (n: number): string => n.toLocaleString('en-US');
  const { turns, compared, lost, seconds, differing, differingTargets, faults, exact, first } = result;
  const lines = [
    `${file}: ${number(turns)} turns in ${seconds.toFixed(3)} s, recorded under ${recorded}`,
    ...(lost > 0 ? [`${number(lost)} turns were lost while it was recorded`] : []),
    differing === 0
      ? `${label} decides the same in all of the ${number(compared)} turns`
      : `${label} decides otherwise in ${number(differing)} of ${number(compared)} turns; in ${number(differingTargets)} a core would have gone to somebody else`,
    ...(faults > 0 ? [`it threw in ${number(faults)} turns`] : []),
    ...(exact
      ? []
      : ['The policy keeps state that was not recorded: it began anew, and its first turns may differ.']),
  ];
  if (first.length === 0) return lines.join('\n');
  const vm = (slot: number): string => (slot < 0 ? '-' : (names[String(slot)] ?? `slot ${slot}`));
  const rows = first.map(({ turn, us, core, had, then, now }: Difference) => [
    number(turn),
    us.toFixed(1),
    String(core),
    vm(had),
    ...[`${vm(then.target)} (${then.why})`, `${vm(now.target)} (${now.why})`],
    ...[vm(then.heir), vm(now.heir)],
  ]);
  const head = ['TURN', 'AFTER us', 'CORE', 'OWNER', 'RECORDED', 'NOW', 'HEIR THEN', 'HEIR NOW'];
  const more = differing > first.length ? ['The first of them:'] : [];
  return [...lines, '', ...more, renderTable(head, rows)].join('\n');
}

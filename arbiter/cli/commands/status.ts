import type { Command } from 'commander';
import { formatCores } from '../../control/cores.ts';
import type { StatusInfo } from '../../control/protocol.ts';
import { subcommand, withDaemon } from '../common.ts';
import { EXIT_FAILED, print, printJson } from '../output.ts';

const after = `
Exit code 0: everything runs; 1: the daemon runs but the arbiter is not live; 3: the daemon is not running.

Examples:
  $ hyperflux status
  $ hyperflux status --json | jq .arbiter`;

export function addStatus(program: Command): void {
  const command = subcommand('status', 'show the daemon, the arbiter, the pool and the policy')
    .addHelpText('after', after)
    .action(async (options: { json?: boolean }) => {
      const status = await withDaemon((client) => client.ask<StatusInfo>('status'));
      if (options.json) printJson({ schema: 1, ...status });
      else print(renderStatus(status));
      if (status.arbiter.state !== 'live') process.exitCode = EXIT_FAILED;
    });
  program.addCommand(command);
}

function loopLine(time: StatusInfo['arbiter']['time']): [string, string][] {
  if (time === undefined) return [];
  const { deciding, resting, spinning } = time;
  return [['', `its loop: deciding ${deciding} % of the time, spinning ${spinning} %, resting ${resting} %`]];
}

export function renderStatus(status: StatusInfo): string {
  const { arbiter, pool, policy, vms } = status;
  const params = Object.entries(policy.params)
    .map(([name, value]) => `${name} ${value}`)
    .join(', ');
  const lines: [string, string][] = [
    [
      'daemon',
      `process ${status.pid}, up ${status.uptime_s} s, version ${status.version}, ABI ${status.abi}`,
    ],
    [
      'arbiter',
      `${arbiter.state}, process ${arbiter.pid}, epoch ${arbiter.epoch}, on core ${pool.arbiter_core}, restarted ${arbiter.restarts} times`,
    ],
    [
      '',
      `warm after ${(arbiter.warm_up_us / 1000).toFixed(0)} ms; deadline thread: ${arbiter.deadline_thread}`,
    ],
    ...loopLine(arbiter.time),
    ['bridge', `${status.bridge} (${status.bridge_why})`],
    ['pool', `cores ${formatCores(pool.cores)}; ${pool.cpuset}`],
    ['policy', `${policy.name} (${params})`],
    ['VMs', `${vms.all}, managed ${vms.managed}`],
    ['directory', status.run_dir],
  ];
  if (arbiter.last_fault !== '') lines.splice(3, 0, ['', `last fault: ${arbiter.last_fault}`]);
  return lines.map(([name, text]) => `${name.padEnd(10)}${text}`).join('\n');
}

import type { Command } from 'commander';
import type { VmInfo } from '../../control/protocol.ts';
import { subcommand, withDaemon } from '../common.ts';
import { print, printJson, renderTable } from '../output.ts';

const after = `
CORES is what the VM has now, then its guaranteed and its maximum number. DELAY is how long its oldest work has
waited. GRANTED, USED and TAKEN are core-microseconds: held, spent inside the guest, and waited for after a core was
taken against the VM's will. FORCED counts cores that it did not give up in time; in brackets those parks that were
late because the host had taken the vCPU off its core itself. PREEMPTED counts uThreads that were made to give way
because their time slice was over, where they stood; those that gave way inside FluxOS are not in it. BLOCKED, with kFlux, counts vCPUs that sleep in the host.

Examples:
  $ hyperflux ps
  $ hyperflux ps --json | jq '.vms[] | {name, cores}'`;

export function addPs(program: Command): void {
  const command = subcommand('ps', 'show the VMs: their cores and what they were granted, used and had taken')
    .addHelpText('after', after)
    .action(async (options: { json?: boolean }) => {
      const { vms } = await withDaemon((client) => client.ask<{ vms: VmInfo[] }>('ps'));
      if (options.json) printJson({ schema: 1, vms });
      else print(renderVms(vms));
    });
  program.addCommand(command);
}

export function renderVms(vms: readonly VmInfo[]): string {
  if (vms.length === 0) return 'no VMs; start one with: hyperflux run NAME --workload batch';
  const seesBlocked = vms.some(({ blocked }) => blocked !== undefined);
  const header = [
    'NAME',
    'CLASS',
    'STATE',
    'CORES',
    'DELAY us',
    'GRANTED core-us',
    'USED core-us',
    'TAKEN core-us',
    'FORCED',
    'PREEMPTED',
    ...(seesBlocked ? ['BLOCKED'] : []),
  ];
  const rows = vms.map((vm) => [
    ...[vm.name, vm.class, vm.state, `${vm.cores} (${vm.min_cores}-${vm.max_cores})`],
    ...[vm.delay_us, vm.granted_us, vm.used_us, vm.taken_us],
    vm.forced_descheduled > 0 ? `${vm.forced} (${vm.forced_descheduled})` : `${vm.forced}`,
    vm.preempted,
    ...(seesBlocked ? [vm.blocked ?? '-'] : []),
  ]);
  const errors = vms.filter(({ error }) => error !== '').map(({ name, error }) => `${name}: ${error}`);
  return [renderTable(header, rows), ...errors].join('\n');
}

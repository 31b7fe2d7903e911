import type { Command } from 'commander';
import { ControlError } from '../../control/protocol.ts';
import { subcommand, withDaemon } from '../common.ts';
import { print, printJson, usage } from '../output.ts';

interface Stopped {
  stopped: string[];
  failed: { name: string; message: string }[];
}

const after = `
Examples:
  $ hyperflux stop web             one VM
  $ hyperflux stop --all           every VM; daemon and arbiter stay
  $ hyperflux stop --all --daemon  everything
  $ hyperflux stop --daemon        daemon and arbiter; VMs go on under the ordinary scheduler`;

export function addStop(program: Command): void {
  const command = subcommand('stop', 'stop a VM, all VMs, or the daemon')
    .argument('[name]', 'the VM')
    .option('--all', 'all VMs')
    .option('--daemon', 'the daemon and the arbiter')
    .addHelpText('after', after)
    .action(
      async (name: string | undefined, options: { all?: boolean; daemon?: boolean; json?: boolean }) => {
        if (name === undefined && !options.all && !options.daemon)
          throw usage('name a VM, or give --all or --daemon');
        if (name !== undefined && (options.all || options.daemon))
          throw usage("give either a VM's name or --all and --daemon");
        const result = await withDaemon(async (client): Promise<Stopped> => {
          if (name !== undefined) {
            await client.ask('stop', { name });
            return { stopped: [name], failed: [] };
          }
          return options.daemon
            ? client.ask('shutdown', { vms: options.all === true })
            : client.ask('stop-all');
        });
        const { stopped, failed } = result;
        if (failed.length > 0) {
          throw new ControlError(
            'failed',
            failed.map((vm) => vm.message).join('; '),
            'hyperflux ps shows what is left.',
          );
        }
        if (options.json) printJson({ stopped, daemon: options.daemon === true });
        else {
          if (stopped.length > 0 || !options.daemon)
            print(stopped.length > 0 ? `stopped: ${stopped.join(', ')}` : 'no VMs to stop');
          if (options.daemon) print('the daemon ends');
        }
      },
    );
  program.addCommand(command);
}

import type { Command } from 'commander';
import { Option } from 'commander';
import { resolve } from 'node:path';
import { DEFAULT_QUANTUM_US, WORKLOADS } from '../../control/protocol.ts';
import { collect, integer, subcommand, withDaemon } from '../common.ts';
import { print, printJson } from '../output.ts';

interface RunOptions {
  workload: string;
  arg: string[];
  class: string;
  vcpus: number;
  minCores: number;
  maxCores?: number;
  mem: number;
  weight: number;
  sloUs: number;
  image?: string;
  unmanaged?: boolean;
  cpus?: string;
  backend: string;
  quantumUs: number;
  idleSpinNs?: number;
  stats?: boolean;
  json?: boolean;
}

const after = `
Examples:
  $ hyperflux run web --workload serve --arg fanout=4 --class lc --vcpus 2 --min-cores 1
  $ hyperflux run bulk --workload batch --class be --vcpus 1
  $ hyperflux run plain --workload batch --unmanaged --cpus 0-1

The VM's log is log/NAME.log in the run directory; hyperflux status names it.`;

interface Started {
  slot: number;
  pid: number;
  backend: string;
  managed: boolean;
}

export function addRun(program: Command): void {
  const command = subcommand('run', 'start a VM')
    .argument('<name>', 'its name: letters, digits, -, _ and .')
    .addOption(new Option('--workload <name>', 'what it does').choices([...WORKLOADS]).makeOptionMandatory())
    .option('--arg <key=value>', 'a parameter of the workload; may be repeated', collect, [])
    .addOption(
      new Option('--class <class>', 'lc: latency-critical, be: best-effort')
        .choices(['lc', 'be'])
        .default('be'),
    )
    .option('--vcpus <n>', 'vCPUs', integer(1, 16), 1)
    .option('--min-cores <n>', 'cores that it is guaranteed while it has work', integer(0, 16), 0)
    .option('--max-cores <n>', 'cores that it may have (default: its vCPUs, or the pool)', integer(1, 16))
    .option(
      '--weight <n>',
      "its share against other VMs', for the policy fair-share",
      integer(1, 10_000),
      100,
    )
    .option('--slo-us <n>', 'the queueing delay to stay under, for the policy slo', integer(0, 10_000_000), 0)
    .option('--mem <MiB>', 'guest memory', integer(16, 1 << 20), 64)
    .option('--image <path>', 'another guest image than the one that was built')
    .option('--unmanaged', 'run under the ordinary Linux scheduler, without the arbiter')
    .option('--cpus <list>', 'cores that it may use while unmanaged, for example 0-1 (default: all)')
    .addOption(
      new Option('--backend <kind>', 'what runs the guest')
        .choices(['auto', 'kvm', 'hosted'])
        .default('auto'),
    )
    .option(
      '--idle-spin-ns <n>',
      'how long an idle vCPU looks for work before it yields its core',
      integer(0, 1e9),
    )
    .option(
      '--quantum-us <n>',
      'time slice of its uThreads while others of it wait for as long; 0: none, as while it is unmanaged',
      integer(0, 1e6),
      DEFAULT_QUANTUM_US,
    )
    .option('--stats', 'write a table of exits to the log when the VM ends')
    .addHelpText('after', after)
    .action(async (name: string, options: RunOptions) => {
      const started = await withDaemon((client) => client.ask<Started>('run', request(name, options)));
      if (options.json) return printJson({ name, ...started });
      const where = started.backend === 'hosted' ? 'hosted, as an ordinary Linux process' : 'in KVM';
      const how = options.unmanaged
        ? 'not managed'
        : started.managed
          ? 'managed'
          : 'not managed yet: hyperflux status tells why';
      print(`${name} runs ${where}, process ${started.pid}, ${how}`);
    });
  program.addCommand(command);
}

/** Only what was given: the daemon fills in the rest. */
function request(name: string, options: RunOptions): object {
  const optional = {
    max_cores: options.maxCores,
    image: options.image === undefined ? undefined : resolve(options.image),
    cpus: options.cpus,
    idle_spin_ns: options.idleSpinNs,
  };
  return {
    name,
    workload: options.workload,
    args: options.arg,
    class: options.class,
    vcpus: options.vcpus,
    min_cores: options.minCores,
    mem_mib: options.mem,
    quantum_us: options.quantumUs,
    weight: options.weight,
    slo_us: options.sloUs,
    backend: options.backend,
    unmanaged: options.unmanaged === true,
    stats: options.stats === true,
    ...Object.fromEntries(Object.entries(optional).filter(([, value]) => value !== undefined)),
  };
}

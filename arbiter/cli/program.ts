/** The commands, put together. Each is in a file of its own under commands/. */
import { Command } from 'commander';
import { VERSION } from '../control/protocol.ts';
import { addBench } from './commands/bench.ts';
import { addDemo } from './commands/demo.ts';
import { addDoctor } from './commands/doctor.ts';
import { addExplain } from './commands/explain.ts';
import { addHint } from './commands/hint.ts';
import { addKmod } from './commands/kmod.ts';
import { addLab } from './commands/lab.ts';
import { addPolicy } from './commands/policy.ts';
import { addPs } from './commands/ps.ts';
import { addRecord } from './commands/record.ts';
import { addRun } from './commands/run.ts';
import { addStart } from './commands/start.ts';
import { addStatus } from './commands/status.ts';
import { addStop } from './commands/stop.ts';
import { addTrace } from './commands/trace.ts';
import { exitCodes } from './output.ts';

const after = `
Examples:
  $ hyperflux demo                                      a core goes back and forth between two VMs
  $ hyperflux start                                     the daemon and the arbiter
  $ hyperflux run web --workload serve --class lc       a latency-critical VM
  $ hyperflux run bulk --workload batch --class be      a best-effort VM
  $ hyperflux ps
  $ hyperflux stop --all --daemon

Exit codes: ${exitCodes.map(([code, text]) => `${code} ${text}`).join(', ')}.
Environment: HYPERFLUX_RUN is the run directory (socket, logs); one directory, one daemon.`;

export function makeProgram(): Command {
  const program = new Command('hyperflux')
    .description(
      "Moves physical cores between KVM virtual machines in tens of microseconds, with the guest's knowledge.",
    )
    .version(VERSION, '-V, --version')
    .showSuggestionAfterError()
    .addHelpText('after', after)
    // Commander's errors are reported by main.ts, in one form with all others.
    .exitOverride()
    .configureOutput({ writeErr: () => {} });
  for (const add of [
    addStart,
    addRun,
    addPs,
    addStop,
    addStatus,
    addExplain,
    addPolicy,
    addHint,
    addRecord,
    addTrace,
    addDoctor,
    addDemo,
    addBench,
    addKmod,
    addLab,
  ])
    add(program);
  return program;
}

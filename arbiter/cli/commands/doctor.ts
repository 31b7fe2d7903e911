import type { Command } from 'commander';
import { chosen, diagnose, healthy, renderDiagnosis } from '../../observe/doctor.ts';
import { subcommand } from '../common.ts';
import { EXIT_FAILED, print, printJson } from '../output.ts';

const after = `
Each line is ok, warn (it works, with less) or fail, with what to do next. Exit code 0: VMs can run here.

Examples:
  $ hyperflux doctor
  $ hyperflux doctor --json | jq '.checks[] | select(.level != "ok")'`;

export function addDoctor(program: Command): void {
  const command = subcommand('doctor', 'look at this host: which ways to run it offers, and what is missing')
    .addHelpText('after', after)
    .action(async (options: { json?: boolean }) => {
      const diagnosis = await diagnose();
      if (options.json)
        printJson({ schema: 1, ok: healthy(diagnosis), chosen: chosen(diagnosis.ways), ...diagnosis });
      else print(renderDiagnosis(diagnosis));
      if (!healthy(diagnosis)) process.exitCode = EXIT_FAILED;
    });
  program.addCommand(command);
}

/** `hyperflux`: the command line. */
import type { Command } from 'commander';
import { CommanderError } from 'commander';
import { ControlError } from '../control/protocol.ts';
import { EXIT_OK, reportError } from './output.ts';
import { makeProgram } from './program.ts';

/** Whether JSON was asked for, also where the arguments could not be understood. */
const json = process.argv.includes('--json');

/** Commander's own complaints are wrong usage, but for help and version, which it "throws" as well. */
function translate(error: CommanderError): unknown {
  if (error.exitCode === 0) return undefined;
  const message = error.message.replace(/^error: /, '');
  if (error.code === 'commander.help')
    return new ControlError('usage', 'a command is missing', 'hyperflux --help shows the commands.');
  return new ControlError(
    'usage',
    message,
    'hyperflux --help, or --help after a command, shows what is possible.',
  );
}

async function main(): Promise<number> {
  const program: Command = makeProgram();
  try {
    await program.parseAsync(process.argv);
    return typeof process.exitCode === 'number' ? process.exitCode : EXIT_OK;
  } catch (thrown) {
    const error = thrown instanceof CommanderError ? translate(thrown) : thrown;
    return error === undefined ? EXIT_OK : reportError(error, json);
  }
}

process.exitCode = await main();

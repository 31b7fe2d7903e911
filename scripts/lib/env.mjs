// @ts-check
// The environment that commands are run in.
import { accessSync, constants, existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';

/** @param {string} program
 * @param {string} [path] */
export function isOnPath(program, path = process.env.PATH ?? '') {
  return path.split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** The environment for commands: rustup's folder is added where a shell has not been told of it. */
export function toolEnv() {
  const cargoBin = join(process.env.CARGO_HOME ?? join(homedir(), '.cargo'), 'bin');
  const path = process.env.PATH ?? '';
  const addCargo = !isOnPath('cargo') && existsSync(join(cargoBin, 'cargo'));
  return { ...process.env, PATH: addCargo ? `${path}${delimiter}${cargoBin}` : path };
}

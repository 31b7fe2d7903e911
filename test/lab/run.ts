/** Runs a program of the host and keeps what it says, for the error message if it fails. */
import { spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';
import { labError } from './fail.ts';

const TAIL_LINES = 20;

export interface RunOptions {
  cwd?: string;
  env?: NodeJS.ProcessEnv;
  /** What to do if it fails. */
  hint: string;
}

/** What a program writes to stdout; its end must be a success. */
export async function run(command: readonly string[], { cwd, env, hint }: RunOptions): Promise<string> {
  const child = spawn(command[0], command.slice(1), {
    cwd,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let out = '';
  let all = '';
  child.stdout.on('data', (chunk: Buffer) => {
    out += chunk.toString();
    all += chunk.toString();
  });
  child.stderr.on('data', (chunk: Buffer) => (all += chunk.toString()));
  const ending = await new Promise<string>((resolve) => {
    child.on('error', (error) => resolve(`does not start: ${error.message}`));
    child.on('close', (code, signal) => resolve(code === 0 ? '' : `ended with ${signal ?? `code ${code}`}`));
  });
  if (ending === '') return out;
  const tail = all.trimEnd().split('\n').slice(-TAIL_LINES).join('\n  | ');
  throw labError(`${command.slice(0, 3).join(' ')} ${ending}\n  | ${tail}`, hint);
}

/** Folders with programs that an ordinary user's PATH often lacks. */
const extraFolders = ['/usr/sbin', '/sbin'];

export function findProgram(name: string): string | undefined {
  const folders = [...(process.env.PATH ?? '').split(':'), ...extraFolders];
  return folders
    .map((folder) => join(folder, name))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

export function needProgram(name: string, hint: string): string {
  const path = findProgram(name);
  if (path === undefined) throw labError(`the lab needs the program ${name}, which is not here`, hint);
  return path;
}

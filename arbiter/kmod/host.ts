/**
 * The machine as `hyperflux kmod` sees it: files below a root, programs, and who asks. Tests give it another root,
 * other programs and another user. Nothing here needs anything that is compiled.
 */
import {
  accessSync,
  chownSync,
  closeSync,
  constants,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
} from 'node:fs';
import { spawn } from 'node:child_process';
import { release } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export interface Ran {
  code: number;
  /** Standard output and standard error, as they came. */
  output: string;
}

export interface RunOptions {
  env?: Record<string, string>;
  /** Gets each line as it comes. */
  onLine?: (line: string) => void;
}

export interface Host {
  /** An absolute path of this machine, as a path that can be opened. */
  at(path: string): string;
  /** The kernel that runs. */
  readonly release: string;
  readonly uid: number;
  /** Where a program is, or undefined. */
  find(program: string): string | undefined;
  /** Runs a program to its end; throws only if it cannot be started. */
  run(command: readonly string[], options?: RunOptions): Promise<Ran>;
  /** Gives a file to a user and a group; only root may. */
  chown(path: string, uid: number, gid: number): void;
  /** Opens for reading and writing, and closes again. The errno's name, or empty if it could. */
  tryOpen(path: string): string;
}

/** The clone that this file is part of. */
export const repository = fileURLToPath(new URL('../..', import.meta.url));

/** Administrators' programs are not on everybody's PATH. */
const MORE_FOLDERS = ['/usr/local/sbin', '/usr/sbin', '/sbin', '/usr/bin', '/bin'];

function findProgram(program: string): string | undefined {
  const folders = [...(process.env.PATH ?? '').split(':').filter((folder) => folder !== ''), ...MORE_FOLDERS];
  return folders
    .map((folder) => join(folder, program))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

function runProgram(command: readonly string[], { env = {}, onLine }: RunOptions = {}): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const child = spawn(command[0], command.slice(1), {
      // Messages are looked at for what they say.
      env: { ...process.env, LC_ALL: 'C', ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    let line = '';
    const take = (data: Buffer): void => {
      const text = data.toString();
      output += text;
      const lines = (line + text).split(/[\r\n]+/);
      line = lines.pop() ?? '';
      for (const whole of lines) onLine?.(whole);
    };
    child.stdout.on('data', take);
    child.stderr.on('data', take);
    child.on('error', reject);
    child.on('close', (code) => {
      if (line !== '') onLine?.(line);
      resolve({ code: code ?? 1, output });
    });
  });
}

function tryOpen(path: string): string {
  try {
    closeSync(openSync(path, 'r+'));
    return '';
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? 'EIO';
  }
}

export const thisHost = (): Host => ({
  at: (path) => path,
  release: release(),
  uid: process.geteuid?.() ?? 0,
  find: findProgram,
  run: runProgram,
  chown: chownSync,
  tryOpen,
});

/** A file's text without the white space at its ends; undefined if it cannot be read. */
export function readFile(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return undefined;
  }
}

export const readText = (host: Host, path: string): string | undefined => readFile(host.at(path));

export function readLink(host: Host, path: string): string | undefined {
  try {
    return readlinkSync(host.at(path));
  } catch {
    return undefined;
  }
}

/** Names in a folder; none if it cannot be read. */
export function list(host: Host, path: string): string[] {
  try {
    return readdirSync(host.at(path));
  } catch {
    return [];
  }
}

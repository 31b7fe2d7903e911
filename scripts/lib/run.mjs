// @ts-check
// Runs a command with its output kept in a log, and shows the end of that log when it fails.
import { spawn } from 'node:child_process';
import { createWriteStream, mkdirSync } from 'node:fs';
import { join, relative } from 'node:path';
import { toolEnv } from './env.mjs';
import { buildState, root } from './paths.mjs';
import { say, startProgress } from './progress.mjs';

const tailLines = 40;

/** A failure that has been explained already: print its message, no stack. */
export class Failure extends Error {}

/**
 * @param {string} label what the user sees
 * @param {string[]} command
 * @param {{ name: string, cwd?: string, env?: Record<string, string>, hint?: string }} options
 */
export async function runLogged(label, command, { name, cwd = '.', env = {}, hint }) {
  const logDir = join(buildState, 'logs');
  mkdirSync(logDir, { recursive: true });
  const logFile = join(logDir, `${name}.log`);
  const log = createWriteStream(logFile);
  const progress = startProgress(label);
  /** @type {string[]} */
  let tail = [];

  const outcome = await new Promise((resolve) => {
    const child = spawn(command[0], command.slice(1), {
      cwd: join(root, cwd),
      env: { ...toolEnv(), ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    /** @param {Buffer} chunk */
    const onOutput = (chunk) => {
      log.write(chunk);
      const lines = chunk
        .toString()
        .split(/[\r\n]+/)
        .filter((line) => line.trim());
      tail = tail.concat(lines).slice(-tailLines);
      progress.detail(tail.at(-1) ?? '');
    };
    child.stdout.on('data', onOutput);
    child.stderr.on('data', onOutput);
    child.on('error', (error) => resolve(`could not start: ${error.message}`));
    child.on('close', (code, signal) =>
      resolve(code === 0 ? 'ok' : `failed (${signal ?? `exit code ${code}`})`),
    );
  });
  log.end();
  progress.end(outcome === 'ok' ? 'done' : outcome);
  if (outcome === 'ok') return;

  say(tail.map((line) => `  | ${line}`).join('\n'));
  say(`  the whole output: ${relative(root, logFile)}`);
  throw new Failure(
    hint ? `next step: ${hint}` : `next step: mend what is named above, then run the same command again`,
  );
}

/** Runs programs: output captured, a limit of time, and nothing left behind when this process is interrupted. */
import { spawn } from 'node:child_process';
import { kill } from 'node:process';

/** A failure that is explained already: its message is for the user, a stack would not help. */
export class ToolError extends Error {
  readonly hint: string;
  constructor(message: string, hint: string) {
    super(message);
    this.hint = hint;
  }
}

export interface Ending {
  code: number;
  output: string;
}

export interface RunOptions {
  cwd?: string;
  env?: NodeJS.ProcessEnv;
  /** The program and its children are killed after this long. */
  limitMs?: number;
  /** Called with each whole line, as it comes. */
  onLine?: (line: string) => void;
}

const LIMIT_MS = 600_000;
const TAIL_LINES = 15;
const groups = new Set<number>();

function killGroup(pid: number): void {
  try {
    kill(-pid, 'SIGKILL');
  } catch (error) {
    // It has ended in this very moment.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

let guarded = false;

/** Children are in groups of their own, so that a limit ends make's children too; so Ctrl-C has to be passed on. */
function guard(): void {
  if (guarded) return;
  guarded = true;
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.once(signal, () => {
      groups.forEach(killGroup);
      kill(process.pid, signal);
    });
}

/** Runs a program to its end, whatever that is. Its stdout and stderr come back as one text. */
export function attempt(command: readonly string[], options: RunOptions = {}): Promise<Ending> {
  guard();
  return new Promise((resolve) => {
    const child = spawn(command[0], command.slice(1), {
      cwd: options.cwd,
      env: options.env ?? process.env,
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    let output = '';
    let partial = '';
    let late = false;
    const collect = (chunk: Buffer): void => {
      output += chunk.toString();
      const lines = (partial + chunk.toString()).split('\n');
      partial = lines.pop() ?? '';
      if (options.onLine) lines.forEach(options.onLine);
    };
    child.stdout.on('data', collect);
    child.stderr.on('data', collect);
    const { pid } = child;
    if (pid !== undefined) groups.add(pid);
    const limit = options.limitMs ?? LIMIT_MS;
    const timer = setTimeout(() => {
      late = true;
      if (pid !== undefined) killGroup(pid);
    }, limit);
    const end = (code: number, more: string): void => {
      clearTimeout(timer);
      if (pid !== undefined) groups.delete(pid);
      resolve({ code, output: output + more });
    };
    child.on('error', (error) => end(127, `${command[0]} does not start: ${error.message}\n`));
    child.on('close', (code, signal) =>
      end(
        code ?? 1,
        late ? `killed: not done after ${limit / 1000} s\n` : signal ? `killed by ${signal}\n` : '',
      ),
    );
  });
}

export function tail(output: string, lines = TAIL_LINES): string {
  return output.trimEnd().split('\n').slice(-lines).join('\n  | ');
}

/** Runs a program that has to succeed; what it wrote comes back. */
export async function need(
  command: readonly string[],
  hint: string,
  options: RunOptions = {},
): Promise<string> {
  const { code, output } = await attempt(command, options);
  if (code === 0) return output;
  throw new ToolError(
    `${command.slice(0, 4).join(' ')} ... ended with code ${code}\n  | ${tail(output)}`,
    hint,
  );
}

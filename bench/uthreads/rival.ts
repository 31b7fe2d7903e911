/**
 * A contestant that is a program of its own: it says what it is in its first line, and then answers one line
 * for each line that it is sent. It lives as long as the benchmark, so that its start is not measured.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { getAffinity, setAffinity } from '../../native/index.ts';
import { Refusal, type Contestant } from './contestant.ts';

/** Far more than any block takes. */
const PATIENCE_MS = 120_000;
const READY = 'ready ';

/** The nanoseconds in an answer. Throws a Refusal for anything else than as many of them as were asked for. */
export function parseAnswer(line: string, samples: number): number[] {
  const [word, ...rest] = line.trim().split(/\s+/);
  if (word === 'no') throw new Refusal(rest.join(' ') || 'it did not say why');
  const values = rest.map((text) => (/^\d+$/.test(text) ? Number(text) : NaN));
  if (word !== 'ok' || values.length !== samples || values.some(Number.isNaN))
    throw new Refusal(`it answered "${line.slice(0, 80)}"`);
  return values;
}

/** Lines of a program, one at a time, for whoever asks next. */
class Lines {
  readonly #lines: string[] = [];
  #waiting: ((line: string | null) => void) | null = null;
  #ended = false;

  constructor(of: ChildProcess) {
    const lines = createInterface({ input: of.stdout! });
    lines.on('line', (line) => this.#give(line));
    of.once('close', () => {
      this.#ended = true;
      this.#give(null);
    });
  }

  #give(line: string | null): void {
    const waiting = this.#waiting;
    this.#waiting = null;
    if (waiting !== null) waiting(line);
    else if (line !== null) this.#lines.push(line);
  }

  /** null: there will be no more. */
  next(): Promise<string | null> {
    const line = this.#lines.shift();
    if (line !== undefined || this.#ended) return Promise.resolve(line ?? null);
    return new Promise((resolve) => (this.#waiting = resolve));
  }
}

export class Rival implements Contestant {
  readonly name: string;
  version = '';
  readonly #process: ChildProcess;
  readonly #lines: Lines;
  #errors = '';
  #gone: string | null = null;

  private constructor(name: string, process: ChildProcess) {
    this.name = name;
    this.#process = process;
    this.#lines = new Lines(process);
    process.stdin!.on('error', () => undefined);
    process.stderr!.on('data', (data: Buffer) => {
      this.#errors = (this.#errors + data.toString()).slice(-2000);
    });
    process.once('error', (error) => (this.#gone = error.message));
  }

  /** Starts the program on these cores and waits until it says that it is ready. */
  static async start(
    name: string,
    command: readonly string[],
    cores: readonly number[],
    env: NodeJS.ProcessEnv = process.env,
  ): Promise<Rival> {
    // A child has the affinity of the thread that makes it.
    const before = getAffinity(0);
    setAffinity(0, cores);
    let child: ChildProcess;
    try {
      child = spawn(command[0], command.slice(1), { env, stdio: ['pipe', 'pipe', 'pipe'] });
    } finally {
      setAffinity(0, before);
    }
    const rival = new Rival(name, child);
    try {
      const line = await rival.#next();
      if (!line.startsWith(READY)) throw new Refusal(`it began with "${line.slice(0, 80)}"`);
      rival.version = line.slice(READY.length).trim();
    } catch (error) {
      await rival.close();
      throw error;
    }
    return rival;
  }

  async #next(): Promise<string> {
    const timer = setTimeout(() => {
      this.#gone ??= `it did not answer within ${PATIENCE_MS / 1000} s`;
      this.#process.kill('SIGKILL');
    }, PATIENCE_MS);
    const line = await this.#lines.next();
    clearTimeout(timer);
    if (line !== null) return line;
    const said = this.#errors.trim().split('\n')[0];
    this.#gone ??= `its process has ended${said === '' ? '' : `: ${said}`}`;
    throw new Refusal(this.#gone);
  }

  async run(key: string, samples: number, ops: number): Promise<number[]> {
    if (this.#gone !== null) throw new Refusal(this.#gone);
    this.#process.stdin!.write(`${key} ${samples} ${ops}\n`);
    return parseAnswer(await this.#next(), samples);
  }

  kill(): void {
    this.#process.kill('SIGKILL');
  }

  async close(): Promise<void> {
    const { exitCode, signalCode, pid } = this.#process;
    if (pid === undefined || exitCode !== null || signalCode !== null) return;
    // Its end, and not that of its output, which a program that it has started may keep open.
    const ended = new Promise((done) => this.#process.once('exit', done));
    this.#process.kill('SIGKILL');
    await ended;
    for (const stream of [this.#process.stdin, this.#process.stdout, this.#process.stderr]) stream?.destroy();
  }
}

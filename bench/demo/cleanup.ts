/**
 * Leaves nothing behind: whatever is started or made is written down here together
 * with how to undo it, and undone in reverse order, once, however the run ends.
 *
 * There are two ways out. The orderly one waits for processes to end by themselves.
 * The last one runs when there is no time for that (a second Ctrl-C, an exit from
 * elsewhere) and is synchronous.
 */
import { readdirSync, readFileSync } from 'node:fs';

interface Entry {
  what: string;
  undo: () => Promise<void> | void;
  /** For the way out without time; if there is none, nothing needs to be done. */
  atOnce?: () => void;
}

/** How the run was broken off, for whoever has to say so. */
export class Interrupted extends Error {
  readonly signal: NodeJS.Signals;
  constructor(signal: NodeJS.Signals) {
    super(`stopped by ${signal}`);
    this.signal = signal;
  }
}

export class Cleanup {
  readonly #entries: Entry[] = [];
  #closed: Error | undefined;

  /** From now on nothing may be started any more. */
  close(reason: Error): void {
    this.#closed ??= reason;
  }

  /** To be called wherever something waits. Throws once the run is to end. */
  check(): void {
    if (this.#closed !== undefined) throw this.#closed;
  }

  /** Returns a function that undoes this one thing now. What comes too late is undone at once. */
  add(what: string, undo: () => Promise<void> | void, atOnce?: () => void): () => Promise<void> {
    if (this.#closed !== undefined) {
      atOnce?.();
      throw this.#closed;
    }
    const entry: Entry = { what, undo, atOnce };
    this.#entries.push(entry);
    return async () => {
      const at = this.#entries.indexOf(entry);
      if (at < 0) return;
      this.#entries.splice(at, 1);
      await entry.undo();
    };
  }

  /** Undoes everything. One failure does not keep the rest from being undone; all of them are returned. */
  async run(): Promise<string[]> {
    const failures: string[] = [];
    for (let entry = this.#entries.at(-1); entry !== undefined; entry = this.#entries.at(-1)) {
      try {
        await entry.undo();
      } catch (error) {
        failures.push(`${entry.what}: ${error instanceof Error ? error.message : String(error)}`);
        try {
          entry.atOnce?.();
        } catch {
          // Said already; there is no third way.
        }
      }
      // Removed only now: if the process has to exit meanwhile, runAtOnce still knows of it.
      const at = this.#entries.indexOf(entry);
      if (at >= 0) this.#entries.splice(at, 1);
    }
    return failures;
  }

  runAtOnce(): void {
    for (let entry = this.#entries.pop(); entry !== undefined; entry = this.#entries.pop()) {
      try {
        entry.atOnce?.();
      } catch {
        // On the way out; what is left is removed as far as it can be.
      }
    }
  }
}

const SIGNALS: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP'];

/** How long a run that was broken off may take to come to its end by itself. */
const UNWIND_MS = 5000;

/**
 * Runs `body`, which is to end early if a signal comes: `stopped` rejects then, and
 * the cleanup's check() throws. Undoes everything afterwards, and returns what could
 * not be undone.
 */
export async function withCleanup<T>(
  body: (cleanup: Cleanup, stopped: Promise<never>) => Promise<T>,
): Promise<{ value: T; failures: string[] }> {
  const cleanup = new Cleanup();
  let stop: (reason: Interrupted) => void = () => undefined;
  const stopped = new Promise<never>((_, reject) => {
    stop = reject;
  });
  // Nobody may be waiting at the moment when it rejects.
  stopped.catch(() => undefined);
  let signals = 0;
  const onSignal = (signal: NodeJS.Signals): void => {
    signals++;
    if (signals === 1) {
      const reason = new Interrupted(signal);
      cleanup.close(reason);
      stop(reason);
      return;
    }
    cleanup.runAtOnce();
    process.exit(1);
  };
  const onExit = (): void => cleanup.runAtOnce();
  for (const signal of SIGNALS) process.on(signal, onSignal);
  process.on('exit', onExit);
  const running = body(cleanup, stopped);
  try {
    let value: T;
    try {
      value = await Promise.race([running, stopped]);
    } catch (error) {
      // If a signal came, the body unwinds by itself and undoes most things on its way.
      await settled(running, UNWIND_MS);
      cleanup.close(error instanceof Error ? error : new Error(String(error)));
      const failures = await cleanup.run();
      if (failures.length > 0 && error instanceof Error) {
        error.message += `; besides, not everything could be undone: ${failures.join('; ')}`;
      }
      throw error;
    }
    cleanup.close(new Error('the run is over'));
    return { value, failures: await cleanup.run() };
  } finally {
    for (const signal of SIGNALS) process.off(signal, onSignal);
    process.off('exit', onExit);
  }
}

/** Waits for a promise's end, good or bad, but no longer than this. */
async function settled(promise: Promise<unknown>, timeoutMs: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, timeoutMs);
  });
  const done = promise.then(
    () => undefined,
    () => undefined,
  );
  await Promise.race([done, late]);
  clearTimeout(timer);
}

/** When a process was started, in the kernel's ticks: together with its pid it names one process for ever. */
export function startTime(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The command's name may contain anything, so fields are counted from the last parenthesis.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    // A zombie holds its number only until its parent looks at it.
    return fields[0] === 'Z' ? undefined : fields[19];
  } catch {
    // It is gone.
    return undefined;
  }
}

/** A process that can be killed without ever hitting another that got its number since. */
export interface KnownProcess {
  readonly pid: number;
  alive(): boolean;
  kill(signal: NodeJS.Signals): void;
}

export function knownProcess(pid: number): KnownProcess {
  const born = startTime(pid);
  const alive = (): boolean => born !== undefined && startTime(pid) === born;
  return {
    pid,
    alive,
    kill(signal): void {
      if (!alive()) return;
      try {
        process.kill(pid, signal);
      } catch {
        // It ended between the look and the signal.
      }
    },
  };
}

/** Waits until a condition holds. Returns false if it does not within the time. */
export async function until(condition: () => boolean, timeoutMs: number, stepMs = 10): Promise<boolean> {
  const end = performance.now() + timeoutMs;
  while (!condition()) {
    if (performance.now() >= end) return condition();
    await new Promise((resolve) => setTimeout(resolve, stepMs));
  }
  return true;
}

/** Asks a process to end, and kills it if it has not after a while. */
export async function endProcess(process: KnownProcess, patienceMs = 3000): Promise<void> {
  process.kill('SIGTERM');
  if (await until(() => !process.alive(), patienceMs)) return;
  process.kill('SIGKILL');
  await until(() => !process.alive(), patienceMs);
}

/** Processes whose command line names this path: those that were started for a run in a directory of its own. */
export function processesOf(path: string): KnownProcess[] {
  const found: KnownProcess[] = [];
  for (const name of readdirSync('/proc')) {
    const pid = Number(name);
    if (!Number.isInteger(pid) || pid === process.pid) continue;
    try {
      if (readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(path)) found.push(knownProcess(pid));
    } catch {
      // It ended meanwhile.
    }
  }
  return found;
}

/** Rounds of killing: a process may have started another just before it was killed itself. */
const ROUNDS = 5;

/** Kills whatever still runs for this directory. */
export function killAll(path: string): void {
  for (let round = 0; round < ROUNDS; round++) {
    const left = processesOf(path).filter((known) => known.alive());
    if (left.length === 0) return;
    for (const known of left) known.kill('SIGKILL');
  }
}

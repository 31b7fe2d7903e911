/**
 * What hyperfluxd tells its service manager (sd_notify): that it is ready, what it does, that it ends, and, as long as
 * the arbiter's loop turns, that the watchdog need not bark. Without NOTIFY_SOCKET nobody asked, and nothing is said.
 */

export interface Target {
  /** A path, or @name for an abstract address. */
  socket: string;
  /** How often the manager wants to hear of this process; 0: it does not watch. */
  watchdogUs: number;
}

/** What the environment asks for, taken out of it: programs that the daemon starts have nothing to tell. */
export function takeTarget(env: NodeJS.ProcessEnv, pid: number): Target | undefined {
  const { NOTIFY_SOCKET: socket = '', WATCHDOG_USEC: usec = '', WATCHDOG_PID: watched = '' } = env;
  for (const name of ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID']) delete env[name];
  // Other kinds (vsock:) are for machines that tell their host.
  if (!/^[/@]./.test(socket)) return undefined;
  const mine = watched === '' || watched === String(pid);
  return { socket, watchdogUs: mine && /^\d{1,15}$/.test(usec) ? Number(usec) : 0 };
}

/** How far the loop is; it has advanced if anything of it is another. */
export interface LoopProgress {
  /** The arbiter is live, and it is the one that the daemon started. */
  live: boolean;
  /** Arbiters that have started, and turns of the last one: a new arbiter begins to count again. */
  starts: number;
  turns: number;
}

/** Decides at each look whether the loop has advanced since the look before. The first look has nothing to compare. */
export function makeWatch(): (now: LoopProgress) => boolean {
  let last: LoopProgress | undefined;
  return (now) => {
    const advanced = last !== undefined && (now.starts !== last.starts || now.turns !== last.turns);
    last = { ...now };
    return now.live && advanced;
  };
}

export interface NotifierOptions {
  target: Target | undefined;
  send: (socket: string, text: string) => void;
  progress: () => LoopProgress;
  /** One line for people: what the daemon does. */
  status: () => string;
  warn: (fields: object, text: string) => void;
}

/** The status is brought up to date this often where nobody watches. */
const STATUS_MS = 5000;

export class Notifier {
  private readonly o: NotifierOptions;
  private readonly advanced = makeWatch();
  private timer: NodeJS.Timeout | undefined;
  private said = '';
  private silent = false;
  private failed = false;

  constructor(options: NotifierOptions) {
    this.o = options;
  }

  /** Half of what the manager waits for, as sd_watchdog_enabled(3) advises. */
  get intervalMs(): number {
    const us = this.o.target?.watchdogUs ?? 0;
    return us > 0 ? Math.max(1, us / 2000) : STATUS_MS;
  }

  /** The arbiter is live. From now on the watchdog is fed as long as the loop turns. */
  ready(): void {
    if (this.o.target === undefined) return;
    this.advanced(this.o.progress());
    this.said = this.o.status();
    this.send(`READY=1\nSTATUS=${this.said}`);
    this.timer = setInterval(() => this.look(), this.intervalMs);
    this.timer.unref();
  }

  stopping(): void {
    clearInterval(this.timer);
    this.send('STOPPING=1\nSTATUS=the daemon ends, VMs go on unmanaged');
  }

  /** One look at the loop: at each interval, and in tests. */
  look(): void {
    const lines: string[] = [];
    const turning = this.advanced(this.o.progress());
    if (turning && (this.o.target?.watchdogUs ?? 0) > 0) lines.push('WATCHDOG=1');
    if (!turning && !this.silent)
      this.o.warn({}, "the arbiter's loop does not turn: the watchdog is not fed");
    this.silent = !turning;
    const status = turning ? this.o.status() : "the arbiter's loop does not turn";
    if (status !== this.said) lines.push(`STATUS=${(this.said = status)}`);
    if (lines.length > 0) this.send(lines.join('\n'));
  }

  /** A manager that does not listen is no reason to end: it will say so itself, by its watchdog. */
  private send(text: string): void {
    const { target, send, warn } = this.o;
    if (target === undefined) return;
    try {
      send(target.socket, text);
      this.failed = false;
    } catch (error) {
      if (!this.failed) warn({ err: error }, 'the service manager could not be told');
      this.failed = true;
    }
  }
}

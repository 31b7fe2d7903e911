/**
 * The arbiter process and its lease: started, watched, replaced. The lease is
 * supervised here, once for all VMs: an arbiter whose heartbeat stands still is
 * killed, its connections close, and each Fluxion takes its VM back under the
 * ordinary scheduler until the next arbiter adopts it.
 */
import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { kill } from '../../native/index.ts';
import { W_TABLE_ARBITER_PID, W_TABLE_HEARTBEAT } from '../abi/layout.gen.ts';
import { S_STATE, STATE_LIVE, STATE_OFF } from '../loop/stats.ts';
import { LOOP_FLAGS } from '../process/flags.ts';
import type { Pool } from '../vm/host.ts';
import type { DaemonConfig } from './config.ts';
import type { RunPaths } from './paths.ts';
import type { Shared } from './shared.ts';

export interface SupervisorLog {
  info(fields: object, text: string): void;
  warn(fields: object, text: string): void;
  error(fields: object, text: string): void;
}

const main = fileURLToPath(new URL('../process/main.ts', import.meta.url));
/** Warming up, which takes tens of seconds on an emulated machine that is busy. */
export const START_MS = 240_000;
/** A run that was shorter than this was a failure to start; then the next try waits. */
const SHORT_MS = 5000;

export class Supervisor {
  restarts = 0;
  lastFault = '';
  private readonly paths: RunPaths;
  private readonly config: DaemonConfig;
  private readonly pool: Pool;
  private readonly shared: Shared;
  private readonly log: SupervisorLog;
  private child: ChildProcess | undefined;
  private pid = 0;
  private startedAt = 0;
  private failures = 0;
  private stopping = false;
  private beat = 0;
  private beatAt = 0;
  private still = 0;
  private readonly timer: NodeJS.Timeout;
  private retry: NodeJS.Timeout | undefined;
  private ended: (() => void)[] = [];

  constructor(paths: RunPaths, config: DaemonConfig, pool: Pool, shared: Shared, log: SupervisorLog) {
    this.paths = paths;
    this.config = config;
    this.pool = pool;
    this.shared = shared;
    this.log = log;
    if (shared.arbiterPid !== 0) this.pid = shared.arbiterPid;
    else this.start();
    this.startedAt = performance.now();
    this.timer = setInterval(() => this.check(), Math.max(20, config.lease_ms / 5));
  }

  get arbiterPid(): number {
    return this.pid;
  }

  get live(): boolean {
    return (
      this.pid !== 0 &&
      this.shared.stats.words[S_STATE] === STATE_LIVE &&
      this.shared.table[W_TABLE_ARBITER_PID] === this.pid
    );
  }

  /** Ends when the arbiter is live; throws with the reason if that does not happen in time. */
  async untilLive(timeoutMs: number): Promise<void> {
    const end = performance.now() + timeoutMs;
    while (!this.live) {
      if (performance.now() > end)
        throw new Error(
          `the arbiter did not come up in ${timeoutMs} ms${this.lastFault ? `: ${this.lastFault}` : ''}`,
        );
      if (this.failures >= 3) throw new Error(`the arbiter does not come up: ${this.lastFault}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  /** Ends the arbiter in good order; VMs go on unmanaged. */
  async stop(): Promise<void> {
    this.stopping = true;
    clearInterval(this.timer);
    clearTimeout(this.retry);
    if (this.pid === 0) return;
    this.signal(15);
    const gone = new Promise<void>((resolve) => this.ended.push(resolve));
    const hard = setTimeout(() => this.signal(9), 3000);
    const watch = setInterval(() => this.alive() || this.over('it ended'), 20);
    await gone;
    clearTimeout(hard);
    clearInterval(watch);
  }

  private start(): void {
    const { paths, pool, config, shared } = this;
    const options = {
      lock: paths.arbiterLock,
      sockets: paths.vms,
      arbiterCore: pool.arbiterCore,
      cores: pool.cores,
      policy: config.policy,
      params: config.params,
      pace: config.guard,
      warmUpRounds: config.warm_up_rounds,
      idleMaxUs: config.idle === 'adaptive' ? config.idle_max_us : 0,
    };
    shared.stats.words[S_STATE] = STATE_OFF;
    const log = openSync(paths.log('arbiter'), 'a', 0o600);
    // A session of its own: what happens to the daemon's terminal is not the arbiter's business.
    const child = spawn(process.execPath, [...LOOP_FLAGS, main, JSON.stringify(options)], {
      detached: true,
      stdio: ['ignore', log, log, shared.tableFd, shared.statsFd],
    });
    closeSync(log);
    this.child = child;
    this.pid = child.pid ?? 0;
    this.startedAt = performance.now();
    this.still = 0;
    child.on('error', (error) => this.over(`it could not be started: ${error.message}`));
    child.on('exit', (code, signal) => {
      if (this.child === child)
        this.over(signal === null ? `it ended with ${code}` : `it was ended by ${signal}`);
    });
    child.unref();
    this.log.info({ arbiter: this.pid }, 'arbiter started');
  }

  private check(): void {
    if (this.pid === 0 || this.stopping) return;
    if (!this.alive()) return this.over('it is gone');
    const now = performance.now();
    if (!this.live) {
      if (now - this.startedAt > START_MS) this.replace('it did not come up');
      return;
    }
    const beat = Atomics.load(this.shared.table, W_TABLE_HEARTBEAT);
    if (beat !== this.beat) {
      this.beat = beat;
      this.beatAt = now;
      this.still = 0;
      return;
    }
    // Looked at several times: this process may have been off its core as well.
    this.still++;
    if (this.still >= 4 && now - this.beatAt > this.config.lease_ms) {
      this.replace(`its heartbeat stood still for ${Math.round(now - this.beatAt)} ms`);
    }
  }

  private replace(why: string): void {
    this.log.error({ arbiter: this.pid }, `arbiter is killed: ${why}`);
    this.lastFault = why;
    this.signal(9);
    if (this.child === undefined) this.over(why);
  }

  private over(why: string): void {
    if (this.pid === 0) return;
    const ran = performance.now() - this.startedAt;
    const { pid } = this;
    this.pid = 0;
    this.child = undefined;
    for (const resolve of this.ended.splice(0)) resolve();
    if (this.stopping) return;
    this.lastFault = `${this.lastFault === '' || !this.lastFault.includes('heartbeat') ? why : this.lastFault}`;
    this.restarts++;
    this.failures = ran < SHORT_MS && !this.wasLive(pid) ? this.failures + 1 : 0;
    const delay = this.failures === 0 ? 0 : Math.min(5000, 100 * 2 ** this.failures);
    this.log.error({ arbiter: pid, restarts: this.restarts, delay }, `arbiter is restarted: ${why}`);
    this.retry = setTimeout(() => this.stopping || this.start(), delay);
  }

  private wasLive(pid: number): boolean {
    return this.shared.table[W_TABLE_ARBITER_PID] === pid;
  }

  private alive(): boolean {
    try {
      kill(this.pid, 0);
      return true;
    } catch (error) {
      return (error as { code?: string }).code === 'EPERM';
    }
  }

  private signal(signal: number): void {
    try {
      kill(this.pid, signal);
    } catch {
      // It is gone already.
    }
  }
}

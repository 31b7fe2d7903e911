/**
 * A daemon for a test, started as `hyperflux start` does it but with a configuration of the test's own: in the lab a
 * second can be long, so nothing here or there may be in a hurry.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, openSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { OFF_GUEST_VCPU_DONE_LO, VCPUS_OFFSET } from '../../arbiter/abi/layout.gen.ts';
import { ControlClient } from '../../arbiter/control/client.ts';
import { runPaths, vmNames } from '../../arbiter/control/paths.ts';
import type { ControlOp, StatusInfo, VmInfo } from '../../arbiter/control/protocol.ts';
import { VmClient } from '../faults/vm-client.ts';

const main = fileURLToPath(new URL('../../arbiter/control/main.ts', import.meta.url));

export interface Ready {
  ready: boolean;
  pid: number;
  bridge: string;
  bridge_why: string;
  message?: string;
}

/** How far a guest has come, read where it counts, and what its Fluxion says. */
export interface Watch {
  done(): number;
  managed(): boolean;
  close(): void;
}

export class TestDaemon {
  readonly paths = runPaths(mkdtempSync(join(tmpdir(), 'hf-e2e-')));
  private readonly config: object;

  /** `config`: fields of DaemonConfig, beside what makes it patient and quick to start. */
  constructor(config: object) {
    this.config = { warm_up_rounds: 300, start_timeout_ms: 600_000, cpuset: 'off', ...config };
  }

  /** Starts it, also after it was killed. Throws what it says if it does not come up. */
  async start(fields: object = {}): Promise<Ready> {
    mkdirSync(this.paths.logs, { recursive: true, mode: 0o700 });
    const log = openSync(this.paths.log('daemon'), 'a');
    const config = JSON.stringify({ run: this.paths.dir, ...this.config, ...fields });
    const child = spawn(process.execPath, [main, config], {
      detached: true,
      stdio: ['ignore', log, log, 'pipe'],
    });
    child.unref();
    const lines = createInterface(child.stdio[3] as NodeJS.ReadableStream);
    const [line] = (await Promise.race([once(lines, 'line'), once(lines, 'close')])) as [string?];
    const ready = line === undefined ? undefined : (JSON.parse(line) as Ready);
    if (ready?.ready !== true) throw new Error(`no daemon: ${ready?.message ?? this.logs()}`);
    return ready;
  }

  async ask<T>(op: ControlOp, fields: object = {}): Promise<T> {
    const client = await ControlClient.connect(this.paths);
    try {
      return await client.ask<T>(op, fields);
    } finally {
      client.close();
    }
  }

  status(): Promise<StatusInfo> {
    return this.ask('status');
  }

  async vms(): Promise<Record<string, VmInfo>> {
    const { vms } = await this.ask<{ vms: VmInfo[] }>('ps');
    return Object.fromEntries(vms.map((vm) => [vm.name, vm]));
  }

  /** Waits for what must come. Not for ever, so that a test that fails says at what. */
  async until(what: string, holds: () => Promise<boolean> | boolean): Promise<void> {
    for (let tries = 0; tries < 20_000; tries++) {
      if (await holds()) return;
      await sleep(20);
    }
    throw new Error(`it did not happen: ${what}\n${await this.state()}\n${this.logs()}`);
  }

  /** A VM that does nothing but work, and is managed when this ends. */
  async run(name: string, fields: object = {}): Promise<void> {
    await this.ask('run', { name, workload: 'batch', ...fields });
    await this.until(`${name} is managed`, async () => (await this.vms())[name].managed);
  }

  watch(name: string): Watch {
    const client = new VmClient(this.paths.vmSocket(name));
    const page = client.page();
    return {
      done: () => Atomics.load(page, (VCPUS_OFFSET + OFF_GUEST_VCPU_DONE_LO) / 4),
      managed: () => client.ask('status').managed === true,
      close: () => client.close(),
    };
  }

  async progress(...names: string[]): Promise<void> {
    for (const name of names) {
      const vm = this.watch(name);
      const before = vm.done();
      await this.until(`${name} makes progress`, () => vm.done() !== before);
      vm.close();
    }
  }

  /** Cores go on moving. */
  async moves(): Promise<void> {
    const count = async (): Promise<number> =>
      (await this.ask<{ counters: Record<string, number> }>('stats')).counters.moves;
    const before = await count();
    await this.until('cores move', async () => (await count()) > before + 3);
  }

  /** Who is where, for the message of a test that waited in vain. */
  private async state(): Promise<string> {
    const said: string[] = [];
    try {
      for (const vm of Object.values(await this.vms())) said.push(JSON.stringify(vm));
      const { decisions } = await this.ask<{ decisions: object[] }>('decisions', { count: 5 });
      said.push(...decisions.map((decision) => JSON.stringify(decision)));
    } catch (error) {
      said.push((error as Error).message);
    }
    for (const name of vmNames(this.paths)) {
      const client = new VmClient(this.paths.vmSocket(name));
      said.push(`${name}: ${JSON.stringify(client.words())}`);
      client.close();
    }
    return said.join('\n');
  }

  logs(): string {
    return readdirSync(this.paths.logs)
      .map((name) => `${name}:\n${readFileSync(join(this.paths.logs, name), 'utf8').slice(-2000)}`)
      .join('\n');
  }

  /** Ends whatever there is, however it was left. */
  async end(): Promise<void> {
    try {
      await this.ask('shutdown', { vms: true });
      await sleep(500);
    } catch {
      // No daemon. What is left is found below.
    }
    for (const pid of readdirSync('/proc').filter((name) => /^[1-9]\d+$/.test(name))) {
      try {
        const line = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
        if (line.includes(this.paths.dir) && Number(pid) !== process.pid)
          process.kill(Number(pid), 'SIGKILL');
      } catch {
        // It has ended.
      }
    }
    rmSync(this.paths.dir, { recursive: true, force: true });
  }
}

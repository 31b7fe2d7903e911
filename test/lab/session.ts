/** One boot: its ports, its end, and what came out of it. */
import type { ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { randomBytes } from 'node:crypto';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { cpio } from './cpio.ts';
import type { Stop } from './monitor.ts';
import { lastResets, openMonitor } from './monitor.ts';
import type { LabOptions } from './options.ts';
import { orderNodes } from './orders.ts';
import type { Port } from './ports.ts';
import { openPort } from './ports.ts';
import type { Prepared } from './prepare.ts';
import { say, step } from './progress.ts';
import type { Machine } from './qemu.ts';
import { hostCores, pinThreads, startQemu } from './qemu.ts';

/** How long the last words of a guest may take after it has said how it ended. */
const LAST_WORDS_MS = 60_000;
/** How much longer the host waits than the guest, which can say where it hangs. */
const GRACE_S = 20;
/** Until the guest is up. Seconds are enough, but for a debug kernel on a busy host. */
const BOOT_S = 300;

export type Ending =
  | { kind: 'exit'; code: number }
  | { kind: 'broken'; why: string }
  | { kind: 'crashed' }
  | { kind: 'timeout' }
  | { kind: 'interrupted' };

export interface Session {
  ending: Ending;
  /** Milliseconds from QEMU's start to the guest's own; undefined if it never got there. */
  bootMs?: number;
  /** The kernel's log as records; empty if the guest could not give it. */
  kmsg: string;
  console: string;
  files: Buffer;
  pinned: boolean;
  qemuError: string;
  /** How the machine stopped by itself, if it did. */
  stop?: Stop;
  /** What QEMU noted of a triple fault. */
  resets: string;
  /** How QEMU itself ended. */
  qemuEnd: string;
}

export async function boot(
  prepared: Prepared,
  options: LabOptions,
  command: readonly string[],
  cpus: number,
): Promise<Session> {
  const folder = mkdtempSync(join(tmpdir(), 'hyperflux-lab-'));
  try {
    return await bootIn(folder, prepared, options, command, cpus);
  } finally {
    if (options.keep) say(`kept: ${folder}`);
    else rmSync(folder, { recursive: true, force: true });
  }
}

/** Waits when the reader is slower than the guest. */
async function pass(to: Writable, chunk: Buffer): Promise<void> {
  if (!to.write(chunk)) await once(to, 'drain');
}

async function bootIn(
  folder: string,
  prepared: Prepared,
  options: LabOptions,
  command: readonly string[],
  cpus: number,
): Promise<Session> {
  const token = randomBytes(12).toString('hex');
  const collected: Record<'console' | 'control' | 'kmsg' | 'files', Buffer[]> = {
    ...{ console: [], control: [], kmsg: [], files: [] },
  };
  const started = Date.now();
  let bootMs: number | undefined;
  let exitSaid = false;
  let tell: (ending: Ending) => void;
  const told = new Promise<Ending>((resolve) => (tell = resolve));
  let isUp: () => void;
  const up = new Promise<void>((resolve) => (isUp = resolve));
  const late = (seconds: number): NodeJS.Timeout =>
    setTimeout(() => tell({ kind: 'timeout' }), seconds * 1000);
  let alarm = late(BOOT_S);
  const onControl = (): void => {
    const lines = Buffer.concat(collected.control).toString().split('\n').slice(0, -1);
    if (lines.includes('up') && bootMs === undefined) {
      bootMs = Date.now() - started;
      isUp();
      clearTimeout(alarm);
      alarm = late(options.timeout + GRACE_S);
    }
    const broken = lines.find((line) => line.startsWith('broken '));
    const exit = lines.find((line) => line.startsWith('exit '));
    if (exit === undefined) return;
    exitSaid = true;
    if (exit === 'exit timeout') tell({ kind: 'timeout' });
    else if (broken !== undefined) tell({ kind: 'broken', why: broken.slice('broken '.length) });
    else tell({ kind: 'exit', code: Number(exit.slice('exit '.length)) });
  };
  const keep = (name: keyof typeof collected) => (chunk: Buffer) => {
    collected[name].push(chunk);
    if (name === 'control') onControl();
    return name === 'console' && options.verbose ? pass(process.stderr, chunk) : undefined;
  };
  const open = (name: string, take: (chunk: Buffer) => void | Promise<void>): Promise<Port> =>
    openPort(folder, name, token, take);
  const ports: Record<string, Port> = {
    out: await open('out', (chunk) => pass(process.stdout, chunk)),
    err: await open('err', (chunk) => pass(process.stderr, chunk)),
    control: await open('control', keep('control')),
    kmsg: await open('kmsg', keep('kmsg')),
    files: await open('files', keep('files')),
  };
  const consolePort = await open('console', keep('console'));
  const monitor = await openMonitor(folder);

  const initrd = join(folder, 'initrd');
  const orders = orderNodes({
    release: prepared.kernel.release,
    token,
    kvm: options.kvm,
    kflux: options.load && prepared.kmod !== undefined,
    kfluxOptions: options.kfluxOptions,
    files: options.out !== undefined,
    timeout: options.timeout,
    shell: options.shell,
    command,
    env: options.env,
    terminal: {
      rows: process.stdout.rows || 25,
      columns: process.stdout.columns || 80,
      type: process.env.TERM ?? 'vt100',
    },
  });
  writeFileSync(initrd, Buffer.concat([readFileSync(prepared.initramfs), cpio(orders)]));
  const machine: Machine = {
    image: prepared.kernel.image,
    initrd,
    disks: prepared.disks,
    cpus,
    tcg: options.tcg,
    memoryMib: options.memoryMib,
    ports: Object.fromEntries(Object.entries(ports).map(([name, { path }]) => [name, path])),
    console: consolePort.path,
    monitor: monitor.path,
    resetLog: join(folder, 'resets'),
    shell: options.shell,
    kernelOptions: options.kernelOptions,
  };
  const qemu = startQemu(machine, prepared.tools);
  let qemuError = '';
  let qemuEnd = '';
  let stop: Stop | undefined;
  qemu.stderr?.on('data', (chunk: Buffer) => (qemuError += chunk.toString()));
  const gone = new Promise<void>((resolve) => {
    qemu.on('close', (code, signal) => {
      qemuEnd = signal === null ? `exit code ${code}` : `signal ${signal}`;
      resolve();
    });
    qemu.on('error', (error) => {
      qemuError += error.message;
      resolve();
    });
  });
  const interrupted = onSignals();
  const pinning = options.tcg === 'multi' && pinThreads(qemu, cpus, hostCores());

  const ended = Promise.race<Ending>([
    told,
    interrupted.then((): Ending => ({ kind: 'interrupted' })),
    // What the guest said last may still be on its way to this process.
    Promise.race([gone, monitor.stopped.then((it) => (stop = it))])
      .then(() => sleep(200))
      .then((): Ending => ({ kind: 'crashed' })),
  ]);
  await step(`wait for ${prepared.kernel.release} to boot`, () => Promise.race([up, ended]));
  const ending = await ended;
  clearTimeout(alarm);
  if (exitSaid) {
    const said = Promise.all(['out', 'err', 'kmsg', 'files'].map((name) => ports[name].ended));
    const enough = new AbortController();
    const patience = sleep(LAST_WORDS_MS, undefined, { signal: enough.signal }).catch(() => undefined);
    await Promise.race([said, gone, patience, interrupted]);
    enough.abort();
  }
  await endQemu(qemu, gone);
  for (const port of [...Object.values(ports), consolePort, monitor]) port.close();
  return {
    ending,
    bootMs,
    kmsg: Buffer.concat(collected.kmsg).toString(),
    console: Buffer.concat(collected.console).toString(),
    files: Buffer.concat(collected.files),
    pinned: await pinning,
    qemuError,
    stop,
    resets: lastResets(existsSync(machine.resetLog) ? readFileSync(machine.resetLog, 'utf8') : ''),
    qemuEnd,
  };
}

/** Resolves at the first signal that asks this process to end; QEMU is ended in an orderly way then. */
function onSignals(): Promise<void> {
  return new Promise((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => resolve());
  });
}

async function endQemu(qemu: ChildProcess, gone: Promise<void>): Promise<void> {
  if (qemu.exitCode !== null || qemu.signalCode !== null || qemu.pid === undefined) return gone;
  // The disks are read-only: there is nothing to be saved.
  qemu.kill('SIGTERM');
  const late = setTimeout(() => qemu.kill('SIGKILL'), 3000);
  await gone;
  clearTimeout(late);
}

/**
 * The arbiter process's main thread, which is idle but for VMs that come and go.
 * The turns are the worker's (loop/worker.ts). It never forks: hyperfluxd does that.
 *
 * Inherited: the hand-off table as descriptor 3, the statistics memory as 4.
 */
import { ftruncateSync, writeSync } from 'node:fs';
import { MessageChannel, Worker } from 'node:worker_threads';
import pino from 'pino';
import { z } from 'zod';
import {
  createTable,
  getAffinity,
  initTable,
  lockFile,
  mapShared,
  mapTable,
  NativeBridge,
  pinProcess,
  Releaser,
  remapTable,
  reserveArena,
  shareId,
  watchWord,
} from '../../native/index.ts';
import {
  MAX_VMS,
  TABLE_BYTES,
  W_TABLE_KFLUX_DOMAIN,
  W_TABLE_STAMP_SHIFT,
  W_TABLE_TSC_KHZ,
  W_TABLE_VMS_CHANGED,
} from '../abi/layout.gen.ts';
import { nativeBridge } from '../bridge/native.ts';
import { Adopter } from './adopt.ts';
import { oneFile } from './onefile.ts';
import { socketIn } from '../control/paths.ts';
import type { FromLoop, LoopOptions, ToLoop } from '../loop/messages.ts';
import { CONTROL_WORD, CONTROL_WORDS } from '../loop/messages.ts';
import {
  S_MAGIC,
  S_PID,
  S_POLICY,
  S_POLICY_BYTES,
  S_STARTS,
  STATS_BYTES,
  STATS_MAGIC,
  statsOver,
} from '../loop/stats.ts';

const TABLE_FD = 3;
const STATS_FD = 4;
/** The table is looked at this often even if nobody announced anything. */
const RESCAN_MS = 1000;

const core = z.number().int().min(0).max(255);
const config = z
  .strictObject({
    lock: z.string(),
    sockets: z.string(),
    arbiterCore: core,
    cores: z.array(core).min(1).max(256),
    policy: z.string(),
    params: z.record(z.string(), z.number()),
    pace: z.strictObject({ moves_per_s: z.number(), vm_moves_per_s: z.number(), back_us: z.number() }),
    warmUpRounds: z.number().int().min(0).max(1_000_000),
    idleMaxUs: z.number().int().min(0).max(100_000),
  })
  .parse(JSON.parse(process.argv[2] ?? '{}'));

const log = pino({ base: { pid: process.pid } }, pino.destination({ fd: 2, sync: true }));

function fail(text: string, error?: unknown): never {
  log.fatal({ err: error }, text);
  process.exit(1);
}

process.on('uncaughtException', (error) => fail('uncaught exception', error));
const lock = lockFile(config.lock);
if (lock === null) fail(`another arbiter is running (it holds ${config.lock})`);
ftruncateSync(lock);
writeSync(lock, `${process.pid}\n`);

// Compiler, collector and timer threads stay off the VMs' cores; the worker then pins itself to its own.
const housekeeping = getAffinity(0).filter((core) => !config.cores.includes(core));
pinProcess(housekeeping.length > 0 ? housekeeping : [config.arbiterCore]);

const tableBuffer = mapTable(TABLE_FD);
const table = new Int32Array(tableBuffer);
const tscKhz = table[W_TABLE_TSC_KHZ] >>> 0;
const stampShift = table[W_TABLE_STAMP_SHIFT];
const statsBuffer = mapShared(STATS_FD, STATS_BYTES);
const stats = statsOver(statsBuffer);
stats.words[S_MAGIC] = STATS_MAGIC;
stats.words[S_PID] = process.pid;
stats.words[S_STARTS]++;
new Uint8Array(statsBuffer, S_POLICY * 4, S_POLICY_BYTES)
  .fill(0)
  .set(Buffer.from(config.policy).subarray(0, 63));

const arena = reserveArena(MAX_VMS);
/**
 * The loop's window on the table, and the bridge's: shadow pages while the loop warms up. Then the table's own pages
 * take their place, and buffer and bridge stay the objects that the loop's code was compiled for.
 */
const window = mapShared(createTable('hyperflux-shadow'), TABLE_BYTES);
initTable(window, tscKhz, stampShift);
const native = NativeBridge.open(window, { capacity: 512 });
const bridge = nativeBridge(native, arena);
const releaser = Releaser.open(tableBuffer);

const control = new SharedArrayBuffer(CONTROL_WORDS * 4);
const controlWords = new Int32Array(control);
const { port1: port, port2: loopPort } = new MessageChannel();
const options: LoopOptions = {
  arena: arena.id,
  table: shareId(window),
  stats: shareId(statsBuffer),
  bridge: native.id,
  releaser: releaser.id,
  control,
  arbiterCore: config.arbiterCore,
  cores: config.cores,
  policy: config.policy,
  params: config.params,
  pace: config.pace,
  tscKhz,
  stampShift,
  warmUpRounds: config.warmUpRounds,
  idleMaxUs: config.idleMaxUs,
};
const worker = new Worker(oneFile(new URL('../loop/worker.ts', import.meta.url)), {
  eval: true,
  workerData: { port: loopPort, options },
  transferList: [loopPort],
});
worker.on('error', (error) => fail('the loop failed', error));
worker.on('exit', (code) => fail(`the loop's thread ended (${code})`));

/** Messages first, then the word, then the wake: the worker clears the word before it reads. */
function send(message: ToLoop): void {
  port.postMessage(message);
  Atomics.store(controlWords, CONTROL_WORD, 1);
  Atomics.notify(controlWords, CONTROL_WORD);
}

let adopter: Adopter | undefined;

function goLive(warmUpUs: number): void {
  remapTable(window, TABLE_FD);
  // hyperfluxd chose when it made the table. The loop does not turn yet, so the bridge can be switched beneath it.
  if (table[W_TABLE_KFLUX_DOMAIN] !== 0) bridge.useKflux();
  const epoch = bridge.claim(process.pid, config.arbiterCore, config.cores);
  const deadlineFifo = bridge.kind === 'affinity' && bridge.startDeadlines();
  send({ op: 'live', deadlineFifo, epoch });
  adopter = new Adopter({
    table,
    tableFd: TABLE_FD,
    arena,
    bridge,
    releaser,
    epoch,
    socketOf: (name) => socketIn(config.sockets, name),
    send,
    loads: stats.loads,
    adopted: stats.adopted,
    log,
    leaseOver: (why) => fail(`the lease is over: ${why}`),
  });
  const scan = (): void => adopter?.scan();
  watchWord(tableBuffer, W_TABLE_VMS_CHANGED * 4, scan, { keepAlive: true });
  setInterval(scan, RESCAN_MS);
  scan();
  const { kind } = bridge;
  log.info(
    { bridge: kind, epoch, warmUpUs, deadlineFifo, cores: config.cores, adopted: adopter.count },
    'arbiter is live',
  );
}

function end(code: number): never {
  try {
    bridge.release();
  } catch (error) {
    log.warn({ err: error }, 'the lease could not be given back');
  }
  log.info('arbiter ends; its VMs go on unmanaged');
  process.exit(code);
}

port.on('message', (message: FromLoop) => {
  if (message.op === 'warm') goLive(message.us);
  else if (message.op === 'detached') adopter?.detached(message.slot);
  else if (message.stale) fail('the lease was taken by another arbiter');
  else end(0);
});

for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => send({ op: 'stop' }));

/**
 * The shared memory that outlives everybody: the hand-off table and the statistics.
 * A new daemon looks for those of an earlier one first, with the arbiter that still
 * runs on them or with the VMs that still have them, and only then makes new ones.
 */
import { fstatSync, readFileSync } from 'node:fs';
import {
  calibrateTsc,
  chooseStampShift,
  closeFd,
  createSealedMemfd,
  createTable,
  initTable,
  lockFile,
  mapShared,
  mapTable,
  openAt,
} from '../../native/index.ts';
import {
  TABLE_BYTES,
  W_TABLE_DEADLINE_US,
  W_TABLE_EPOCH,
  W_TABLE_KICK_AFTER_US,
  W_TABLE_LEASE_MS,
  W_TABLE_STAMP_SHIFT,
  W_TABLE_TSC_KHZ,
} from '../abi/layout.gen.ts';
import type { Stats } from '../loop/stats.ts';
import { S_MAGIC, STATS_BYTES, STATS_MAGIC, statsOver } from '../loop/stats.ts';
import { attachFluxion } from '../vm/fluxion.ts';
import type { DaemonConfig } from './config.ts';
import { vmNames, type RunPaths } from './paths.ts';

export interface Shared {
  tableFd: number;
  statsFd: number;
  table: Int32Array;
  stats: Stats;
  tscKhz: number;
  /** Microseconds of a stamp. */
  usPerStamp: number;
  /** The arbiter that runs already; 0: none. */
  arbiterPid: number;
  /** Where the table came from, for the log. */
  origin: string;
}

interface Found {
  tableFd: number;
  statsFd?: number;
  arbiterPid: number;
  origin: string;
}

/** The arbiter of an earlier daemon, if it is alive: it holds its lock, and its descriptor 3 is the table. */
function fromArbiter(paths: RunPaths): Found | undefined {
  const lock = lockFile(paths.arbiterLock);
  if (lock !== null) {
    closeFd(lock);
    return undefined;
  }
  const pid = Number(readFileSync(paths.arbiterLock, 'utf8').trim());
  if (!Number.isInteger(pid) || pid < 2) return undefined;
  try {
    const tableFd = openTable(`/proc/${pid}/fd/3`);
    return { tableFd, statsFd: openAt(null, `/proc/${pid}/fd/4`), arbiterPid: pid, origin: `arbiter ${pid}` };
  } catch {
    return undefined;
  }
}

function openTable(path: string): number {
  const fd = openAt(null, path);
  try {
    mapTable(fd);
    return fd;
  } catch (error) {
    closeFd(fd);
    throw error;
  }
}

/** VMs of an earlier daemon: the table that most of them have. Those with a table of their own do not count. */
function fromVms(paths: RunPaths): Found | undefined {
  const seen = new Map<string, { fd: number; vms: number; name: string }>();
  for (const name of vmNames(paths)) {
    try {
      const { socket, page, table } = attachFluxion(paths.vmSocket(name), 1000);
      closeFd(socket);
      closeFd(page);
      const { dev, ino } = fstatSync(table);
      const known = seen.get(`${dev}:${ino}`);
      if (known === undefined) seen.set(`${dev}:${ino}`, { fd: table, vms: 1, name });
      else {
        known.vms++;
        closeFd(table);
      }
    } catch {
      // Dead, or of another version: it cannot tell us anything.
    }
  }
  const tables = [...seen.values()].sort((a, b) => b.vms - a.vms);
  // The arbiter's table is the one with an epoch: somebody has claimed it once. Only the header is looked at.
  const used = tables.find(({ fd }) => new Int32Array(mapShared(fd, TABLE_BYTES))[W_TABLE_EPOCH] !== 0);
  for (const { fd } of tables) if (fd !== used?.fd) closeFd(fd);
  return used === undefined ? undefined : { tableFd: used.fd, arbiterPid: 0, origin: `VM ${used.name}` };
}

function fresh(): Found {
  const { khz } = calibrateTsc();
  const tableFd = createTable();
  initTable(mapShared(tableFd, TABLE_BYTES), khz, chooseStampShift(khz));
  return { tableFd, arbiterPid: 0, origin: 'new' };
}

/** Statistics are of no use to another version: then there are new ones, and the arbiter is replaced. */
function usableStats(found: Found): { fd: number; stats: Stats; kept: boolean } {
  if (found.statsFd !== undefined) {
    try {
      const stats = statsOver(mapShared(found.statsFd, STATS_BYTES));
      if (stats.words[S_MAGIC] === STATS_MAGIC) return { fd: found.statsFd, stats, kept: true };
    } catch {
      // Of another size.
    }
    closeFd(found.statsFd);
  }
  const fd = createSealedMemfd('hyperflux-stats', STATS_BYTES);
  return { fd, stats: statsOver(mapShared(fd, STATS_BYTES)), kept: false };
}

export function openShared(paths: RunPaths, config: DaemonConfig): Shared {
  const found = fromArbiter(paths) ?? fromVms(paths) ?? fresh();
  const table = new Int32Array(mapTable(found.tableFd));
  const { fd, stats, kept } = usableStats(found);
  table[W_TABLE_LEASE_MS] = config.lease_ms;
  table[W_TABLE_DEADLINE_US] = config.deadline_us;
  table[W_TABLE_KICK_AFTER_US] = config.kick_after_us;
  const tscKhz = table[W_TABLE_TSC_KHZ] >>> 0;
  return {
    tableFd: found.tableFd,
    statsFd: fd,
    table,
    stats,
    tscKhz,
    usPerStamp: (2 ** table[W_TABLE_STAMP_SHIFT] * 1000) / tscKhz,
    arbiterPid: kept ? found.arbiterPid : 0,
    origin: found.origin,
  };
}

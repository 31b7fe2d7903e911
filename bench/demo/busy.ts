/**
 * How busy the machine is with other things: figures from a machine on which a
 * compiler runs at the same time say little, and the reader has to know.
 */
import { readFileSync } from 'node:fs';

/** Clock ticks since the machine, or the processes, started. */
export interface CpuTicks {
  /** What these cores did, and what they could have done. */
  busy: number;
  all: number;
  /** What this run's own processes took part in, and what this one did alone. */
  own: number;
  self: number;
}

/** Sums of the lines of these cores in /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal. */
export function parseStat(text: string, cores: readonly number[]): { busy: number; all: number } {
  const sum = { busy: 0, all: 0 };
  for (const line of text.split('\n')) {
    const [name, ...fields] = line.split(/\s+/);
    const core = /^cpu(\d+)$/.exec(name);
    if (core === null || !cores.includes(Number(core[1]))) continue;
    const ticks = fields.slice(0, 8).map(Number);
    const all = ticks.reduce((total, value) => total + value, 0);
    sum.all += all;
    sum.busy += all - ticks[3] - ticks[4];
  }
  return sum;
}

/** User and system time of a process with all its threads, guests included; 0 if it is gone. */
export function processTicks(pid: number): number {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The command's name may contain anything, so fields are counted from the last parenthesis.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return Number(fields[11]) + Number(fields[12]);
  } catch {
    return 0;
  }
}

/** `others`: the processes of this run beside this one. */
export function cpuTicks(cores: readonly number[], others: readonly number[]): CpuTicks {
  const { busy, all } = parseStat(readFileSync('/proc/stat', 'utf8'), cores);
  const self = processTicks(process.pid);
  return { busy, all, own: others.reduce((sum, pid) => sum + processTicks(pid), self), self };
}

/** How much of one of so many cores this process used between two looks. */
export function selfShare(before: CpuTicks, after: CpuTicks, cores: number): number {
  const all = after.all - before.all;
  return all <= 0 ? 0 : ((after.self - before.self) * cores) / all;
}

/** Share of the cores' time that others used between two looks; 0 if no time has passed. */
export function foreignShare(before: CpuTicks, after: CpuTicks): number {
  const all = after.all - before.all;
  if (all <= 0) return 0;
  return Math.max(0, after.busy - before.busy - (after.own - before.own)) / all;
}

/** What `ps`, `status` and `stats` say, put together from shared memory and a question to the VM where need be. */
import { tscNow } from '../../native/index.ts';
import {
  ABI_MAJOR,
  ABI_MINOR,
  CORE_NONE,
  VCPU_CEDING,
  VCPU_RUNNING,
  VM_DEAD,
  VM_EMPTY,
  VM_LIVE,
  VM_POISONED,
  MAX_VCPUS,
  W_TABLE_KFLUX_DOMAIN,
  W_VCPU_ENTERED_TSC_LO,
  W_VCPU_T_GRANTED_LO,
  W_VCPU_WORD,
} from '../abi/layout.gen.ts';
import { tableVcpuBase, vcpuCore, vcpuState } from '../bridge/words.ts';
import { summarize } from '../loop/histogram.ts';
import {
  counter,
  COUNTERS,
  HISTOGRAMS,
  histogramOf,
  BRIDGE_KFLUX,
  S_BRIDGE,
  S_DEADLINE_FIFO,
  S_EPOCH,
  S_LIVE_TSC_HI,
  S_LIVE_TSC_LO,
  S_STARTS,
  S_STATE,
  S_WARM_UP_US,
  STATE_LIVE,
  STATE_STALE,
  STATE_STOPPED,
  STATE_WARMING,
} from '../loop/stats.ts';
import type { LoopProgress } from './notify.ts';
import { askFluxion } from '../vm/fluxion.ts';
import type { Fleet } from '../vm/fleet.ts';
import type { Section } from '../vm/section.ts';
import { sections, stateName } from '../vm/section.ts';
import type { RunPaths } from './paths.ts';
import type { StatusInfo, VmInfo } from './protocol.ts';
import type { Shared } from './shared.ts';

const TURNS = counter('turns');
const DECIDING = counter('deciding_ns');
const RESTING = counter('resting_ns');
const stamp = new Int32Array(2);
function now(): number {
  tscNow(stamp);
  return (stamp[0] >>> 0) + (stamp[1] >>> 0) * 2 ** 32;
}

/**
 * What is going on at this moment counts too, not only what has ended: ticks since the stamps at word `since` of
 * the VM's vCPUs, as far as they are set and `counts` says so.
 */
function goingOn(
  table: Int32Array,
  { slot, vcpus }: Section,
  since: number,
  counts: (word: number) => boolean,
): number {
  let total = 0;
  for (let v = 0; v < Math.min(vcpus, MAX_VCPUS); v++) {
    const at = tableVcpuBase(slot, v);
    const stamp = (table[at + since] >>> 0) + (table[at + since + 1] >>> 0) * 2 ** 32;
    if (stamp > 0 && counts(table[at + W_VCPU_WORD])) total += Math.max(0, now() - stamp);
  }
  return total;
}

/** A vCPU that is CEDING no core is on its way to sleep: what it was granted has been metered. */
const holdsCore = (word: number): boolean =>
  vcpuCore(word) !== CORE_NONE && [VCPU_RUNNING, VCPU_CEDING].includes(vcpuState(word));

function stateOf(section: Section, cores: number, managed: boolean): string {
  if (section.state !== VM_LIVE) return stateName(section.state);
  if (!managed) return 'unmanaged';
  return cores > 0 ? 'running' : 'dormant';
}

/** What a dead arbiter left in the statistics counts no more: `live` is the caller's to know. */
export const isAdopted = ({ stats }: Shared, { slot, generation }: Section): boolean =>
  generation !== 0 && stats.adopted[slot] === generation;

async function managedVm(
  shared: Shared,
  fleet: Fleet,
  paths: RunPaths,
  live: boolean,
  section: Section,
): Promise<VmInfo> {
  const { stats, table, tscKhz, usPerStamp } = shared;
  const { slot } = section;
  const managed = live && isAdopted(shared, section);
  const cores = managed ? Math.max(0, stats.view.vmCores[slot]) : 0;
  const us = (ticks: number): number => Math.round((ticks * 1000) / tscKhz);
  return {
    name: section.name,
    class: section.latencyCritical ? 'lc' : 'be',
    state: stateOf(section, cores, managed),
    managed,
    backend: fleet.known.get(section.name)?.backend ?? '',
    pid: section.pid,
    slot,
    vcpus: section.vcpus,
    cores,
    min_cores: section.minCores,
    max_cores: section.maxCores,
    quantum_us: section.quantumUs,
    wants: managed ? stats.view.vmWants[slot] : 0,
    delay_us: managed ? Math.round(stats.view.vmDelay[slot] * usPerStamp) : 0,
    granted_us: us(section.grantedTsc + goingOn(table, section, W_VCPU_T_GRANTED_LO, holdsCore)),
    used_us: us(
      section.usedTsc + goingOn(table, section, W_VCPU_ENTERED_TSC_LO, () => section.state === VM_LIVE),
    ),
    taken_us: us(section.takenTsc),
    forced: section.forced,
    forced_descheduled: section.forcedDescheduled,
    preempted: section.preempts,
    ...(table[W_TABLE_KFLUX_DOMAIN] === 0 ? {} : { blocked: section.blocked }),
    error: section.state === VM_POISONED ? await errorOf(paths.vmSocket(section.name)) : '',
  };
}

async function errorOf(socket: string): Promise<string> {
  try {
    return (await askFluxion(socket, 'status', {}, 500)).error;
  } catch (error) {
    return `its Fluxion does not answer: ${(error as Error).message}`;
  }
}

async function unmanagedVm(fleet: Fleet, paths: RunPaths, name: string): Promise<VmInfo | undefined> {
  try {
    const status = await askFluxion(paths.vmSocket(name), 'status', {}, 500);
    const known = fleet.known.get(name);
    const figures = {
      wants: 0,
      delay_us: 0,
      granted_us: 0,
      used_us: 0,
      taken_us: 0,
      forced: 0,
      forced_descheduled: 0,
      quantum_us: 0,
      preempted: 0,
    };
    return {
      ...{ name, class: 'be', state: status.state === 'poisoned' ? 'poisoned' : 'unmanaged', managed: false },
      ...{ backend: status.backend, pid: known?.pid ?? 0, slot: -1, vcpus: status.vcpus, cores: 0 },
      ...{ min_cores: 0, max_cores: status.vcpus, ...figures, error: status.error },
    };
  } catch {
    // Nobody behind the socket any more.
    return undefined;
  }
}

export async function listVms(
  shared: Shared,
  fleet: Fleet,
  paths: RunPaths,
  live: boolean,
): Promise<VmInfo[]> {
  const used = sections(shared.table).filter(({ state }) => state !== VM_EMPTY && state !== VM_DEAD);
  const managed = used.map((section) => managedVm(shared, fleet, paths, live, section));
  const unmanaged = fleet.unmanaged().map((name) => unmanagedVm(fleet, paths, name));
  const all = await Promise.all([...managed, ...unmanaged]);
  return all.filter((vm) => vm !== undefined).sort((a, b) => a.name.localeCompare(b.name));
}

const states: Readonly<Record<number, string>> = {
  [STATE_WARMING]: 'warming up',
  [STATE_LIVE]: 'live',
  [STATE_STOPPED]: 'stopped',
  [STATE_STALE]: 'lease lost',
};

/**
 * What the loop did with its time since it went live, in percent: turns that decided, rests while nothing was
 * active (idle.ts), and, what remains, turns that found nothing.
 */
function loopTime({ stats, tscKhz }: Shared): StatusInfo['arbiter']['time'] {
  const { words, counters } = stats;
  const since = (words[S_LIVE_TSC_LO] >>> 0) + (words[S_LIVE_TSC_HI] >>> 0) * 2 ** 32;
  if (words[S_STATE] !== STATE_LIVE || since === 0) return undefined;
  const ns = Math.max(1, ((now() - since) * 1e6) / tscKhz);
  const share = (part: number): number => Math.min(100, Math.round((part / ns) * 1000) / 10);
  const deciding = share(counters[DECIDING]);
  const resting = share(counters[RESTING]);
  return { deciding, resting, spinning: Math.max(0, Math.round((100 - deciding - resting) * 10) / 10) };
}

export function arbiterInfo(shared: Shared): {
  state: string;
  epoch: number;
  starts: number;
  warm_up_us: number;
  deadline_thread: string;
  time: StatusInfo['arbiter']['time'];
} {
  const { words } = shared.stats;
  const ordinary = words[S_DEADLINE_FIFO] === 1 ? 'SCHED_FIFO 1' : 'ordinary';
  return {
    state: states[words[S_STATE]] ?? 'starting',
    epoch: words[S_EPOCH] >>> 0,
    starts: words[S_STARTS],
    warm_up_us: words[S_WARM_UP_US],
    deadline_thread: words[S_BRIDGE] === BRIDGE_KFLUX ? "none, kFlux's timers" : ordinary,
    time: loopTime(shared),
  };
}

/** How far the loop is: for the service manager's watchdog. */
export const loopProgress = ({ stats }: Shared, live: boolean): LoopProgress => ({
  live,
  starts: stats.words[S_STARTS],
  turns: stats.counters[TURNS],
});

/** The loop's counters and histograms. */
export function loopStats(shared: Shared): {
  counters: Record<string, number>;
  histograms: Record<string, object>;
} {
  const counters = Object.fromEntries(COUNTERS.map((name, i) => [name, shared.stats.counters[i]]));
  const histograms = Object.fromEntries(
    HISTOGRAMS.map((name) => [name, summarize(histogramOf(shared.stats, name))]),
  );
  return { counters, histograms };
}

export const abiVersion = `${ABI_MAJOR}.${ABI_MINOR}`;

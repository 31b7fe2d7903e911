/**
 * A scenario under one policy, from the first request to the last moment, and what
 * came of it. The same scenario, seed and policy give the same result, bit for bit.
 */
import { fileURLToPath } from 'node:url';
import { random } from '../../bench/load/random.ts';
import type { Service } from '../../bench/load/schedule.ts';
import { CLASS_BE, CLASS_LC } from '../abi/layout.gen.ts';
import { ControlError } from '../control/protocol.ts';
import type { Policy } from '../policy/api.ts';
import type { GroupFigures, GuestVm, Handovers } from './guest/world.ts';
import { Latencies } from './latency.ts';
import type { Arrivals, DrawService, Streams } from './load/arrivals.ts';
import { Bursty, Phased, poisson, serviceOf } from './load/arrivals.ts';
import type { App } from './load/azure.ts';
import { readInvocations2019, readInvocations2021 } from './load/azure.ts';
import type { Machine } from './machine.ts';
import { evenTurns, readMachine } from './machine.ts';
import { ARRIVING, Meter, SPINNING, USEFUL } from './meter.ts';
import { Partition, PARTITION_CORES, PARTITION_VMS } from './partition.ts';
import type { Scenario, VmGroup } from './scenario.ts';
import { inFolder } from './scenario.ts';

/** What comes with HyperFlux: a report of bench realloc, named after where it was measured. */
export const DEFAULT_MACHINE = fileURLToPath(new URL('machines/xeon-nested-pvm.json', import.meta.url));

/** Points of the curves over time. */
const POINTS = 120;

export interface Chosen {
  /** As it is shown: the policy's name and the parameters that were given. */
  readonly label: string;
  readonly policy: Policy;
  readonly params: Record<string, number>;
}

/** Core seconds. */
export interface CoreTime {
  useful: number;
  spinning: number;
  arriving: number;
}

export interface GroupResult {
  name: string;
  class: 'lc' | 'be';
  vms: number;
  latency: Latencies;
  wait: Latencies;
  arrived: number;
  finished: number;
  unfinished: number;
  coreTime: CoreTime;
  /** Mean cores in each interval, held and useful. */
  coresHeld: number[];
  coresUseful: number[];
}

export interface SimResult {
  policy: string;
  seconds: number;
  cores: number;
  vms: number;
  partitions: number;
  machine: string;
  groups: GroupResult[];
  handovers: Handovers;
  turns: number;
  decisions: number;
  commands: number;
  failed: number;
  edits: number;
  faults: number;
  /** How long the simulation took. Not a result: it differs each time. */
  wallSeconds: number;
}

export type Progress = (share: number, what: string) => void;

export function loadMachine(scenario: Scenario): Machine {
  const machine = readMachine(
    scenario.machine === undefined ? DEFAULT_MACHINE : inFolder(scenario, scenario.machine),
  );
  if (scenario.turn_us === undefined) return machine;
  return { ...machine, turn: evenTurns(scenario.turn_us) };
}

function serviceSpec(service: NonNullable<VmGroup['service']>): Service {
  switch (service.kind) {
    case 'constant':
      return { kind: 'constant', ns: service.us * 1000 };
    case 'exponential':
      return { kind: 'exponential', meanNs: service.mean_us * 1000 };
    case 'bimodal':
      return {
        kind: 'bimodal',
        shortNs: service.short_us * 1000,
        longNs: service.long_us * 1000,
        longShare: service.long_share,
      };
  }
}

/** Makes the arrivals of a group's VMs; traces are read once. */
export type MakeArrivals = (vm: number, streams: Streams) => Arrivals | undefined;

/** Traces are read here, once for all policies. */
export function readLoads(scenario: Scenario, progress: Progress = () => {}): MakeArrivals[] {
  return scenario.vms.map((group, g) => {
    const { arrivals, service, fanout } = group;
    if (arrivals === undefined) return () => undefined;
    const drawOf = (streams: Streams): DrawService | undefined =>
      service === undefined ? undefined : serviceOf(serviceSpec(service), streams.service);
    switch (arrivals.kind) {
      case 'poisson':
        return (_vm, streams) => poisson(arrivals.per_second, fanout, streams, drawOf(streams)!);
      case 'bursty': {
        const spec = {
          perSecond: arrivals.per_second,
          onNs: arrivals.on_ms * 1e6,
          offNs: arrivals.off_ms * 1e6,
        };
        return (_vm, streams) => new Bursty(spec, fanout, streams, drawOf(streams)!);
      }
      case 'phases': {
        const phases = arrivals.phases.map((phase) => ({
          ns: phase.ms * 1e6,
          perSecond: phase.per_second,
          fanout: phase.fanout,
        }));
        return (_vm, streams) => new Phased(phases, streams, drawOf(streams)!);
      }
      case 'azure-2019':
      case 'azure-2021': {
        const window = { fromS: arrivals.from_s, seconds: scenario.seconds, speed: arrivals.speed };
        const file = inFolder(
          scenario,
          arrivals.kind === 'azure-2019' ? arrivals.invocations : arrivals.file,
        );
        const read = (share: number): void => progress(share, `reading ${file}`);
        const apps = readTrace(() =>
          arrivals.kind === 'azure-2019'
            ? readInvocations2019(
                file,
                arrivals.durations === undefined ? undefined : inFolder(scenario, arrivals.durations),
                window,
                read,
              )
            : readInvocations2021(file, window, read),
        );
        if (apps.length < group.count)
          throw new ControlError(
            'usage',
            `vms[${g}].count: ${group.count} VMs, and in this part of ${file} only ${apps.length} applications are active`,
            'An application of the trace is a VM. Lower count, or take a longer or another part: from_s, seconds, speed.',
          );
        return (vm, streams) => apps[vm].arrivals(streams.arrivals, drawOf(streams), fanout);
      }
    }
  });
}

function readTrace(read: () => App[]): App[] {
  try {
    return read();
  } catch (cause) {
    if (cause instanceof ControlError) throw cause;
    throw new ControlError('usage', `the trace cannot be read: ${(cause as Error).message}`);
  }
}

/** How many arbiters the host is divided among; see partition.ts. */
export function partitionsOf(cores: number, vms: number): number {
  const partitions = Math.max(Math.ceil(cores / PARTITION_CORES), Math.ceil(vms / PARTITION_VMS));
  if (partitions > cores)
    throw new ControlError(
      'usage',
      `vms: ${vms} VMs need ${partitions} arbiters (one manages ${PARTITION_VMS}), and there are only ${cores} cores`,
      'Each arbiter has cores of its own: give more cores, or fewer VMs.',
    );
  return partitions;
}

interface Dealt {
  readonly group: number;
  /** Within its group, and among all. */
  readonly vm: number;
  readonly number: number;
}

/** Deals VMs and cores out: each partition gets its share of every group. */
function deal(scenario: Scenario): { cores: number; vms: Dealt[] }[] {
  const total = scenario.vms.reduce((sum, { count }) => sum + count, 0);
  const n = partitionsOf(scenario.cores, total);
  const dealt = Array.from({ length: n }, (_, i) => ({
    cores: Math.floor(scenario.cores / n) + (i < scenario.cores % n ? 1 : 0),
    vms: [] as Dealt[],
  }));
  let number = 0;
  scenario.vms.forEach(({ count }, group) => {
    for (let vm = 0; vm < count; vm++, number++) dealt[number % n].vms.push({ group, vm, number });
  });
  return dealt;
}

/** Streams of random numbers: two for each VM, and those of the machine behind them. */
const machineStream = (partition: number): number => 0x10000 + partition;

export function simulate(
  scenario: Scenario,
  { label, policy, params }: Chosen,
  loads: readonly MakeArrivals[],
  machine: Machine,
  progress: Progress = () => {},
): SimResult {
  const began = performance.now();
  const dealt = deal(scenario);
  const figures: GroupFigures[] = scenario.vms.map(() => ({
    latency: new Latencies(),
    wait: new Latencies(),
    arrived: 0,
    finished: 0,
  }));
  const groups: GroupResult[] = scenario.vms.map((group, g) => ({
    ...{ name: group.name, class: group.class, vms: group.count },
    ...{ latency: figures[g].latency, wait: figures[g].wait, arrived: 0, finished: 0, unfinished: 0 },
    coreTime: { useful: 0, spinning: 0, arriving: 0 },
    coresHeld: new Array<number>(POINTS).fill(0),
    coresUseful: new Array<number>(POINTS).fill(0),
  }));
  const handovers: Handovers = { granted: 0, moved: 0, inherited: 0, takenOver: 0 };
  const sums = { turns: 0, decisions: 0, commands: 0, failed: 0, edits: 0, policy_faults: 0 };
  dealt.forEach(({ cores, vms }, i) => {
    const meter = new Meter(groups.length);
    const partition = new Partition({
      ...{ cores, policy, params, machine, meter, groups: figures },
      vms: vms.map((one) => guestVm(scenario, one, loads[one.group])),
      random: random(scenario.seed, machineStream(i)),
      releaseAtOnce: scenario.release === 'own-core',
    });
    const endNs = scenario.seconds * 1e9;
    const before = groups.map(() => ({ held: 0, useful: 0 }));
    for (let point = 0; point < POINTS; point++) {
      const now = (endNs * (point + 1)) / POINTS;
      partition.run(now);
      groups.forEach((group, g) => {
        const useful = meter.spent(g, USEFUL, now);
        const held = useful + meter.spent(g, SPINNING, now) + meter.spent(g, ARRIVING, now);
        const interval = endNs / POINTS;
        group.coresHeld[point] += (held - before[g].held) / interval;
        group.coresUseful[point] += (useful - before[g].useful) / interval;
        before[g] = { held, useful };
      });
      progress((i + (point + 1) / POINTS) / dealt.length, label);
    }
    groups.forEach(({ coreTime }, g) => {
      coreTime.useful += meter.spent(g, USEFUL, endNs) / 1e9;
      coreTime.spinning += meter.spent(g, SPINNING, endNs) / 1e9;
      coreTime.arriving += meter.spent(g, ARRIVING, endNs) / 1e9;
    });
    for (const key of Object.keys(handovers) as (keyof Handovers)[])
      handovers[key] += partition.handovers[key];
    for (const key of Object.keys(sums) as (keyof typeof sums)[]) sums[key] += partition.counter(key);
  });
  groups.forEach((group, g) => {
    group.arrived = figures[g].arrived;
    group.finished = figures[g].finished;
    group.unfinished = group.arrived - group.finished;
  });
  const { policy_faults: faults, ...counters } = sums;
  return {
    ...{ policy: label, seconds: scenario.seconds, cores: scenario.cores, partitions: dealt.length },
    vms: scenario.vms.reduce((sum, { count }) => sum + count, 0),
    ...{ machine: machine.name, groups, handovers, ...counters, faults },
    wallSeconds: (performance.now() - began) / 1000,
  };
}

function guestVm(scenario: Scenario, { group: g, vm, number }: Dealt, load: MakeArrivals): GuestVm {
  const group = scenario.vms[g];
  const streams = {
    arrivals: random(scenario.seed, 2 * number),
    service: random(scenario.seed, 2 * number + 1),
  };
  return {
    group: g,
    vmClass: group.class === 'lc' ? CLASS_LC : CLASS_BE,
    vcpus: group.vcpus,
    minCores: group.min_cores,
    maxCores: group.max_cores ?? group.vcpus,
    idleSpinNs: group.idle_spin_us * 1000,
    arrivals: load(vm, streams),
    threads: group.threads,
  };
}

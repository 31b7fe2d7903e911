/** Records what the running arbiter's policy sees and decides, from its statistics memory into a file. */
import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Clock, closeFd, mapShared, openAt, unmap } from '../../native/index.ts';
import { TRACE_AHEAD } from '../abi/layout.gen.ts';
import { ControlError } from '../control/protocol.ts';
import type { StatusInfo, VmInfo } from '../control/protocol.ts';
import type { Stats } from '../loop/stats.ts';
import {
  S_MAGIC,
  S_STAMP_SHIFT,
  S_STARTS,
  S_TSC_KHZ,
  STATS_BYTES,
  STATS_MAGIC,
  statsOver,
} from '../loop/stats.ts';
import { plainView } from '../policy/api.ts';
import { Drain } from './drain.ts';
import type { Head } from './file.ts';
import { RecordingWriter } from './file.ts';
import { fieldsOf, R_PID } from './format.ts';

/** The arbiter's descriptor of its statistics; see process/main.ts. */
const STATS_FD = 4;
/** Between two visits. The ring has room for tens of thousands of turns. */
const VISIT_MS = 1;
const PROGRESS_MS = 100;

export interface RecordOptions {
  seconds: number;
  out: string;
  /** Ends it early, with what there is. */
  signal?: AbortSignal;
  progress?: (seconds: number, turns: number) => void;
}

export interface RecordSummary {
  file: string;
  bytes: number;
  seconds: number;
  turns: number;
  lost: number;
}

function openStats(arbiterPid: number): { stats: Stats; close: () => void } {
  let fd: number;
  try {
    fd = openAt(null, `/proc/${arbiterPid}/fd/${STATS_FD}`);
  } catch (cause) {
    throw new ControlError(
      'permission',
      `the arbiter's memory cannot be opened: ${(cause as Error).message}`,
      'Record as the user who started the daemon, or as root.',
    );
  }
  try {
    const buffer = mapShared(fd, STATS_BYTES);
    const stats = statsOver(buffer);
    if (stats.words[S_MAGIC] !== STATS_MAGIC) {
      unmap(buffer);
      throw new RangeError('another layout');
    }
    return { stats, close: () => unmap(buffer) };
  } catch {
    throw new ControlError(
      'version',
      'the arbiter is of another version, whose turns cannot be recorded',
      'Restart it: hyperflux stop --daemon; hyperflux start',
    );
  } finally {
    closeFd(fd);
  }
}

export function headOf(
  { policy, pool }: Pick<StatusInfo, 'policy' | 'pool'>,
  vms: readonly Pick<VmInfo, 'slot' | 'name'>[],
  tscKhz: number,
  stampShift: number,
): Head {
  const view = plainView();
  const fields = { vm: fieldsOf(view, 'vm'), core: fieldsOf(view, 'core') };
  return {
    policy: policy.name,
    params: policy.params,
    cores: pool.cores.slice(),
    vms: Object.fromEntries(
      vms.filter(({ slot }) => slot >= 0).map(({ slot, name }) => [String(slot), name]),
    ),
    tsc_khz: tscKhz,
    stamp_shift: stampShift,
    fields: {
      vm: fields.vm.map(({ name }) => name),
      core: fields.core.map(({ name }) => name),
      ages: [...fields.vm, ...fields.core].filter(({ ages }) => ages).map(({ name }) => name),
    },
  };
}

export async function record(
  status: StatusInfo,
  vms: readonly VmInfo[],
  { seconds, out, signal, progress }: RecordOptions,
): Promise<RecordSummary> {
  if (status.arbiter.state !== 'live')
    throw new ControlError(
      'failed',
      `the arbiter is ${status.arbiter.state}`,
      'hyperflux status tells when it is live.',
    );
  const { stats, close } = openStats(status.arbiter.pid);
  try {
    const { recording, words } = stats;
    const other = Atomics.load(recording.words, R_PID);
    if (other !== 0 && other !== process.pid && existsSync(`/proc/${other}`))
      throw new ControlError(
        'failed',
        `process ${other} is recording already`,
        'Wait until it is done, or end it.',
      );
    const shift = words[S_STAMP_SHIFT];
    const starts = words[S_STARTS];
    const clock = new Clock(shift);
    /** A stamp that lies some seconds ahead. */
    const ahead = (): number => {
      clock.now();
      return (clock.stamp() + TRACE_AHEAD / 2) | 0 || 1;
    };
    const writer = new RecordingWriter(out, headOf(status, vms, words[S_TSC_KHZ], shift));
    const began = performance.now();
    const over = (): number => (performance.now() - began) / 1000;
    const drain = new Drain(recording, process.pid, ahead());
    try {
      let shown = 0;
      while (over() < seconds && !signal?.aborted) {
        await sleep(VISIT_MS);
        drain.goOn(ahead());
        if (words[S_STARTS] !== starts)
          throw new ControlError(
            'failed',
            'the arbiter was restarted while its turns were recorded',
            'Record again.',
          );
        drain.take((turn) => writer.add(turn));
        if (performance.now() - shown < PROGRESS_MS) continue;
        shown = performance.now();
        progress?.(over(), writer.turns);
      }
      drain.stop();
      drain.take((turn) => writer.add(turn));
    } finally {
      drain.stop();
      writer.close(drain.lost);
    }
    return { file: out, bytes: writer.bytes, seconds: over(), turns: writer.turns, lost: drain.lost };
  } finally {
    close();
  }
}

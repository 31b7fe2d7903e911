/** `hyperflux trace`: from the names of VMs to a file. */
import { closeSync } from 'node:fs';
import { resolve } from 'node:path';
import { runPaths } from '../../control/paths.ts';
import { ControlError } from '../../control/protocol.ts';
import { TraceTarget } from './attach.ts';
import { collect } from './collect.ts';
import { convert } from './convert.ts';
import { openOutput, writeTrace } from './write.ts';

export interface TraceRequest {
  seconds: number;
  most: number;
  out: string;
  progress?: (seconds: number, events: number) => void;
  signal?: AbortSignal;
}

export interface TraceSummary {
  file: string;
  bytes: number;
  seconds: number;
  /** VMs that cannot be traced, and why. */
  skipped: { name: string; why: string }[];
  vms: { name: string; vcpus: number; events: number; lost: number; by: Record<string, number> }[];
}

/** Traces VMs whose sockets are in this run directory. */
export async function traceVms(
  names: readonly string[],
  runDir: string,
  { seconds, most, out, progress, signal }: TraceRequest,
): Promise<TraceSummary> {
  const paths = runPaths(runDir);
  const targets: TraceTarget[] = [];
  try {
    const skipped: TraceSummary['skipped'] = [];
    for (const name of names) {
      try {
        targets.push(attach(name, paths.vmSocket(name)));
      } catch (error) {
        // Of several, the others are worth a trace all the same.
        if (names.length === 1) throw error;
        skipped.push({ name, why: (error as Error).message });
      }
    }
    if (targets.length === 0) {
      const why = skipped.map((vm) => vm.why).join('; ');
      throw new ControlError(
        'failed',
        `none of the VMs can be traced: ${why}`,
        'hyperflux ps shows the VMs.',
      );
    }
    const fd = openOutput(out);
    let traced;
    try {
      traced = await collect(targets, {
        ...{ seconds, most },
        ...(progress === undefined ? {} : { progress }),
        ...(signal === undefined ? {} : { signal }),
      });
    } catch (error) {
      closeSync(fd);
      throw error;
    }
    const bytes = writeTrace(fd, out, convert(traced.vms, targets[0]?.tscKhz ?? 1, traced.end));
    const vms = traced.vms.map(({ name, log, lost }) => ({
      ...{ name, vcpus: log.vcpus, events: log.length, lost },
      by: log.counts(),
    }));
    return { file: resolve(out), bytes, seconds: traced.seconds, skipped, vms };
  } finally {
    for (const target of targets) target.close();
  }
}

function attach(name: string, socket: string): TraceTarget {
  try {
    return new TraceTarget(name, socket);
  } catch (error) {
    const { code, message } = error as { code?: string; message: string };
    if (code !== 'ENOENT' && code !== 'ECONNREFUSED') throw error;
    throw new ControlError(
      'not-found',
      `the VM ${name} has just gone (${message})`,
      'hyperflux ps shows the VMs that there are.',
    );
  }
}

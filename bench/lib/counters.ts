/**
 * What a move is made of, counted and not timed: system calls of the threads that take part, context switches and
 * interprocessor interrupts on the core that moves. The kernel counts (perf events over tracepoints), so counting
 * costs nanoseconds and nothing is lost.
 */
import { existsSync, readFileSync } from 'node:fs';
import { closeFd, openCounter, readCounter } from '../../native/index.ts';

export const KINDS = ['arbiter calls', 'vCPU calls', 'context switches', 'interrupts'] as const;
export type Kind = (typeof KINDS)[number];
export type Tally = Record<Kind, number>;

const tracefs = ['/sys/kernel/tracing', '/sys/kernel/debug/tracing'];
const SYSCALLS = 'raw_syscalls/sys_enter';
const SWITCHES = 'sched/sched_switch';
/** What a hand-over may send; not the timer's own. */
const INTERRUPTS = [
  'irq_vectors/reschedule_entry',
  'irq_vectors/call_function_entry',
  'irq_vectors/call_function_single_entry',
  'irq_vectors/irq_work_entry',
];

function tracepoint(name: string): number {
  const path = tracefs.map((root) => `${root}/events/${name}/id`).find((file) => existsSync(file));
  if (path === undefined) throw new Error(`this kernel shows no tracepoint ${name} (is tracefs mounted?)`);
  return Number(readFileSync(path, 'utf8'));
}

/** Counters of the arbiter's thread, of the vCPUs' threads and of the core between them. */
export class Counters {
  /** Why there is nothing to read; undefined: there is. */
  readonly missing: string | undefined;
  readonly #fds: { kind: Kind; fd: number }[] = [];
  #began: Tally | undefined;

  constructor(arbiter: number, vcpus: readonly number[], core: number) {
    const add = (kind: Kind, event: string, tid: number | null): void => {
      this.#fds.push({ kind, fd: openCounter(tracepoint(event), tid, tid === null ? core : null) });
    };
    try {
      add('arbiter calls', SYSCALLS, arbiter);
      for (const tid of vcpus) add('vCPU calls', SYSCALLS, tid);
      add('context switches', SWITCHES, null);
      for (const interrupt of INTERRUPTS) add('interrupts', interrupt, null);
    } catch (error) {
      this.close();
      this.missing = (error as Error).message;
    }
  }

  #read(): Tally {
    const tally: Tally = { 'arbiter calls': 0, 'vCPU calls': 0, 'context switches': 0, interrupts: 0 };
    for (const { kind, fd } of this.#fds) tally[kind] += readCounter(fd);
    return tally;
  }

  begin(): void {
    this.#began = this.#read();
  }

  /** What was counted since `begin`, the reading of the counters themselves left out. */
  end(): Tally {
    const now = this.#read();
    const tally = { ...now };
    for (const kind of KINDS) tally[kind] -= this.#began?.[kind] ?? 0;
    // The first reading of `begin` counts those after it, the last one of `end` those before it: one call each.
    tally['arbiter calls'] -= this.#fds.length;
    return tally;
  }

  close(): void {
    for (const { fd } of this.#fds.splice(0)) closeFd(fd);
  }
}

/** The kernel's trace as text (trace_pipe, clock "counter"): lines into events, put into their one order. */

/** One line of a tracepoint of kFlux. */
export interface TraceEvent {
  /** The trace clock: a counter, one order for all CPUs. */
  at: number;
  cpu: number;
  name: string;
  fields: Readonly<Record<string, string>>;
  line: string;
}

export type Line =
  | { kind: 'event'; event: TraceEvent }
  | { kind: 'lost'; line: string; count: number }
  | { kind: 'end'; lost: number }
  | { kind: 'other'; line: string };

const eventLine = /^\s*\S.*-\d+\s+(?:\([^)]*\)\s+)?\[(\d+)\]\s+\S+\s+(\d+): (kflux_\w+): ?(.*)$/;
const lostLine = /^CPU:\d+ \[LOST (\d+ )?EVENTS\]/;
const endLine = /^# trace ended: (\d+) lost$/;

export function parseLine(line: string): Line {
  const event = eventLine.exec(line);
  if (event) {
    const [, cpu, at, name, rest] = event;
    const fields: Record<string, string> = {};
    for (const [, key, quoted, plain] of rest.matchAll(/(\w+)=(?:"([^"]*)"|([^"\s]+))/g))
      fields[key] = quoted ?? plain;
    return { kind: 'event', event: { at: Number(at), cpu: Number(cpu), name, fields, line } };
  }
  const lost = lostLine.exec(line);
  if (lost) return { kind: 'lost', line, count: Number(lost[1] ?? 1) };
  const end = endLine.exec(line);
  if (end) return { kind: 'end', lost: Number(end[1]) };
  return { kind: 'other', line };
}

/**
 * Puts events into the order of their clock. CPUs are merged by the kernel as it reads them, so a line may come
 * a little late; one that comes later than a whole window is given out at once and found to be out of order.
 */
export class Sorter {
  private readonly waiting: TraceEvent[] = [];
  private readonly give: (event: TraceEvent) => void;
  private readonly window: number;

  constructor(give: (event: TraceEvent) => void, window = 100_000) {
    this.give = give;
    this.window = window;
  }

  add(event: TraceEvent): void {
    this.waiting.push(event);
    if (this.waiting.length >= 2 * this.window) this.flush(this.window);
  }

  end(): void {
    this.flush(0);
  }

  private flush(keep: number): void {
    this.waiting.sort((a, b) => a.at - b.at);
    const ready = this.waiting.splice(0, this.waiting.length - keep);
    for (const event of ready) this.give(event);
  }
}

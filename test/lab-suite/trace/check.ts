/** Holds a whole trace against the rules, line by line as it comes. */
import { parseLine, Sorter } from './parse.ts';
import type { Violation } from './rules.ts';
import { Rules } from './rules.ts';

export interface Verdict {
  violations: Violation[];
  events: number;
  counts: Readonly<Record<string, number>>;
  edges: Readonly<Record<string, number>>;
}

export class TraceChecker {
  private readonly rules = new Rules();
  private readonly sorter = new Sorter((event) => this.rules.take(event));
  private events = 0;
  private ended = false;
  private lost = 0;

  /** Returns false for a line that is no trace. */
  line(text: string): boolean {
    const line = parseLine(text);
    switch (line.kind) {
      case 'event':
        this.events++;
        this.sorter.add(line.event);
        return true;
      case 'lost':
        this.lost += line.count;
        return true;
      case 'end':
        this.ended = true;
        this.lost += line.lost;
        return true;
      case 'other':
        return false;
    }
  }

  end(): Verdict {
    this.sorter.end();
    const { violations } = this.rules;
    // With gaps, what the rules say afterwards is about the gaps.
    if (this.lost > 0)
      violations.splice(0, Infinity, {
        rule: 'complete',
        text: `${this.lost} events were lost: this trace proves nothing`,
      });
    if (!this.ended)
      violations.unshift({ rule: 'complete', text: 'the trace has no end: the run was cut off, or failed' });
    else this.rules.end();
    if (!this.rules.busy)
      violations.push({ rule: 'busy', text: 'no core was ever asked for and given: nothing was tested' });
    const { counts, edges } = this.rules;
    return { violations, events: this.events, counts, edges };
  }
}

/** What is printed about a verdict. */
export function describe({ violations, events, counts, edges }: Verdict): string[] {
  const list = (record: Readonly<Record<string, number>>): string =>
    Object.entries(record)
      .sort(([a], [b]) => a.localeCompare(b))
      .map(([name, count]) => `${name} ${count}`)
      .join(', ');
  return [
    `${events} events: ${list(counts)}`,
    `steps: ${list(edges)}`,
    ...violations.flatMap(({ rule, text, event }) => [
      `broken rule "${rule}": ${text}`,
      ...(event ? [`  at ${event.line.trim()}`] : []),
    ]),
    violations.length === 0
      ? 'every rule of the protocol was kept'
      : `${violations.length} rules were broken`,
  ];
}

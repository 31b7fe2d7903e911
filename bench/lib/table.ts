/** A report as a person reads it. */
import type { Goal, Report, Row } from './schema.ts';

const NOT_MEASURED = 'not measured';

/** Three digits that mean something, thousands apart: 1.23, 45.6, 789, 12,345. */
export function figure(value: number | null): string {
  if (value === null) return '';
  const size = Math.abs(value);
  const digits =
    size === 0 || Number.isInteger(value) || size >= 100 ? 0 : size >= 10 ? 1 : size >= 0.1 ? 2 : 4;
  return value.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

export type Align = 'left' | 'right';

/** Columns as wide as their widest cell. A row may be shorter than the head: its last cell then runs on. */
export function columns(
  head: readonly string[],
  align: readonly Align[],
  body: readonly string[][],
): string[] {
  const width = head.map((title, i) =>
    // A last cell that runs on does not widen its column.
    Math.max(
      title.length,
      ...body.map((cells) => (i < cells.length - 1 || i === head.length - 1 ? (cells[i]?.length ?? 0) : 0)),
    ),
  );
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, i) => {
        if (i === cells.length - 1 && cells.length < head.length) return cell;
        return align[i] === 'right' ? cell.padStart(width[i]) : cell.padEnd(width[i]);
      })
      .join('  ')
      .trimEnd();
  return [line(head), line(width.map((w) => '-'.repeat(w))), ...body.map(line)];
}

const HEAD = ['', 'unit', 'n', 'p50', 'p90', 'p99', 'p99.9', 'max', 'ratio'];
const ALIGN: Align[] = ['left', 'left', ...HEAD.slice(2).map((): Align => 'right')];

function rowCells(row: Row): string[] {
  if (row.n === 0) return [row.name, row.unit, row.note ? `${NOT_MEASURED}: ${row.note}` : NOT_MEASURED];
  const percentiles = [row.p50, row.p90, row.p99, row.p999, row.max].map(figure);
  return [row.name, row.unit, figure(row.n), ...percentiles, row.ratio === null ? '' : row.ratio.toFixed(2)];
}

export function verdict(goal: Goal): string {
  if (goal.ok === null) return NOT_MEASURED;
  return goal.ok ? 'met' : 'NOT MET';
}

function goalCells(goal: Goal): string[] {
  const value = goal.value === null ? '-' : figure(goal.value);
  return [goal.name, `<= ${figure(goal.limit)}`, value, verdict(goal), goal.note ?? ''];
}

/** The whole report: what it ran on in two lines, the rows, their notes, the goals. */
export function renderReport(report: Report): string {
  const lines = [`${report.bench} on ${environment(report)}`, ''];
  lines.push(...columns(HEAD, ALIGN, report.rows.map(rowCells)));
  const notes = report.rows.filter((row) => row.n > 0 && row.note !== undefined);
  if (notes.length > 0) lines.push('', ...notes.map((row) => `${row.name}: ${row.note}`));
  if (report.goals.length > 0) {
    lines.push('');
    lines.push(
      ...columns(
        ['goal', 'limit', 'value', '', ''],
        ['left', 'right', 'right', 'left', 'left'],
        report.goals.map(goalCells),
      ),
    );
  }
  return `${lines.join('\n')}\n`;
}

function environment({ env }: Report): string {
  const said: string[] = [];
  const say = (key: string, tell: (value: string) => string = (value) => value): void => {
    const value = env[key];
    if (typeof value === 'string' || typeof value === 'number') said.push(tell(String(value)));
  };
  say('cpu');
  say('cores', (n) => `${n} cores`);
  say('kernel', (version) => `Linux ${version}`);
  say('kvm', (module) => (module === 'none' ? 'no KVM' : module));
  say('mode');
  say('node', (version) => `Node ${version}`);
  say('commit', (id) => `commit ${id}`);
  return said.join(', ');
}

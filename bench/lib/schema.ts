/**
 * The one form in which every benchmark gives its results.
 *
 * What was not measured is null and never left out: a row that is missing looks as
 * if nobody had thought of it. `note` says why, and is there only for such rows and
 * goals, and where a figure cannot be understood without it.
 */
import { writeFileSync } from 'node:fs';
import { z } from 'zod';
import { ratio, type Summary } from './stats.ts';

const figure = z.number().nullable();

export const rowSchema = z.strictObject({
  name: z.string().min(1),
  unit: z.string().min(1),
  n: z.number().int().min(0),
  p50: figure,
  p90: figure,
  p99: figure,
  p999: figure,
  max: figure,
  /** p50 over the floor's p50; 1 for the floor itself. */
  ratio: figure,
  note: z.string().optional(),
});

export const goalSchema = z.strictObject({
  name: z.string().min(1),
  limit: z.number(),
  value: figure,
  /** null: not measured. A goal that was not measured is not met. */
  ok: z.boolean().nullable(),
  note: z.string().optional(),
});

const envValue = z.union([z.string(), z.number(), z.boolean(), z.null(), z.record(z.string(), z.string())]);

export const reportSchema = z.strictObject({
  schema: z.literal(1),
  bench: z.string().min(1),
  env: z.record(z.string(), envValue),
  rows: z.array(rowSchema),
  goals: z.array(goalSchema),
});

export type Row = z.infer<typeof rowSchema>;
export type Goal = z.infer<typeof goalSchema>;
export type Env = z.infer<typeof reportSchema>['env'];
export type Report = z.infer<typeof reportSchema>;

/** A row from its samples' summary. `floor` is the p50 that the ratio is over. */
export function row(name: string, unit: string, summary: Summary | undefined, floor?: number): Row {
  if (summary === undefined) return notMeasured(name, unit, 'no samples');
  return { name, unit, ...summary, ratio: ratio(summary.p50, floor) ?? null };
}

export function notMeasured(name: string, unit: string, note: string): Row {
  return { name, unit, n: 0, p50: null, p90: null, p99: null, p999: null, max: null, ratio: null, note };
}

/** Met if the value does not exceed the limit. */
export function goal(name: string, limit: number, value: number | null | undefined, note?: string): Goal {
  const measured = value !== undefined && value !== null && Number.isFinite(value);
  const result: Goal = {
    name,
    limit,
    value: measured ? value : null,
    ok: measured ? value <= limit : null,
  };
  return note === undefined ? result : { ...result, note };
}

export const allMet = (report: Report): boolean => report.goals.every((g) => g.ok === true);

/** Throws if this is not a report of the schema: for readers, and for writers before they write. */
export function parseReport(value: unknown): Report {
  const result = reportSchema.safeParse(value);
  if (result.success) return result.data;
  throw new Error(
    `not a benchmark report of schema 1: ${z.prettifyError(result.error).replaceAll('\n', ' ')}. ` +
      'Reports of other versions have to be read by the HyperFlux that wrote them',
  );
}

/** Enough digits to compare with, few enough to read. */
const tidy = (key: string, value: unknown): unknown =>
  typeof value === 'number' && !Number.isInteger(value) ? Number(value.toPrecision(6)) : value;

/** One row and one goal a line, so that two reports can be compared with diff. */
export function formatReport(report: Report): string {
  const lines = (items: readonly unknown[]): string =>
    items.length === 0
      ? '[]'
      : `[\n${items.map((item) => `    ${JSON.stringify(item, tidy)}`).join(',\n')}\n  ]`;
  const { schema, bench, env, rows, goals } = parseReport(report);
  return (
    `{\n  "schema": ${schema},\n  "bench": ${JSON.stringify(bench)},\n` +
    `  "env": ${JSON.stringify(env, tidy, 2).replaceAll('\n', '\n  ')},\n` +
    `  "rows": ${lines(rows)},\n  "goals": ${lines(goals)}\n}\n`
  );
}

export function writeReport(path: string, report: Report): void {
  const text = formatReport(report);
  try {
    writeFileSync(path, text);
  } catch (cause) {
    throw new Error(`cannot write the report to ${path}: ${(cause as Error).message}`, { cause });
  }
}

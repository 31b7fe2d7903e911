/** What FluxOS has to reach here, from the medians of a run. */
import { goal, type Goal } from '../lib/schema.ts';
import type { RowSpec } from './rows.ts';

export const KVM = 'FluxOS on KVM';
export const HOSTED = 'FluxOS hosted';
export const PTHREADS = 'pthreads';
export const GO = 'Go';
export const TOKIO = 'tokio';
const ours = [KVM, HOSTED];
const runtimes = [GO, TOKIO];

/** How much slower than the best a quicksort may be. */
export const SORT_MARGIN = 1.05;

/** A row's median by contestant; who was not measured is not in it. */
export interface Measured {
  readonly row: RowSpec;
  /** As the report calls the row. */
  readonly title: string;
  readonly p50: ReadonlyMap<string, number>;
}

const smallest = (of: readonly (readonly [string, number])[]): readonly [string, number] =>
  of.reduce((a, b) => (b[1] < a[1] ? b : a));

/** A goal against others is only measured if all of them were. */
function against(
  name: string,
  us: string,
  others: readonly string[],
  { p50 }: Measured,
  limitOf: (ns: number) => number,
): Goal {
  const known = others.flatMap((other) => {
    const ns = p50.get(other);
    return ns === undefined ? [] : [[other, ns] as const];
  });
  if (known.length === 0) return goal(name, 0, null, `${others.join(', ')}: not measured`);
  const [fastest, ns] = smallest(known);
  const missing = others.filter((other) => !p50.has(other));
  if (missing.length > 0) return goal(name, limitOf(ns), null, `${missing.join(', ')}: not measured`);
  const note = `${fastest} ${ns.toPrecision(3)}`;
  return goal(name, limitOf(ns), p50.get(us), note);
}

export function goalsOf(measured: readonly Measured[]): Goal[] {
  return ours.flatMap((us) => [
    ...measured
      .filter(({ row }) => row.micro)
      .map((of) => against(`${us}: ${of.title}, ns: below Go and tokio`, us, runtimes, of, (ns) => ns)),
    ...measured
      .filter(({ row }) => row.overThreads !== undefined)
      .map((of) => {
        const times = of.row.overThreads!;
        const name = `${us}: ${of.title}, ns: ${times} x ahead of pthreads`;
        return against(name, us, [PTHREADS], of, (ns) => ns / times);
      }),
    ...measured
      .filter(({ row }) => row.key === 'sort')
      .map((of) => {
        const name = `${us}: ${of.title}, ms: within ${Math.round(SORT_MARGIN * 100 - 100)} % of the best`;
        const all = [...new Set([us, ...ours.filter((other) => of.p50.has(other)), PTHREADS, ...runtimes])];
        return against(name, us, all, of, (ms) => ms * SORT_MARGIN);
      }),
  ]);
}

/** What came out of the matrix: a table for people, JSON for programs. */

export type Outcome = 'ok' | 'failed' | 'not compiled';

export interface Row {
  kernel: string;
  series: string;
  release: string;
  version: string;
  compiler: string;
  outcome: Outcome;
  why: string;
  log?: string;
  modules: { file: string; bytes: number; vermagic: string }[];
}

export interface MatrixReport {
  schema: 1;
  matrix: 'kmod-headers';
  module: string;
  rows: Row[];
  ok: number;
  failed: number;
  notCompiled: number;
}

export function reportOf(module: string, rows: Row[]): MatrixReport {
  const count = (outcome: Outcome): number => rows.filter((row) => row.outcome === outcome).length;
  const counts = { ok: count('ok'), failed: count('failed'), notCompiled: count('not compiled') };
  return { schema: 1, matrix: 'kmod-headers', module, rows, ...counts };
}

export function table({ rows, ok, failed, notCompiled }: MatrixReport): string {
  const cells = rows.map(({ kernel, release, compiler, outcome, why, modules }) => [
    kernel,
    release,
    compiler,
    outcome,
    outcome === 'ok' ? modules.map(({ bytes }) => `${(bytes / 1024).toFixed(0)} KiB`).join(', ') : why,
  ]);
  const head = ['kernel', 'release', 'compiler', 'result', ''];
  const widths = head.map((_, i) => Math.max(...[head, ...cells].map((row) => row[i].length)));
  const lines = [head, ...cells].map((row) =>
    row
      .map((cell, i) => (i === 4 ? cell : cell.padEnd(widths[i])))
      .join('  ')
      .trimEnd(),
  );
  const summary = `${rows.length} kernels: ${ok} ok, ${failed} failed, ${notCompiled} not compiled`;
  return [...lines, '', summary].join('\n');
}

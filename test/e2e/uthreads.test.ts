/** `hyperflux bench uthreads`, a few samples of each row: every contestant that is built takes part and answers. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { bench } from '../../bench/uthreads/main.ts';
import { HOSTED, PTHREADS } from '../../bench/uthreads/goals.ts';
import { parseReport } from '../../bench/lib/schema.ts';
import { ROWS } from '../../bench/uthreads/rows.ts';

it('measures each row with whoever is here', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'hyperflux-uthreads-'));
  const out = join(folder, 'report.json');
  const write = process.stdout.write.bind(process.stdout);
  process.stdout.write = () => true;
  try {
    await bench({
      rounds: 1,
      numbers: 20_000,
      out,
      quiet: true,
      rivals: { fetch: false, build: [PTHREADS] },
    });
  } finally {
    process.stdout.write = write;
  }
  const report = parseReport(JSON.parse(readFileSync(out, 'utf8')));
  rmSync(folder, { recursive: true });
  const rows = (who: string) => report.rows.filter(({ name }) => name.endsWith(`: ${who}`));
  for (const who of [PTHREADS, HOSTED]) {
    expect(rows(who)).toHaveLength(ROWS.length + 1);
    for (const row of rows(who)) expect(row.note, row.name).toBeUndefined();
  }
  // Who is missing says why, and nobody is left out.
  expect(report.rows).toHaveLength(5 * (ROWS.length + 1));
  for (const row of report.rows) expect(row.n > 0 || row.note !== undefined, row.name).toBe(true);
});

/** `hyperflux bench park`, a few parks of each row: every guest is parked whatever it does, and no row is left out. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { bench } from '../../bench/park/main.ts';
import { ASKS, ON_PARK } from '../../bench/park/queues.ts';
import { DOINGS } from '../../bench/park/safe.ts';
import { parseReport } from '../../bench/lib/schema.ts';

it('parks guests in whatever they do, and says how', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'hyperflux-park-'));
  const out = join(folder, 'report.json');
  const write = process.stdout.write.bind(process.stdout);
  process.stdout.write = () => true;
  try {
    await bench({ moves: 50, rounds: 1, out, quiet: true });
  } finally {
    process.stdout.write = write;
  }
  const report = parseReport(JSON.parse(readFileSync(out, 'utf8')));
  rmSync(folder, { recursive: true });
  for (const { what } of DOINGS) {
    const row = report.rows.find(({ name }) => name === `kick to parked, hosted: ${what}`);
    expect(row, what).toMatchObject({ n: 50 });
    // How each of them left; on a busy machine some are late because their thread was, and are forced.
    expect(row!.note, what).toMatch(/^\d+ /);
  }
  for (const where of ['KVM', 'hosted'])
    expect(report.goals.filter(({ name }) => name.startsWith(`${where}: `))).toHaveLength(DOINGS.length);
  // Two rows of the fan and four of the turns for each.
  const lanes = ASKS.flatMap(({ how }) => ON_PARK.map((onPark) => `on_park=${onPark}, ${how}`));
  for (const lane of lanes) expect(report.rows.filter(({ name }) => name.endsWith(lane))).toHaveLength(6);
});

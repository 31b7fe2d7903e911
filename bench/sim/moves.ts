/** The times of moves on this machine: those rows of bench realloc that the simulator draws from, and no others. */
import { getAffinity, pinProcess, pinThread } from '../../native/index.ts';
import type { Progress } from '../lib/progress.ts';
import { Rig } from '../lib/rig.ts';
import { rotate } from '../lib/rotate.ts';
import type { Row } from '../lib/schema.ts';
import { row } from '../lib/schema.ts';
import { managedRows } from '../realloc/bridges.ts';
import { FLOOR, floorRow } from '../realloc/main.ts';

const BLOCK = 50;

export async function measureMoves(moves: number, progress: Progress): Promise<Row[]> {
  const usable = getAffinity(0);
  if (usable.length < 2) throw new Error('it needs two cores: one for the driver, one that moves');
  const [driver, core] = usable;
  const rounds = Math.ceil(moves / BLOCK);
  pinProcess([driver]);
  pinThread(driver);
  const rig = new Rig(driver, [core]);
  try {
    const { asked, kicked, yielded } = await managedRows(rig, core, '', rounds * BLOCK);
    const all = [floorRow(core, FLOOR, rounds * BLOCK, false), asked, kicked, yielded];
    const blocks = all.map((measured) => ({ name: measured.name, run: () => measured.block(BLOCK) }));
    await rotate(blocks, { rounds, progress: (done, total, name) => progress.step(done, total, name) });
    const base = all[0].samples.summary()?.p50;
    const rows = all.map(({ name, samples }) => row(name, 'us', samples.summary(), base));
    for (const { name, stages } of [asked, kicked]) {
      const handed = stages?.get('handed over');
      rows.push(row(`${name.split(':')[0]}, decision to handed over`, 'us', handed?.summary(), base));
    }
    for (const measured of all) measured.close?.();
    return rows;
  } finally {
    await rig.close();
    pinProcess(usable);
  }
}

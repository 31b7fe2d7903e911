/**
 * How long a turn takes, TypeScript against C. The two take blocks in turns on the
 * same world, in the same thread and memory. The stage's clock notes the time from
 * the start of one turn to the start of the next, leaving out what the guests do in
 * between, so every single turn is a sample, and both loops pay the same for it.
 */
import { rotate } from '../lib/rotate.ts';
import type { Progress } from '../lib/progress.ts';
import { row, type Row } from '../lib/schema.ts';
import { ratio, Samples } from '../lib/stats.ts';
import { R_HEAD, R_TAIL, R_UNTIL } from '../../arbiter/record/format.ts';
import { AGE_MAX, HEAD_NOW } from '../../arbiter/policy/api.ts';
import type { Stage } from './stage.ts';
import { changing, clockCalls, KINDS, setUp, SIZES, type Kind, type Size } from './worlds.ts';

const LANGUAGES = ['ts', 'c'] as const;
type Language = (typeof LANGUAGES)[number];

/** Turns before a block counts: the other loop has the caches, and the world has just been made. */
const SETTLE = 64;
/** One call of the loop does so many turns, as in production. */
const CHUNK = 1024;

/**
 * Turns that make one sample. Some CPUs' counter ticks in steps of 10 ns, which is half an idle turn; so a sample of
 * the idle rows is the mean of so many turns, and their percentiles are of those.
 */
const TURNS_PER_SAMPLE: Record<Kind, number> = { idle: 16, busy: 1, moving: 1 };

/** Turns in a block: fewer where a turn takes longer. Multiples of what makes a sample. */
const TURNS: Record<Size, number> = { 1: 8192, 16: 6144, 128: 3072, 1024: 1024 };

export interface TurnFigures {
  rows: Row[];
  /** p50 of TypeScript over p50 of C; undefined: not measured. */
  ratios: Map<string, number | undefined>;
}

export const turnName = (kind: Kind, vms: number): string =>
  `${kind} turn, ${vms} ${vms === 1 ? 'VM' : 'VMs'}`;

/** Turns that decide while `hyperflux record` takes them down, of this many VMs. */
const RECORDED = 128;

/** Lets the loop record until the block is over; the ring is taken for read. */
function recorded(stage: Stage, block: () => void): void {
  const { words } = stage.mem.stats.recording;
  words[R_HEAD] = 0;
  words[R_TAIL] = 0;
  words[R_UNTIL] = (stage.state.view.head[HEAD_NOW] + AGE_MAX) | 0;
  block();
  words[R_UNTIL] = 0;
}

export interface TurnWorld {
  kind: Kind;
  vms: Size;
}

const allWorlds: readonly TurnWorld[] = KINDS.flatMap((kind) => SIZES.map((vms) => ({ kind, vms })));

/** Both loops take every branch here often enough to be compiled for good. */
export function warmUp(stage: Stage, worlds: readonly TurnWorld[] = allWorlds): void {
  for (const { kind, vms } of worlds) {
    setUp(stage, kind, vms);
    for (let n = 0; n < 4; n++) {
      for (const language of LANGUAGES) run(stage, language, kind, vms, TURNS[vms]);
      if (vms === RECORDED) recorded(stage, () => run(stage, 'ts', kind, vms, TURNS[vms]));
    }
  }
}

/** One block; its samples lie in stage.samples afterwards. */
function run(stage: Stage, language: Language, kind: Kind, vms: number, turns: number): void {
  const chunk = language === 'ts' ? (n: number): void => stage.turn.chunk(n) : stage.twin.chunk;
  stage.set('changing', changing(kind, vms));
  stage.set('calls_per_turn', 0);
  // The script runs only with a clock that notes, so the settling turns are noted and forgotten.
  chunk(SETTLE);
  note(stage, kind);
  chunk(SETTLE);
  note(stage, kind);
  for (let left = turns; left > 0; left -= CHUNK) chunk(Math.min(left, CHUNK));
  stage.set('calls_per_turn', 0);
  const expected = Math.floor((turns - 1) / TURNS_PER_SAMPLE[kind]);
  // A turn has a length once the next one has begun. Another number means that turns decided, or did not, that were
  // not meant to: then this is not the row that it says it is.
  const noted = stage.get('samples');
  if (noted !== expected) {
    throw new Error(`${language}: ${turnName(kind, vms)}: ${noted} samples instead of ${expected}`);
  }
}

function note(stage: Stage, kind: Kind): void {
  stage.set('samples', 0);
  stage.set('call', 0);
  stage.set('turn', 0);
  stage.set('turns_per_sample', TURNS_PER_SAMPLE[kind]);
  stage.control.fill(0, stage.twin.words.started, stage.twin.words.started + 2);
  stage.set('calls_per_turn', clockCalls(kind));
}

export async function measureTurns(
  stage: Stage,
  rounds: number,
  progress: Progress,
  worlds: readonly TurnWorld[] = allWorlds,
): Promise<TurnFigures> {
  const nsPerTick = 1e6 / stage.khz;
  const cells = worlds.map(({ kind, vms }) => {
    const capacity = rounds * TURNS[vms];
    const [ts, c, taken] = [0, 1, 2].map(() => new Samples(capacity));
    return { kind, vms, ts, c, taken };
  });
  const blocks = cells.map((cell) => ({
    name: turnName(cell.kind, cell.vms),
    run(round: number): void {
      setUp(stage, cell.kind, cell.vms);
      const order: Language[] = round % 2 === 0 ? ['ts', 'c'] : ['c', 'ts'];
      for (const language of order) {
        run(stage, language, cell.kind, cell.vms, TURNS[cell.vms]);
        const noted = stage.get('samples');
        for (let i = 0; i < noted; i++)
          cell[language].push((stage.samples[i] * nsPerTick) / TURNS_PER_SAMPLE[cell.kind]);
      }
      if (cell.vms !== RECORDED || cell.kind === 'idle') return;
      recorded(stage, () => run(stage, 'ts', cell.kind, cell.vms, TURNS[cell.vms]));
      for (let i = 0; i < stage.get('samples'); i++)
        cell.taken.push((stage.samples[i] * nsPerTick) / TURNS_PER_SAMPLE[cell.kind]);
    },
  }));
  await rotate(blocks, { rounds, progress: (done, total, name) => progress.step(done, total, name) });

  const rows: Row[] = [];
  const ratios = new Map<string, number | undefined>();
  for (const cell of cells) {
    const name = turnName(cell.kind, cell.vms);
    const c = cell.c.summary();
    const ts = cell.ts.summary();
    rows.push(row(`${name}, C`, 'ns', c, c?.p50), row(`${name}, TypeScript`, 'ns', ts, c?.p50));
    if (cell.taken.length > 0) {
      const taken = row(`${name}, recorded`, 'ns', cell.taken.summary(), ts?.p50);
      rows.push({ ...taken, note: 'its ratio is over the same turn while nobody records' });
    }
    ratios.set(name, ratio(ts?.p50, c?.p50));
  }
  return { rows, ratios };
}

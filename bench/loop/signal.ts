/**
 * From a flag in a control page to the command: a native thread on another core
 * writes a queue into a VM's page, as a guest would, and waits until the loop has
 * submitted the command that grants the VM a core. TypeScript and C in turns.
 */
import type { Progress } from '../lib/progress.ts';
import { rotate } from '../lib/rotate.ts';
import { notMeasured, row, type Row } from '../lib/schema.ts';
import { Samples } from '../lib/stats.ts';
import type { Stage } from './stage.ts';
import { setUpSignal, SIZES } from './worlds.ts';

/** As many turns as the arbiter's worker does between two looks at its control word. */
const CHUNK = 256;

const LANGUAGES = ['C', 'TypeScript'] as const;

const signalName = (vms: number, language: string): string =>
  `flag to command, ${vms} ${vms === 1 ? 'VM' : 'VMs'}, ${language}`;

export function signalNotMeasured(why: string): Row[] {
  return SIZES.flatMap((vms) =>
    LANGUAGES.map((language) => notMeasured(signalName(vms, language), 'ns', why)),
  );
}

/** `core`: where the flags are raised; not the loop's. */
export async function measureSignal(
  stage: Stage,
  options: { core: number; rounds: number; events: number },
  progress: Progress,
): Promise<Row[]> {
  const nsPerTick = 1e6 / stage.khz;
  const cells = SIZES.map((vms) => {
    const samples = (): Samples => new Samples(options.rounds * options.events);
    return { vms, dropped: [0, 0], samples: [samples(), samples()] };
  });
  const blocks = cells.map((cell) => ({
    name: signalName(cell.vms, 'both'),
    run(round: number): void {
      for (const which of round % 2 === 0 ? [0, 1] : [1, 0]) {
        setUpSignal(stage, cell.vms);
        stage.twin.signal(options.core, options.events);
        if (LANGUAGES[which] === 'C') stage.twin.runUntilDone(CHUNK);
        else runUntilDone(stage);
        cell.dropped[which] += stage.twin.signalEnd();
        const noted = stage.get('samples');
        for (let i = 0; i < noted; i++) cell.samples[which].push(stage.samples[i] * nsPerTick);
      }
    },
  }));
  await rotate(blocks, {
    rounds: options.rounds,
    progress: (done, total, name) => progress.step(done, total, name),
  });

  return cells.flatMap((cell) => {
    const floor = cell.samples[0].summary()?.p50;
    return LANGUAGES.map((language, which) => {
      const result = row(signalName(cell.vms, language), 'ns', cell.samples[which].summary(), floor);
      // Rounds in which the raising thread itself was not running say nothing about the loop.
      return cell.dropped[which] === 0
        ? result
        : { ...result, note: `${cell.dropped[which]} rounds left out: the raising thread was not running` };
    });
  });
}

function runUntilDone(stage: Stage): void {
  const done = stage.twin.words.done;
  while (stage.control[done] === 0) stage.turn.chunk(CHUNK);
}

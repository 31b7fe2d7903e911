/**
 * What a user's policy costs: the same turns, with a policy of some 30 lines in the
 * place of the built-in one. V8 folds one policy into one loop, so each has a thread
 * of its own, and they are compared by what each is over C in that thread: the C twin
 * does the same in both.
 */
import { longestWait } from '../../arbiter/policy/examples/longest-wait.ts';
import { warmUp as warmUpLoop } from '../../arbiter/loop/warmup.ts';
import type { Progress } from '../lib/progress.ts';
import type { Row } from '../lib/schema.ts';
import { Stage } from './stage.ts';
import type { TurnFigures, TurnWorld } from './turns.ts';
import { measureTurns, turnName, warmUp } from './turns.ts';

/** How many times the built-in policy's turn it may take. */
export const USER_RATIO = 1.5;

/** Turns that decide; the others do not come to the policy. */
export const USER_WORLDS: readonly TurnWorld[] = [
  { kind: 'busy', vms: 16 },
  { kind: 'busy', vms: 128 },
  { kind: 'moving', vms: 16 },
  { kind: 'moving', vms: 128 },
];

const OF = 'with a policy of 30 lines';
export const userName = ({ kind, vms }: TurnWorld): string => `${turnName(kind, vms)}, ${OF}`;

export async function measureUser(
  maxSamples: number,
  rounds: number,
  progress: Progress,
): Promise<TurnFigures> {
  const stage = new Stage(maxSamples, longestWait);
  warmUpLoop(stage.mem, stage.state, stage.turn);
  stage.live();
  warmUp(stage, USER_WORLDS);
  const figures = await measureTurns(stage, rounds, progress, USER_WORLDS);
  const rows = figures.rows.map((row): Row => ({
    ...row,
    name: row.name.replace(/, (C|TypeScript)$/, `, ${OF}, $1`),
  }));
  return { ...figures, rows };
}

/**
 * One sentence about what the figures say. It is put together from the figures
 * alone: if HyperFlux did worse, or a comparison is missing, that is what it says.
 */
import { summarize } from '../lib/stats.ts';
import type { PhaseId, PhaseResult } from './phases.ts';

/** Two figures closer than this are not told apart: phases run one after the other, and a machine has weather. */
const SAME = 0.1;
/** Others' share of the cores from which on a phase is not what it was meant to be. */
const DISTURBED = 0.1;

interface Figures {
  p99: number;
  blocks: number | undefined;
}

function figures(phases: readonly PhaseResult[], id: PhaseId): Figures | undefined {
  const result = phases.find((r) => r.phase.id === id);
  const latency = result && summarize(result.load.latencyUs);
  return latency && { p99: latency.p99, blocks: result.meanBlocksPerSecond };
}

const times = (ratio: number): string => (ratio >= 10 ? ratio.toFixed(0) : ratio.toFixed(1));

/** "3.1 times lower than", "about the same as", "1.4 times higher than". */
function against(mine: number, other: number): string {
  const ratio = mine / other;
  if (Math.abs(ratio - 1) < SAME) return 'about the same as';
  return ratio < 1 ? `${times(1 / ratio)} times lower than` : `${times(ratio)} times higher than`;
}

const percent = (ratio: number): string => `${(ratio * 100).toFixed(0)} %`;

function batchPart(mine: number, others: readonly { blocks: number | undefined; where: string }[]): string {
  const parts = others
    .filter((other) => other.blocks !== undefined && other.blocks > 0)
    .map((other) => `${percent(mine / other.blocks!)} of the blocks that it did ${other.where}`);
  return parts.length === 0 ? '' : `, while batch did ${parts.join(' and ')}`;
}

/** On a busy machine the figures say less, and the sentence has to say so. */
function disturbance(phases: readonly PhaseResult[]): string {
  const most = Math.max(...phases.map((result) => result.foreign));
  if (most < DISTURBED) return 'Beside batch,';
  return `Beside batch, and beside other programs that used up to ${percent(most)} of the cores' time,`;
}

export function interpret(phases: readonly PhaseResult[]): string {
  const flux = figures(phases, 'hyperflux');
  const alone = figures(phases, 'alone');
  const movable = figures(phases, 'linux-movable');
  const all = figures(phases, 'linux-all');
  if (flux === undefined) return 'Under HyperFlux no request was finished, so there is nothing to compare.';
  const parts: string[] = [];
  if (movable !== undefined)
    parts.push(`${against(flux.p99, movable.p99)} under plain Linux on the same cores`);
  if (all !== undefined) parts.push(`${against(flux.p99, all.p99)} under plain Linux on all cores`);
  if (alone !== undefined) parts.push(`${times(flux.p99 / alone.p99)} times that of serve alone`);
  if (parts.length === 0) return 'Only the HyperFlux phase has figures, so there is nothing to compare.';
  const last = parts.pop()!;
  const list = parts.length === 0 ? last : `${parts.join(', ')} and ${last}`;
  const batch =
    flux.blocks === undefined
      ? ''
      : batchPart(flux.blocks, [
          { blocks: movable?.blocks, where: 'under plain Linux on the same cores' },
          { blocks: all?.blocks, where: "on all cores, the arbiter's included" },
        ]);
  return `${disturbance(phases)} the p99 of serve under HyperFlux was ${list}${batch}.`;
}

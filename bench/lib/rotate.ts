/**
 * Runs the rows of a benchmark in short blocks that take turns.
 *
 * The machine changes while a benchmark runs: neighbours come and go, clocks and
 * idle states shift. Rows that ran one after the other would be compared across
 * that change. In short blocks every row sees the same weather; and because each
 * round starts with another row and every other round goes backwards, no row
 * always runs behind the same neighbour.
 */

export interface Block {
  readonly name: string;
  /** Runs one short block; the samples stay with whoever made the row. */
  run(round: number): void | Promise<void>;
}

/** The order of `count` rows in this round. */
export function orderOf(count: number, round: number): number[] {
  const order = Array.from({ length: count }, (_, i) => (i + round) % count);
  return Math.floor(round / count) % 2 === 1 ? order.reverse() : order;
}

export interface RotateOptions {
  rounds: number;
  /** Called before each block with the blocks done so far; what it costs is nobody's time. */
  progress?: (done: number, total: number, name: string) => void;
}

export async function rotate(blocks: readonly Block[], options: RotateOptions): Promise<void> {
  const total = blocks.length * options.rounds;
  let done = 0;
  for (let round = 0; round < options.rounds; round++) {
    for (const i of orderOf(blocks.length, round)) {
      options.progress?.(done, total, blocks[i].name);
      const waiting = blocks[i].run(round);
      // Most blocks are synchronous; those must not be torn apart by turns of the event loop.
      if (waiting instanceof Promise) await waiting;
      done++;
    }
  }
  options.progress?.(total, total, '');
}

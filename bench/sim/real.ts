/**
 * What the simulator has to predict: `serve` beside `batch` under HyperFlux on this
 * machine, as in the demo's last phase, with the loop's own turn times.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ControlClient } from '../../arbiter/control/client.ts';
import { runPaths } from '../../arbiter/control/paths.ts';
import { getAffinity, pinProcess, setAffinity } from '../../native/index.ts';
import { cpuTicks } from '../demo/busy.ts';
import { killAll, processesOf, withCleanup } from '../demo/cleanup.ts';
import { divideCores, makePhases } from '../demo/demo.ts';
import type { Backend } from '../demo/guests.ts';
import { startManaged } from '../demo/managed.ts';
import type { PhaseResult } from '../demo/phases.ts';
import { runPhase } from '../demo/phases.ts';
import type { Row } from '../lib/schema.ts';
import { createLoad } from '../load/area.ts';
import type { Schedule } from '../load/schedule.ts';

export interface RealRun {
  result: PhaseResult;
  cores: number;
  /** From the start of one turn to that of the next, as the loop itself counted them. */
  turns: Row;
}

const TIMES = { lookMs: 500, patienceMs: 3000 };

type Histogram = Pick<Row, 'n' | 'p50' | 'p90' | 'p99' | 'p999' | 'max'>;

async function turnTimes(directory: string): Promise<Row> {
  const client = await ControlClient.connect(runPaths(join(directory, 'run')));
  try {
    const { histograms } = await client.ask<{ histograms: Record<string, Histogram> }>('stats');
    return { name: 'turns of the loop', unit: 'ns', ...histograms.turn_ns, ratio: null };
  } finally {
    client.close();
  }
}

export async function runServe(
  policy: string,
  backend: Backend,
  schedules: { warmUp: Schedule; measured: Schedule },
  glance: (share: number) => void,
): Promise<RealRun> {
  const usable = getAffinity(0);
  const cores = divideCores(usable);
  const phase = makePhases(cores).find(({ id }) => id === 'hyperflux')!;
  let turns: Row | undefined;
  const { value } = await withCleanup(async (cleanup, stopped) => {
    const directory = mkdtempSync(join(tmpdir(), 'hyperflux-sim-'));
    const remove = (): void => rmSync(directory, { recursive: true, force: true });
    cleanup.add(`the directory ${directory}`, remove, remove);
    const sweep = (): void => killAll(directory);
    cleanup.add('the processes of this run', sweep, sweep);
    pinProcess([cores.arbiter]);
    cleanup.add('the affinity of this process', () => pinProcess(usable));
    return runPhase(phase, schedules, TIMES, {
      async start(managed) {
        const stage = await startManaged(managed, {
          ...{ backend, directory, cleanup, policy, arbiterCore: cores.arbiter },
          unpinned<T>(start: () => T): T {
            setAffinity(0, usable);
            try {
              return start();
            } finally {
              setAffinity(0, [cores.arbiter]);
            }
          },
        });
        return {
          ...stage,
          async stop(): Promise<void> {
            turns = await turnTimes(directory).catch(() => undefined);
            await stage.stop();
          },
        };
      },
      newArea: (schedule) => createLoad(schedule),
      now: () => performance.now(),
      sleep: (ms) => Promise.race([new Promise<void>((resolve) => setTimeout(resolve, ms)), stopped]),
      cpu: () =>
        cpuTicks(
          usable,
          processesOf(directory).map(({ pid }) => pid),
        ),
      cores: usable.length,
      glance: ({ elapsedS, seconds }) => glance(elapsedS / seconds),
    });
  });
  if (turns === undefined) throw new Error("the loop's turn times could not be read: the arbiter has ended");
  return { result: value, cores: cores.movable.length, turns };
}

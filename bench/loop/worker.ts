/**
 * The thread in which both loops are measured. Like the arbiter's own worker it is
 * pinned, and goes through the arbiter's warm-up and nothing else first: the hostile
 * worlds in which the loops are compared leave their mark on what V8 compiles, so
 * they have another thread, which is this file, too.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { warmUp as warmUpLoop } from '../../arbiter/loop/warmup.ts';
import { pinThread } from '../../native/index.ts';
import type { Progress } from '../lib/progress.ts';
import type { Row } from '../lib/schema.ts';
import { agree, type Agreement } from './agree.ts';
import { measureMemory, type MemoryFigures } from './memory.ts';
import { measureSignal, signalNotMeasured } from './signal.ts';
import { Stage } from './stage.ts';
import { measureTurns, warmUp, type TurnFigures } from './turns.ts';
import { measureUser } from './user.ts';

export interface Task {
  what: 'agree' | 'measure' | 'user';
  /** Where the loops run. */
  core: number;
  /** Where flags are raised; null: there is no second core. */
  signalCore: number | null;
  turnRounds: number;
  signalRounds: number;
  signalEvents: number;
  memoryRuns: number;
  memoryTurns: number;
  agreeWorlds: number;
}

export interface Outcome {
  level: string;
  compiler: string;
  turns: TurnFigures;
  memory: MemoryFigures;
  signal: Row[];
}

/** What each task comes to. */
export interface Results {
  agree: Agreement;
  measure: Outcome;
  user: TurnFigures;
}

export type FromWorker =
  | { op: 'stage'; name: string }
  | { op: 'step'; done: number; total: number; detail: string }
  | { op: 'result'; result: Results[Task['what']] };

/** More than any row notes between two readings. */
const MAX_SAMPLES = 1 << 16;

const say = (message: FromWorker): void => parentPort!.postMessage(message);
let last = 0;
const progress: Progress = {
  stage: (name) => say({ op: 'stage', name }),
  step(done, total, detail = ''): void {
    // A message allocates and wakes the other thread, so there are few of them.
    const now = performance.now();
    if (now - last < 200) return;
    last = now;
    say({ op: 'step', done, total, detail });
  },
  end() {},
};

async function measure(task: Task): Promise<Outcome> {
  progress.stage('warming up');
  const stage = new Stage(MAX_SAMPLES);
  warmUpLoop(stage.mem, stage.state, stage.turn);
  stage.live();
  warmUp(stage);
  progress.stage('turns');
  const turns = await measureTurns(stage, task.turnRounds, progress);
  progress.stage('allocations');
  const memory = await measureMemory(stage, { runs: task.memoryRuns, turns: task.memoryTurns }, progress);
  progress.stage('flag to command');
  const signal =
    task.signalCore === null
      ? signalNotMeasured('this machine lets the benchmark use one core only')
      : await measureSignal(
          stage,
          { core: task.signalCore, rounds: task.signalRounds, events: task.signalEvents },
          progress,
        );
  return { level: stage.twin.level, compiler: stage.twin.compiler, turns, memory, signal };
}

const task = workerData as Task;
pinThread(task.core);
if (task.what === 'agree') {
  progress.stage('comparing decisions');
  say({ op: 'result', result: agree(new Stage(1), { worlds: task.agreeWorlds, turns: 100 }) });
} else if (task.what === 'user') {
  progress.stage("a user's policy");
  void measureUser(MAX_SAMPLES, task.turnRounds, progress).then((result) => say({ op: 'result', result }));
} else {
  void measure(task).then((outcome) => say({ op: 'result', result: outcome }));
}

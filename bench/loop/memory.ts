/**
 * What a turn allocates. V8 knows to the byte how much of its heap is in use, so the
 * difference before and after some hundred thousand turns is what they allocated, as
 * long as nothing was collected in between; collections are counted, too. What one
 * look at the heap allocates itself is measured and taken off. That the method sees
 * what it should is checked in the same run, on turns that allocate on purpose.
 */
import { PerformanceObserver } from 'node:perf_hooks';
import { getHeapStatistics, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { Progress } from '../lib/progress.ts';
import { row, type Row } from '../lib/schema.ts';
import { summarize } from '../lib/stats.ts';
import type { Stage } from './stage.ts';
import { changing, clockCalls, KINDS, setUp, type Kind } from './worlds.ts';

/** VMs in the world; what is allocated does not depend on how many there are. */
const VMS = 128;
const CHUNK = 256;
const SETTLE = 20_000;

export interface MemoryFigures {
  rows: Row[];
  /**
   * Bytes a turn, the median run: what turns allocate is there in every run. V8 itself allocates now and then when it
   * compiles a function once more; that is in the row's maximum.
   */
  typical: Map<Kind, number>;
  turns: number;
  collections: number;
}

export const memoryName = (kind: Kind): string => `allocated in ${kind} turns, TypeScript`;

/** Collects everything now: what the rest of the benchmark left behind must not be collected while turns are measured. */
function makeCollect(): () => void {
  setFlagsFromString('--expose-gc');
  return runInNewContext('gc') as () => void;
}

function used(): number {
  return getHeapStatistics().used_heap_size;
}

/** Bytes that `chunk` allocates, `turns` turns long, beside what measuring costs. */
function allocatedBy(chunk: (n: number) => void, turns: number): number {
  const first = used();
  const before = used();
  for (let left = turns; left > 0; left -= CHUNK) chunk(CHUNK);
  const after = used();
  return after - before - (before - first);
}

/** Turns that allocate: 16 bytes each at least, a number that does not fit where a pointer does. */
function wasteful(): (n: number) => void {
  const kept: { at: number }[] = [];
  return (n) => {
    for (let i = 0; i < n; i++) kept[i & 7] = { at: i + 0.5 };
  };
}

export async function measureMemory(
  stage: Stage,
  options: { runs: number; turns: number },
  progress: Progress,
): Promise<MemoryFigures> {
  const { runs, turns } = options;
  const spans: { from: number; to: number }[] = [];
  const collected: number[] = [];
  const observer = new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) collected.push(entry.startTime);
  });
  observer.observe({ entryTypes: ['gc'] });

  checkMethod();
  const collect = makeCollect();
  const bytes = new Map(KINDS.map((kind) => [kind, new Float64Array(runs)]));
  let done = 0;
  for (let run = 0; run < runs; run++) {
    for (const kind of KINDS) {
      progress.step(done++, runs * KINDS.length, memoryName(kind));
      setUp(stage, kind, VMS);
      stage.set('changing', changing(kind, VMS));
      stage.set('turns_per_sample', 1);
      stage.set('samples', 0);
      stage.set('call', 0);
      stage.set('calls_per_turn', clockCalls(kind));
      collect();
      stage.turn.chunk(SETTLE);
      const from = performance.now();
      bytes.get(kind)![run] = allocatedBy((n) => stage.turn.chunk(n), turns) / turns;
      spans.push({ from, to: performance.now() });
      stage.set('calls_per_turn', 0);
    }
  }
  // Entries arrive with the event loop.
  await new Promise((resolve) => setTimeout(resolve, 20));
  observer.disconnect();

  return {
    rows: KINDS.map((kind) => row(memoryName(kind), 'B', summarize(bytes.get(kind)!))),
    typical: new Map(KINDS.map((kind) => [kind, summarize(bytes.get(kind)!)!.p50])),
    turns: runs * turns,
    collections: collected.filter((at) => spans.some(({ from, to }) => at >= from && at <= to)).length,
  };
}

/** Throws if the method does not see turns that allocate. */
function checkMethod(): void {
  const chunk = wasteful();
  let seen = 0;
  // Few turns, and again if need be: a collection in between takes away more than was allocated.
  for (let attempt = 0; attempt < 10 && seen < 8; attempt++) {
    seen = allocatedBy(chunk, 2048) / 2048;
  }
  if (!(seen >= 8)) {
    throw new Error(
      `16 bytes a turn were allocated on purpose and ${seen} were measured: the heap's figures cannot be trusted`,
    );
  }
}

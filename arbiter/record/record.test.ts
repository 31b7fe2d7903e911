import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CLASS_LC } from '../abi/layout.gen.ts';
import { detachVm } from '../loop/vms.ts';
import { HEAD_NOW } from '../policy/api.ts';
import { delay, delayParams } from '../policy/builtin/delay.ts';
import { random } from '../../bench/load/random.ts';
import { SHIFT, World } from '../../test/unit/world.ts';
import { Drain } from './drain.ts';
import { RecordingReader, RecordingWriter } from './file.ts';
import { R_BYTES, R_HEAD, R_UNTIL } from './format.ts';
import { headOf } from './record.ts';
import { replay } from './replay.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'hyperflux-record-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

const CORES = [1, 2, 3, 4];
const status = (params: Record<string, number>): Parameters<typeof headOf>[0] => ({
  policy: { name: 'delay', params: delayParams.parse(params) },
  pool: { arbiter_core: 0, cores: CORES, cpuset: '' },
});
const FAR = 2 ** 29;

interface Seen {
  /** Words of the view and of the decision, in each turn that decided. */
  turns: string[];
}

/** Slots and cores that are used are below. */
const WORDS = 16;

/** A world in which everything happens, and what its policy sees and decides. */
class Lively {
  readonly world: World;
  readonly seen: Seen = { turns: [] };
  readonly #draw = random(11, 0);

  /** `watch`: keep what is seen. */
  constructor(params: Record<string, number> = {}, watch = false) {
    const { seen } = this;
    const words = (array: Int32Array): number[] => [...array.subarray(0, WORDS)];
    const watched: typeof delay = {
      ...delay,
      bind(view) {
        const decider = delay.bind(view);
        return {
          ...decider,
          decide(): void {
            const before = Object.entries(view).map(([name, array]) => [name, words(array as Int32Array)]);
            decider.decide();
            seen.turns.push(JSON.stringify([before, words(view.target), words(view.why), words(view.heir)]));
          },
        };
      },
    };
    this.world = new World(CORES, watch ? watched : delay, params);
    for (let slot = 0; slot < 6; slot++) {
      this.world.vm(slot * 3, {
        vcpus: 3,
        ...(slot % 2 === 0 ? { vmClass: CLASS_LC, min: slot % 4 === 0 ? 1 : 0 } : {}),
      });
    }
  }

  pick(n: number): number {
    return Math.floor(this.#draw() * n);
  }

  run(steps: number): void {
    const w = this.world;
    for (let i = 0; i < steps; i++) {
      const slot = this.pick(6) * 3;
      if (w.state.dense[slot] >= 0) w.queue(slot, this.pick(3), this.pick(4), this.pick(60));
      const core = CORES[this.pick(4)];
      if (w.owner(core) >= 0 && this.pick(2) === 0) w.running(w.owner(core), w.ownerVcpu(core));
      if (this.pick(3) === 0) w.leave(core);
      if (this.pick(97) === 0) detachVm(w.mem, w.state, slot);
      if (this.pick(31) === 0 && w.state.dense[slot] < 0) w.vm(slot, { vcpus: 3 });
      w.run(1 + this.pick(3), 1 + this.pick(2));
    }
  }
}

function recorded(
  name: string,
  steps = 600,
  params: Record<string, number> = {},
): { path: string; turns: string[] } {
  const lively = new Lively(params, true);
  lively.run(200);
  const { recording, view } = lively.world.stats;
  const path = join(folder, name);
  const writer = new RecordingWriter(path, headOf(status(params), [{ slot: 0, name: 'web' }], 1e6, SHIFT));
  const drain = new Drain(recording, 1, (view.head[HEAD_NOW] + FAR) | 0);
  lively.seen.turns.length = 0;
  for (let i = 0; i < steps; i += 20) {
    lively.run(20);
    drain.take((turn) => writer.add(turn));
  }
  drain.stop();
  writer.close(drain.lost);
  return { path, turns: lively.seen.turns };
}

describe('recording', () => {
  test('what is read back is what the policy saw and decided, word for word, from the middle of a run', () => {
    const { path, turns } = recorded('all.turns');
    const reader = new RecordingReader(path);
    const { view, decision } = reader.turns;
    let keyframes = 0;
    const count = reader.forEach((turn) => {
      if (reader.turns.keyframe) keyframes++;
      const [before, target, why, heir] = JSON.parse(turns[turn]) as [[string, number[]][], ...number[][]];
      const cores = CORES.length;
      for (const [name, words] of before) {
        if (['target', 'why', 'heir'].includes(name)) continue;
        const most = name === 'hot' ? view.head[1] : name.startsWith('core') ? cores : words.length;
        const found = [...(view as unknown as Record<string, Int32Array>)[name].subarray(0, most)];
        expect([turn, name, found]).toEqual([turn, name, words.slice(0, most)]);
      }
      expect([...decision.target.subarray(0, cores)]).toEqual(target.slice(0, cores));
      expect([...decision.why.subarray(0, cores)]).toEqual(why.slice(0, cores));
      expect([...decision.heir.subarray(0, cores)]).toEqual(heir.slice(0, cores));
    });
    expect(count).toBe(turns.length);
    expect(count).toBeGreaterThan(500);
    expect(keyframes).toBe(1);
  });

  test('nobody records: nothing is written; who falls silent is forgotten', () => {
    const lively = new Lively();
    const { words } = lively.world.stats.recording;
    lively.run(50);
    expect(words[R_HEAD]).toBe(0);
    new Drain(lively.world.stats.recording, 1, (lively.world.stamp() + 20) | 0);
    lively.run(50);
    const written = words[R_HEAD];
    expect(written).toBeGreaterThan(0);
    expect(words[R_UNTIL]).toBe(0);
    lively.run(50);
    expect(words[R_HEAD]).toBe(written);
  });

  test('a ring that nobody reads loses turns, counts them, and goes on with a keyframe', () => {
    const lively = new Lively();
    const { recording } = lively.world.stats;
    const path = join(folder, 'gap.turns');
    const writer = new RecordingWriter(path, headOf(status({}), [], 1e6, SHIFT));
    // The counters wrap in the middle of it.
    recording.words[R_HEAD] = -5000;
    const drain = new Drain(recording, 1, (lively.world.stamp() + FAR) | 0);
    let head = recording.words[R_HEAD];
    while (drain.lost === 0) {
      lively.run(50);
      head = recording.words[R_HEAD];
    }
    expect((head + 5000) >>> 0).toBeLessThanOrEqual(R_BYTES);
    drain.take((turn) => writer.add(turn));
    lively.run(50);
    drain.take((turn) => writer.add(turn));
    drain.stop();
    writer.close(drain.lost);
    const reader = new RecordingReader(path);
    const gaps: boolean[] = [];
    reader.forEach(() => gaps.push(reader.turns.afterGap));
    expect(gaps.filter(Boolean)).toHaveLength(1);
    expect(reader.lost).toBeGreaterThan(0);
    expect(replay(new RecordingReader(path), delay, delayParams.parse({})).differing).toBe(0);
  });
});

describe('replay', () => {
  test('the same policy and parameters decide the same, bit for bit', () => {
    const params = { tenure_us: 3, step_us: 200 };
    const { path, turns } = recorded('same.turns', 600, params);
    const result = replay(new RecordingReader(path), delay, delayParams.parse(params));
    expect(result).toMatchObject({
      turns: turns.length,
      compared: turns.length - 1,
      differing: 0,
      exact: true,
    });
  });

  test('other parameters are told apart: turn, core, and what would have been', () => {
    const { path } = recorded('other.turns');
    const result = replay(
      new RecordingReader(path),
      delay,
      delayParams.parse({ threshold_us: 900, tenure_us: 900 }),
    );
    expect(result.differingTargets).toBeGreaterThan(0);
    const [first] = result.first;
    expect(CORES).toContain(first.core);
    expect([first.then.target, first.then.heir, first.then.why]).not.toEqual([
      first.now.target,
      first.now.heir,
      first.now.why,
    ]);
  });

  test('a policy that keeps state of its own without showing it is said to be inexact', () => {
    const { path } = recorded('inexact.turns');
    const hidden = {
      ...delay,
      bind: (view: Parameters<typeof delay.bind>[0]) => ({ ...delay.bind(view), state: undefined }),
    };
    expect(replay(new RecordingReader(path), hidden, delayParams.parse({})).exact).toBe(false);
  });

  test('a policy that throws is counted', () => {
    const { path } = recorded('throws.turns', 100);
    const bad = {
      ...delay,
      bind: () => ({
        decide() {
          throw new Error('no');
        },
        configure() {},
      }),
    };
    const result = replay(new RecordingReader(path), bad, {});
    expect(result.faults).toBe(result.compared);
  });
});

describe('a recording that is broken says where', () => {
  const reading = (bytes: Buffer): (() => void) => {
    const path = join(folder, 'broken.turns');
    writeFileSync(path, bytes);
    return () => void new RecordingReader(path).forEach(() => {});
  };

  test('cut off anywhere: refused, with byte, block and turn', () => {
    const whole = readFileSync(recorded('cut.turns', 200).path);
    reading(whole)();
    for (let length = 0; length < whole.length; length += 1 + Math.floor(length / 9)) {
      expect(reading(whole.subarray(0, length))).toThrow(/broken\.turns, byte \d+: /);
    }
    const end = whole.subarray(0, whole.length - 16);
    expect(reading(end)).toThrow(
      new RegExp(`byte ${end.length}: block \\d+, turn \\d+: it ends here, and no end was written`),
    );
  });

  test('a bit turned anywhere: refused', () => {
    const whole = readFileSync(recorded('bits.turns', 60).path);
    for (let at = 0; at < whole.length; at += 1 + Math.floor(at / 40)) {
      const bytes = Buffer.from(whole);
      bytes[at] ^= 1 << (at % 8);
      expect(reading(bytes), `byte ${at}`).toThrow(/byte \d+: /);
    }
  });

  test('something else, or of another format', () => {
    expect(reading(Buffer.from('a text that is long enough to be a head'))).toThrow('not a recording');
    const whole = Buffer.from(readFileSync(recorded('format.turns', 20).path));
    whole.writeUInt32LE(9, 8);
    expect(reading(whole)).toThrow(/byte 8: it has format 9, and this version reads format 1/);
  });
});

/** The table, the JSON and the sentence, on made-up figures. */
import { describe, expect, test } from 'vitest';
import { makeLive } from '../../bench/demo/live.ts';
import type { Glance, Phase, PhaseId, PhaseResult } from '../../bench/demo/phases.ts';
import { noCounters } from '../../bench/demo/phases.ts';
import { describeLoad, makeReport, renderFindings } from '../../bench/demo/report.ts';
import type { Findings } from '../../bench/demo/report.ts';
import { interpret } from '../../bench/demo/sentence.ts';
import { formatReport, parseReport } from '../../bench/lib/schema.ts';
import { summarize } from '../../bench/lib/stats.ts';
import { makeSchedule } from '../../bench/load/schedule.ts';

const titles: Record<PhaseId, string> = {
  alone: 'serve alone',
  'linux-movable': 'both, Linux, movable cores',
  'linux-all': 'both, Linux, all cores',
  hyperflux: 'both, HyperFlux',
};

/** A phase in which every latency is this long. */
function result(id: PhaseId, us: number, blocks?: number, unfinished = 0): PhaseResult {
  const latencyUs = new Float64Array(us < 0 ? 0 : 1000).fill(us);
  return {
    phase: { id, title: titles[id], cores: [1], batch: id !== 'alone' },
    load: {
      scheduled: latencyUs.length + unfinished,
      released: latencyUs.length + unfinished,
      finished: latencyUs.length,
      unfinished,
      overruns: 0,
      complete: true,
      latencyUs,
      waitUs: latencyUs,
      latenessUs: new Float64Array(1000).fill(0.5),
    },
    blocksPerSecond: blocks === undefined ? undefined : new Float64Array([blocks, blocks]),
    meanBlocksPerSecond: blocks,
    counters: noCounters,
    integrityErrors: 0,
    foreign: 0.01,
    driver: 0.02,
  };
}

const phases = (flux = 500): PhaseResult[] => [
  result('alone', 400),
  result('linux-movable', 4000, 1000),
  result('linux-all', 2000, 2000),
  {
    ...result('hyperflux', flux, 900),
    counters: { moves: 1234, decided: 700, forced: 0, forcedDescheduled: 3 },
  },
];

const findings = (over: Partial<Findings> = {}): Findings => ({
  env: {
    cpu: 'x',
    cores: 2,
    kernel: '6.1',
    kvm: 'kvm_pvm',
    mode: 'unprivileged',
    mitigations: {},
    commit: null,
  },
  how: 'Guests run in KVM (kvm_pvm).',
  arbiterCore: 0,
  movable: [1],
  schedule: makeSchedule({
    seed: 1,
    seconds: 1,
    arrivals: { kind: 'bursty', perSecond: 10_000, onMs: 4, offMs: 16 },
    service: { kind: 'exponential', meanNs: 60_000 },
  }),
  phases: phases(),
  moveLatency: {
    summary: summarize(Float64Array.from({ length: 500 }, (_, i) => 30 + i / 100)),
    source: 'a fake',
  },
  floor: summarize(new Float64Array(300).fill(20)),
  notes: [],
  ...over,
});

describe('the report', () => {
  test('is of the schema that all benchmarks have', () => {
    const report = parseReport(JSON.parse(formatReport(makeReport(findings()))));
    expect(report.bench).toBe('demo');
    const names = report.rows.map((row) => row.name);
    expect(new Set(names).size).toBe(names.length);
    const row = (name: string): (typeof report.rows)[number] => report.rows.find((r) => r.name === name)!;
    expect(row('serve latency, both, HyperFlux')).toMatchObject({
      n: 1000,
      p50: 500,
      p999: 500,
      ratio: 1.25,
    });
    expect(row('batch, both, Linux, all cores')).toMatchObject({ unit: 'blocks/s', p50: 2000 });
    expect(row('moves, both, HyperFlux').p50).toBe(1234);
    expect(row('decision to first guest instruction')).toMatchObject({ n: 500, note: 'a fake' });
    expect(row('decision to first guest instruction').ratio).toBeCloseTo(1.6245);
    expect(names.some((name) => name === 'batch, serve alone')).toBe(false);
    expect(report.env.interpretation).toBe(interpret(phases()));
  });

  test('has goals, met or not', () => {
    expect(makeReport(findings()).goals.map((goal) => goal.ok)).toEqual([true, true, true]);
    const bad = phases();
    bad[3] = {
      ...result('hyperflux', 500, 900, 2),
      counters: { ...noCounters, forced: 1, forcedDescheduled: 3 },
    };
    bad[1].integrityErrors = 1;
    expect(makeReport(findings({ phases: bad })).goals).toMatchObject([
      { value: 1, ok: false },
      { value: 1, ok: false },
      { value: 2, ok: false },
    ]);
  });

  test('says what was not measured', () => {
    const report = makeReport(
      findings({ moveLatency: { summary: undefined, source: 'no moves' }, floor: undefined }),
    );
    const row = report.rows.find((r) => r.name === 'decision to first guest instruction');
    expect(row).toMatchObject({ n: 0, p50: null, note: 'no moves' });
    expect(renderFindings(findings({ moveLatency: { summary: undefined, source: 'no moves' } }))).toContain(
      'not measured',
    );
  });
});

describe('the final table', () => {
  test('has a line for each phase and what the issue asks for', () => {
    const text = renderFindings(findings({ notes: ['A note.'] }));
    for (const title of Object.values(titles)) expect(text).toContain(title);
    for (const word of ['p99.9', 'unfinished', 'blocks/s', 'moves', 'forced', '1,234', 'KVM', 'A note.']) {
      expect(text).toContain(word);
    }
    expect(text.split('\n').every((line) => line.trimEnd() === line)).toBe(true);
    expect(text.trimEnd().endsWith(interpret(phases()))).toBe(true);
  });

  test('describes the load in numbers', () => {
    expect(describeLoad(findings().schedule)).toMatch(
      /^[\d,]+ requests in 1 s: bursts of about 4 ms at 10,000\/s every 20 ms or so, exponential service of 60 us \(60 % of a core in a burst, 12 % in the long run\)$/,
    );
  });
});

describe('the sentence', () => {
  test('compares with every phase', () => {
    expect(interpret(phases())).toBe(
      'Beside batch, the p99 of serve under HyperFlux was 8.0 times lower than under plain Linux on the same cores, ' +
        '4.0 times lower than under plain Linux on all cores and 1.3 times that of serve alone, while batch did 90 % of the ' +
        "blocks that it did under plain Linux on the same cores and 45 % of the blocks that it did on all cores, the arbiter's included.",
    );
  });

  test('does not flatter', () => {
    const worse = interpret(phases(8000));
    expect(worse).toContain('2.0 times higher than under plain Linux on the same cores');
    expect(worse).toContain('20 times that of serve alone');
    expect(interpret(phases(4100))).toContain('about the same as under plain Linux on the same cores');
  });

  test('says when the machine was busy with other things', () => {
    const busy = phases();
    busy[1].foreign = 0.42;
    expect(interpret(busy)).toContain("beside other programs that used up to 42 % of the cores' time,");
  });

  test('makes do with what there is', () => {
    expect(interpret([])).toContain('nothing to compare');
    expect(interpret([result('hyperflux', 5, 10)])).toContain('nothing to compare');
    expect(interpret([result('alone', 4), result('hyperflux', -1)])).toContain('no request was finished');
    expect(interpret([result('alone', 4), result('hyperflux', 8)])).toBe(
      'Beside batch, the p99 of serve under HyperFlux was 2.0 times that of serve alone.',
    );
  });
});

describe('the live line', () => {
  const phase: Phase = { id: 'hyperflux', title: 'both, HyperFlux', cores: [1], batch: true };
  const glance = (over: Partial<Glance>): Glance => ({
    ...{ phase, step: 'measure', elapsedS: 1, seconds: 8, released: 10, finished: 9, moves: 3 },
    blocksPerSecond: 1000,
    ...over,
  });
  const written = (terminal: boolean): { text: () => string; live: ReturnType<typeof makeLive> } => {
    let text = '';
    const write = (more: string): void => {
      text += more;
    };
    return { text: () => text, live: makeLive({ write, isTTY: terminal, columns: 120 }, 4) };
  };

  test('is drawn over itself on a terminal', () => {
    const { text, live } = written(true);
    live.glance(glance({}));
    live.glance(glance({ elapsedS: 2 }));
    live.end();
    expect(text()).not.toContain('\n');
    expect(text()).toContain('[1/4] both, HyperFlux: ##..............');
    expect(text()).toContain('9 of 10 requests answered, batch 1,000 blocks/s, 3 moves');
    expect(text().endsWith('\r\x1b[K')).toBe(true);
  });

  test('is a few plain lines elsewhere', () => {
    const { text, live } = written(false);
    live.glance(glance({ step: 'start', elapsedS: 0 }));
    for (let s = 0.5; s <= 8; s += 0.5) live.glance(glance({ elapsedS: s }));
    live.glance(
      glance({ phase: { ...phase, id: 'alone', title: 'serve alone' }, step: 'start', elapsedS: 0 }),
    );
    live.say('Done.');
    expect(text()).not.toContain('\r');
    expect(text().split('\n')).toEqual([
      '[1/4] both, HyperFlux: starting the VMs',
      '[1/4] both, HyperFlux: 4 s, 9 of 10 requests answered, batch 1,000 blocks/s, 3 moves',
      '[1/4] both, HyperFlux: 8 s, 9 of 10 requests answered, batch 1,000 blocks/s, 3 moves',
      '[2/4] serve alone: starting the VMs',
      'Done.',
      '',
    ]);
  });
});

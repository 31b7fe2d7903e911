import { describe, expect, test } from 'vitest';
import { TapReader } from '../lab-suite/tap.ts';
import { labCommand, parseOptions } from '../lab-suite/options.ts';
import type { Verdict } from '../lab-suite/trace/check.ts';
import { TraceChecker } from '../lab-suite/trace/check.ts';
import { parseLine, Sorter } from '../lab-suite/trace/parse.ts';

/** A run with a grant, a kicked move, a yield to an heir, a lent core, and the lease's end. */
const good = [
  'kflux_core: core=1 owner=0 successor=0 generation=4294967294 why=claim',
  'kflux_lease: domain=1 epoch=1 begins',
  'kflux_state: vcpu=1 from=NEW to=PARKED core=65535',
  'kflux_state: vcpu=2 from=NEW to=PARKED core=65535',
  // A grant.
  'kflux_state: vcpu=1 from=PARKED to=GRANTING core=1',
  'kflux_core: core=1 owner=1 successor=0 generation=4294967295 why=give',
  'kflux_state: vcpu=1 from=GRANTING to=RUNNING core=1',
  'kflux_command: op=GRANT core=1 from=0 to=1 result=0',
  // Its uThread gives way; one more is still waiting when the core is wanted.
  'kflux_preempt: core=1 vcpu=1 switches=4294967295',
  'kflux_command: op=PREEMPT core=1 from=1 to=4294967295 result=0',
  'kflux_preempted: vcpu=1 switches=4294967295 critical=0',
  'kflux_preempt: core=1 vcpu=1 switches=3',
  'kflux_preempt: core=1 vcpu=1 switches=4',
  // A move, kicked and forced.
  'kflux_state: vcpu=2 from=PARKED to=GRANTING core=1',
  'kflux_core: core=1 owner=1 successor=2 generation=0 why=request',
  'kflux_state: vcpu=1 from=RUNNING to=CEDING core=1',
  'kflux_kick: core=1 vcpu=1 park_req=4294967295',
  'kflux_command: op=MOVE core=1 from=1 to=2 result=0',
  'kflux_force: core=1 vcpu=1 park_req=4294967295 host=on',
  'kflux_kick: core=1 vcpu=1 park_req=4294967295',
  'kflux_held: vcpu=1 critical=1',
  'kflux_state: vcpu=1 from=CEDING to=CEDING core=65535',
  'kflux_core: core=1 owner=2 successor=0 generation=1 why=give',
  'kflux_state: vcpu=2 from=GRANTING to=RUNNING core=1',
  'kflux_state: vcpu=1 from=CEDING to=PARKED core=65535',
  // A yield to the heir.
  'kflux_state: vcpu=2 from=RUNNING to=CEDING core=65535',
  'kflux_state: vcpu=1 from=PARKED to=GRANTING core=1',
  'kflux_core: core=1 owner=1 successor=0 generation=2 why=give',
  'kflux_state: vcpu=1 from=GRANTING to=RUNNING core=1',
  'kflux_state: vcpu=2 from=CEDING to=PARKED core=65535',
  // A park of a sleeper: lent, here to nobody.
  'kflux_core: core=1 owner=1 successor=65535 generation=3 why=request',
  'kflux_state: vcpu=1 from=RUNNING to=CEDING core=1',
  'kflux_state: vcpu=1 from=CEDING to=BLOCKED core=65535',
  'kflux_core: core=1 owner=0 successor=0 generation=4 why=idle',
  'kflux_state: vcpu=1 from=BLOCKED to=CEDING core=65535',
  'kflux_state: vcpu=1 from=CEDING to=PARKED core=65535',
  'kflux_command: op=GRANT core=1 from=0 to=9 result=-3',
  // The lease ends, another begins.
  'kflux_lease: domain=1 epoch=1 ends',
  'kflux_core: core=1 owner=0 successor=0 generation=5 why=unclaim',
  'kflux_state: vcpu=1 from=PARKED to=UNMANAGED core=65535',
  'kflux_state: vcpu=2 from=PARKED to=UNMANAGED core=65535',
  'kflux_core: core=1 owner=0 successor=0 generation=6 why=claim',
  'kflux_lease: domain=1 epoch=2 begins',
  'kflux_state: vcpu=1 from=UNMANAGED to=CEDING core=65535',
  'kflux_state: vcpu=1 from=CEDING to=PARKED core=65535',
  'kflux_state: vcpu=1 from=PARKED to=DEAD core=65535',
  'kflux_state: vcpu=2 from=UNMANAGED to=DEAD core=65535',
];

const text = (event: string, at: number): string =>
  `     kflux-test-123     [${String(at % 4).padStart(3, '0')}] d..1. ${at}: ${event}`;

function check(events: readonly string[], end: string | undefined = '# trace ended: 0 lost'): Verdict {
  const checker = new TraceChecker();
  events.forEach((event, i) => expect(checker.line(text(event, 100 + i))).toBe(true));
  if (end !== undefined) checker.line(end);
  return checker.end();
}

const rules = (verdict: Verdict): string[] => [...new Set(verdict.violations.map(({ rule }) => rule))];
const at = (part: string): number => {
  const index = good.findIndex((line) => line.includes(part));
  expect(index).toBeGreaterThanOrEqual(0);
  return index;
};
const without = (part: string): string[] => good.toSpliced(at(part), 1);
const changed = (part: string, to: string): string[] => good.with(at(part), to);
const inserted = (before: string, ...lines: string[]): string[] => good.toSpliced(at(before), 0, ...lines);

describe('a trace of kFlux held against the rules', () => {
  test('a good trace breaks none', () => {
    const verdict = check(good);
    expect(verdict.violations).toEqual([]);
    expect(verdict.events).toBe(good.length);
    expect(verdict.counts).toMatchObject({
      gives: 3,
      requests: 2,
      unclaims: 1,
      preempted: 1,
      done: 3,
      refused: 1,
    });
  });

  test('two owners of a core: one runs where another does', () => {
    const bad = inserted('op=MOVE', 'kflux_state: vcpu=3 from=NEW to=PARKED core=65535');
    bad.splice(bad.length - 2, 0, 'kflux_state: vcpu=3 from=PARKED to=GRANTING core=1');
    bad.splice(bad.length - 2, 0, 'kflux_state: vcpu=3 from=GRANTING to=RUNNING core=1');
    expect(rules(check(bad))).toContain('one owner');
  });

  test('a core that goes on while its owner still runs on it', () => {
    expect(rules(check(without('from=CEDING to=CEDING core=65535')))).toContain('one owner');
  });

  test('one vCPU on two cores', () => {
    const bad = inserted(
      'kflux_state: vcpu=2 from=PARKED to=GRANTING core=1',
      'kflux_core: core=2 owner=1 successor=0 generation=7 why=give',
    );
    expect(rules(check(bad))).toEqual(expect.arrayContaining(['one core', 'claim']));
  });

  test('a generation that is left out, or comes twice', () => {
    const name = 'successor=0 generation=2 why=give';
    expect(
      rules(check(changed(name, 'kflux_core: core=1 owner=1 successor=0 generation=3 why=give'))),
    ).toEqual(['generation']);
    expect(
      rules(check(changed(name, 'kflux_core: core=1 owner=1 successor=0 generation=1 why=give'))),
    ).toEqual(['generation']);
  });

  test('a step that no vCPU may take', () => {
    expect(rules(check(without('vcpu=1 from=NEW to=PARKED')))).toContain('state');
    const bad = changed(
      'vcpu=1 from=PARKED to=GRANTING',
      'kflux_state: vcpu=1 from=PARKED to=RUNNING core=1',
    );
    expect(rules(check(bad))).toContain('edge');
    expect(rules(check([...good, 'kflux_state: vcpu=1 from=DEAD to=PARKED core=65535']))).toEqual(['edge']);
  });

  test('a core that is given to somebody who was not claimed for it', () => {
    expect(rules(check(without('vcpu=2 from=PARKED to=GRANTING')))).toContain('claim');
  });

  test('a successor that is passed over', () => {
    const bad = changed(
      'generation=1 why=give',
      'kflux_core: core=1 owner=0 successor=0 generation=1 why=idle',
    );
    expect(rules(check(bad))).toContain('successor');
  });

  test('a park that nobody asked for', () => {
    expect(rules(check(without('generation=0 why=request')))).toContain('park without request');
  });

  test('a request, a grant or a park that does not end', () => {
    const upTo = (part: string): string[] => good.slice(0, at(part) + 1);
    expect(rules(check(upTo('op=MOVE')))).toEqual(expect.arrayContaining(['request ends', 'GRANTING ends']));
    expect(rules(check(upTo('generation=4 why=idle')))).toEqual([]);
    expect(rules(check(upTo('vcpu=2 from=RUNNING to=CEDING')))).toEqual(
      expect.arrayContaining(['CEDING ends', 'rest']),
    );
  });

  test('kicks and forces without a request, forces that come twice, numbers that go back', () => {
    expect(rules(check(inserted('op=GRANT', 'kflux_kick: core=1 vcpu=1 park_req=4294967294')))).toEqual([
      'kick',
    ]);
    expect(
      rules(check(inserted('op=GRANT', 'kflux_force: core=1 vcpu=1 park_req=4294967294 host=on'))),
    ).toEqual(['force']);
    const twice = inserted('kflux_held', 'kflux_force: core=1 vcpu=1 park_req=4294967295 host=on');
    expect(rules(check(twice))).toEqual(['force']);
    const back = inserted('kflux_held', 'kflux_kick: core=1 vcpu=1 park_req=4294967290');
    expect(rules(check(back))).toEqual(['number']);
  });

  test('a critical guest that was parked without force', () => {
    expect(rules(check(without('kflux_force')))).toEqual(['held']);
    // The thread may be faster than the trace, as long as it has not left.
    const [force, held] = [good[at('kflux_force')], good[at('kflux_held')]];
    const late = good.with(at('kflux_force'), held).with(at('kflux_held'), force);
    expect(check(late).violations).toEqual([]);
  });

  test('a uThread gives way: once, for its own number, in its tenure, and never before a request', () => {
    const seen = 'kflux_preempted: vcpu=1 switches=4 critical=0';
    expect(check(inserted('generation=0 why=request', seen)).violations).toEqual([]);
    expect(rules(check(inserted('generation=0 why=request', seen, seen)))).toEqual(['preempt']);
    expect(rules(check(inserted('generation=0 why=request', seen.replace('=4', '=3'))))).toEqual(['preempt']);
    // The core is wanted.
    expect(rules(check(inserted('op=MOVE', seen)))).toEqual(['preempt']);
    // It has another core, or the same one again.
    expect(rules(check(inserted('generation=3 why=request', seen)))).toEqual(['preempt']);
    expect(rules(check(without('kflux_preempt: core=1 vcpu=1 switches=4294967295')))).toEqual(['preempt']);
  });

  test('nobody is to give way who does not own the core, or is leaving it', () => {
    const order = 'kflux_preempt: core=1 vcpu=1 switches=9';
    expect(rules(check(inserted('op=MOVE', order)))).toEqual(['preempt']);
    expect(rules(check(inserted('generation=2 why=give', order)))).toEqual(['preempt']);
    expect(
      rules(check(inserted('kflux_core: core=1 owner=1 successor=0 generation=4294967295', order))),
    ).toEqual(['preempt']);
  });

  test('leases: two at a time, an epoch that comes twice, a core given after its lease', () => {
    expect(rules(check(without('epoch=1 ends')))).toEqual(['lease']);
    expect(rules(check(changed('epoch=2 begins', 'kflux_lease: domain=1 epoch=1 begins')))).toEqual([
      'lease',
    ]);
    const bad = inserted(
      'epoch=2 begins',
      'kflux_state: vcpu=3 from=NEW to=PARKED core=65535',
      'kflux_state: vcpu=3 from=PARKED to=GRANTING core=1',
      'kflux_core: core=1 owner=3 successor=0 generation=7 why=give',
    );
    expect(rules(check(bad))).toContain('lease');
  });

  test('a slot that is used again begins anew', () => {
    expect(check([...good, 'kflux_state: vcpu=1 from=NEW to=PARKED core=65535']).violations).toEqual([]);
  });

  test('a core that goes offline under its owner', () => {
    const offline = [
      'kflux_state: vcpu=3 from=NEW to=PARKED core=65535',
      'kflux_state: vcpu=3 from=PARKED to=GRANTING core=2',
      'kflux_core: core=2 owner=3 successor=0 generation=1 why=give',
      'kflux_state: vcpu=3 from=GRANTING to=RUNNING core=2',
      'kflux_state: vcpu=3 from=RUNNING to=BLOCKED core=65535',
    ];
    const idle = 'kflux_core: core=2 owner=0 successor=0 generation=2 why=idle';
    expect(check([...good, ...offline, idle]).violations).toEqual([]);
    const given = [
      'kflux_state: vcpu=4 from=NEW to=PARKED core=65535',
      'kflux_state: vcpu=4 from=PARKED to=GRANTING core=2',
      'kflux_core: core=2 owner=4 successor=0 generation=2 why=give',
    ];
    expect(rules(check([...good, ...offline, ...given]))).toContain('park without request');
  });

  test('what is lost, cut off or empty proves nothing', () => {
    expect(rules(check(good, '# trace ended: 3 lost'))).toEqual(['complete']);
    expect(rules(check(good, ''))).toEqual(['complete']);
    expect(rules(check([]))).toEqual(['busy']);
    const checker = new TraceChecker();
    expect(checker.line('CPU:2 [LOST 17 EVENTS]')).toBe(true);
    checker.line('# trace ended: 0 lost');
    expect(rules(checker.end())).toContain('complete');
  });

  test('a tracepoint or a word that is not known is not passed over in silence', () => {
    expect(rules(check(inserted('op=GRANT', 'kflux_new: vcpu=1')))).toEqual(['format']);
    expect(rules(check(inserted('op=GRANT', 'kflux_kick: core=one vcpu=1 park_req=1')))).toContain('format');
  });
});

describe('the text of a trace', () => {
  test('lines of all kernels are read, others are not taken for events', () => {
    const line = '          <idle>-0       [003] dNh2. 123456: kflux_kick: core=1 vcpu=3 park_req=9';
    expect(parseLine(line)).toMatchObject({
      kind: 'event',
      event: { at: 123456, cpu: 3, name: 'kflux_kick', fields: { core: '1', vcpu: '3', park_req: '9' } },
    });
    const grouped =
      '  a b-c: d-77  (   77) [000] ..... 5: kflux_core: core=1 owner=2 successor=0 generation=1 why="successor gone"';
    expect(parseLine(grouped)).toMatchObject({ kind: 'event', event: { fields: { why: 'successor gone' } } });
    for (const other of ['', '# tracer: nop', 'kflux-test: something', 'hyperflux lab: booting'])
      expect(parseLine(other).kind).toBe('other');
  });

  test('events are put into the order of their clock', () => {
    const seen: number[] = [];
    const sorter = new Sorter(({ at: when }) => seen.push(when), 3);
    for (const when of [2, 1, 4, 3, 6, 5, 8, 7])
      sorter.add({ at: when, cpu: 0, name: '', fields: {}, line: '' });
    sorter.end();
    expect(seen).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  });

  test('an event that comes too late for its place is reported', () => {
    const checker = new TraceChecker();
    const line = 'kflux_command: op=GRANT core=1 from=0 to=9 result=-3';
    for (let i = 0; i < 250_000; i++) checker.line(text(line, 1000 + i));
    checker.line(text(line, 5));
    expect(rules(checker.end())).toContain('order');
  });
});

describe('the runner of the suite', () => {
  test('TAP is counted, and a case that never reports is missed', () => {
    const tap = new TapReader();
    for (const line of [
      'TAP version 13',
      '1..4',
      'ok 1 - a',
      'not ok 2 - b',
      'ok 3 - c # SKIP no KVM',
      '# note',
    ])
      tap.line(line);
    expect(tap.tally).toEqual({ planned: 4, passed: 1, failed: 1, skipped: 1 });
    expect(tap.missing).toBe('1 of 4 cases never reported');
    tap.line('ok 4 - d');
    expect(tap.missing).toBeUndefined();
    expect(new TapReader().missing).toContain('no plan');
  });

  test('options: what stands for what, and what is refused', () => {
    expect(parseOptions([])).toMatchObject({ seconds: 60, slow: 1, reloads: 200 });
    expect(parseOptions(['--soak']).seconds).toBe(600);
    expect(parseOptions(['--kernel', 'debug']).slow).toBe(6);
    expect(parseOptions(['--kernel=debug', '--slow=2', '--', '--cpus', '2'])).toMatchObject({
      slow: 2,
      lab: ['--append', 'kmemleak=on', '--cpus', '2'],
    });
    expect(() => parseOptions(['--seconds', 'x'])).toThrow('needs a number');
    expect(() => parseOptions(['--wat'])).toThrow('unknown option');
    expect(() => parseOptions(['--filter'])).toThrow('needs a value');
    const command = labCommand(parseOptions(['--kernel', '6.12', '--filter', 'abi|kvm']));
    expect(command.slice(0, 3)).toEqual(['lab', '--kernel', '6.12']);
    expect(command.slice(-2)).toEqual(['--filter', 'abi|kvm']);
  });
});

/** What the command line prints, and how it reads what it is given. */
import { describe, expect, test } from 'vitest';
import { renderStatus } from '../../arbiter/cli/commands/status.ts';
import { renderVms } from '../../arbiter/cli/commands/ps.ts';
import { exitCodeOf, renderTable, reportError } from '../../arbiter/cli/output.ts';
import { formatCores, parseCores } from '../../arbiter/control/cores.ts';
import { runDirectory } from '../../arbiter/control/paths.ts';
import type { StatusInfo, VmInfo } from '../../arbiter/control/protocol.ts';
import { ControlError } from '../../arbiter/control/protocol.ts';
import { bucketFloor, bucketOf, HISTOGRAM_BUCKETS, summarize } from '../../arbiter/loop/histogram.ts';
import { check } from '../../arbiter/observe/checks.ts';
import { healthy, renderDiagnosis, ways } from '../../arbiter/observe/doctor.ts';
import { choosePool } from '../../arbiter/vm/host.ts';

const web: VmInfo = {
  ...{
    name: 'web',
    class: 'lc',
    state: 'running',
    managed: true,
    backend: 'kvm',
    pid: 10,
    slot: 0,
    vcpus: 2,
  },
  ...{ cores: 1, min_cores: 0, max_cores: 2, wants: 1, delay_us: 12, granted_us: 1234567, used_us: 1200000 },
  ...{ taken_us: 340, forced: 2, forced_descheduled: 1, quantum_us: 1000, preempted: 1234, error: '' },
};

/** A machine without SMT. */
const alone = (core: number): number[] => [core];

describe('ps', () => {
  test('shows cores and core-microseconds', () => {
    expect(
      renderVms([
        web,
        { ...web, name: 'bulk', class: 'be', state: 'dormant', cores: 0, forced: 0, forced_descheduled: 0 },
      ]),
    ).toBe(
      [
        'NAME  CLASS  STATE    CORES    DELAY us  GRANTED core-us  USED core-us  TAKEN core-us  FORCED  PREEMPTED',
        'web   lc     running  1 (0-2)        12        1,234,567     1,200,000            340  2 (1)       1,234',
        'bulk  be     dormant  0 (0-2)        12        1,234,567     1,200,000            340  0           1,234',
      ].join('\n'),
    );
  });

  test('says why a VM is poisoned', () => {
    expect(renderVms([{ ...web, state: 'poisoned', error: 'triple fault at 0x401000' }])).toContain(
      '\nweb: triple fault at 0x401000',
    );
  });

  test('says what to do when there are none', () => {
    expect(renderVms([])).toContain('hyperflux run');
  });
});

describe('status', () => {
  const status: StatusInfo = {
    ...{ version: '0.1.0', abi: '1.0', pid: 5, uptime_s: 60, run_dir: '/run/hyperflux' },
    ...{ bridge: 'affinity', bridge_why: 'kFlux cannot be used: the kernel module kflux is not loaded' },
    policy: { name: 'delay', params: { threshold_us: 10 } },
    pool: { arbiter_core: 0, cores: [1, 2, 3], cpuset: 'none' },
    arbiter: {
      ...{ pid: 6, state: 'live', epoch: 2, restarts: 1, last_fault: 'SIGKILL', warm_up_us: 200_000 },
      deadline_thread: 'SCHED_FIFO 1',
    },
    vms: { managed: 1, all: 2 },
  };

  test('is one screen', () => {
    const text = renderStatus(status);
    for (const part of [
      'process 5',
      'live',
      'epoch 2',
      'cores 1-3',
      'threshold_us 10',
      'last fault: SIGKILL',
      '2, managed 1',
    ]) {
      expect(text).toContain(part);
    }
  });

  test('has no fault to tell when there was none', () => {
    expect(renderStatus({ ...status, arbiter: { ...status.arbiter, last_fault: '' } })).not.toContain(
      'fault',
    );
  });
});

describe('errors', () => {
  test.each([
    ['usage', 2],
    ['request', 2],
    ['not-running', 3],
    ['version', 4],
    ['permission', 5],
    ['pool', 1],
    ['image', 1],
    ['failed', 1],
    ['something-new', 1],
  ])('%s ends with %i', (code, exit) => {
    expect(exitCodeOf({ code, message: '', hint: '' })).toBe(exit);
  });

  test('as text: what was wrong, then what to do', () => {
    let said = '';
    expect(
      reportError(new ControlError('pool', 'too many', 'take less'), false, (text) => void (said = text)),
    ).toBe(1);
    expect(said).toBe('hyperflux: too many\ntake less\n');
  });

  test('as JSON', () => {
    let said = '';
    reportError(new ControlError('pool', 'too many', 'take less'), true, (text) => void (said = text));
    expect(JSON.parse(said)).toEqual({ error: { code: 'pool', message: 'too many', hint: 'take less' } });
  });

  test('a system error keeps its words', () => {
    let said = '';
    const error = Object.assign(new Error('EACCES: permission denied'), { code: 'EACCES' });
    expect(reportError(error, false, (text) => void (said = text))).toBe(5);
    expect(said).toContain('permission denied');
  });
});

test('tables: numbers to the right, text to the left', () => {
  expect(
    renderTable(
      ['A', 'N'],
      [
        ['x', 5],
        ['yy', 1000],
      ],
    ),
  ).toBe('A       N\nx       5\nyy  1,000');
});

describe('cores', () => {
  test.each([
    ['1', [1]],
    ['1-3', [1, 2, 3]],
    ['3,1-2,2', [1, 2, 3]],
    ['0, 5', [0, 5]],
  ])('%s', (text, cores) => expect(parseCores(text)).toEqual(cores));

  test.each(['', 'a', '1-', '-1', '3-1', '1,,2', '1.5', '99999'])('%j is refused', (text) => {
    expect(() => parseCores(text)).toThrow(/for example/);
  });

  test('are written as they are read', () => {
    expect(formatCores([0, 1, 2, 5, 7, 8])).toBe('0-2,5,7-8');
    expect(formatCores([])).toBe('');
  });
});

describe('the pool', () => {
  test("by itself: the lowest core is the arbiter's, the others move", () => {
    expect(choosePool([2, 3, 4], undefined, undefined, alone)).toEqual({ arbiterCore: 2, cores: [3, 4] });
  });

  test("of SMT siblings only the first is managed, and none of the arbiter's", () => {
    const pairs = (core: number): number[] => [core % 4, (core % 4) + 4];
    const all = [0, 1, 2, 3, 4, 5, 6, 7];
    expect(choosePool(all, undefined, undefined, pairs)).toEqual({ arbiterCore: 0, cores: [1, 2, 3] });
    expect(choosePool(all, 5, undefined, pairs)).toEqual({ arbiterCore: 5, cores: [0, 2, 3] });
    expect(choosePool([1, 5, 6], undefined, undefined, pairs)).toEqual({ arbiterCore: 1, cores: [6] });
    // Unless somebody asks for it.
    expect(choosePool(all, 0, [1, 5], pairs)).toEqual({ arbiterCore: 0, cores: [1, 5] });
    expect(() => choosePool([0, 4], undefined, undefined, pairs)).toThrow(/at least two cores/);
  });

  test('with given cores: the lowest other one', () => {
    expect(choosePool([0, 1, 2], undefined, [0, 1])).toEqual({ arbiterCore: 2, cores: [0, 1] });
  });

  test.each([
    [[0], undefined, undefined, 'pool'],
    [[0, 1], 5, undefined, 'usage'],
    [[0, 1], undefined, [7], 'usage'],
    [[0, 1], 1, [1], 'usage'],
    [[0, 1], undefined, [0, 1], 'usage'],
    [[0, 300], undefined, undefined, 'usage'],
  ])('%j, arbiter %j, cores %j: %s', (allowed, arbiter, cores, code) => {
    expect(() => choosePool(allowed, arbiter, cores)).toThrow();
    try {
      choosePool(allowed, arbiter, cores);
    } catch (error) {
      expect(error).toMatchObject({ code, hint: expect.stringMatching(/./) as string });
    }
  });
});

describe('doctor', () => {
  const all = [
    'node',
    'addon',
    'cores',
    'memory',
    'directory',
    'fluxion',
    'image',
    'hosted',
    'kvm',
    'kflux',
    'qemu',
  ];
  const checks = (bad: Record<string, 'warn' | 'fail'>) =>
    all.map((name) => check(name, bad[name] ?? 'ok', name, 'do this'));
  const level = (bad: Record<string, 'warn' | 'fail'>, way: string) =>
    ways(checks(bad)).find(({ name }) => name === way)?.level;

  test('which ways a host offers', () => {
    expect(level({}, 'full')).toBe('ok');
    expect(level({ kflux: 'warn' }, 'full')).toBe('warn');
    expect(level({ kflux: 'warn' }, 'unprivileged')).toBe('ok');
    expect(level({ kvm: 'warn' }, 'unprivileged')).toBe('warn');
    expect(level({ kvm: 'warn' }, 'hosted')).toBe('ok');
    expect(level({ cores: 'fail' }, 'hosted')).toBe('fail');
    expect(level({ cores: 'warn' }, 'hosted')).toBe('ok');
  });

  test('what to do next stands below each thing that is not ok', () => {
    const bad = checks({ kvm: 'warn', cores: 'fail' });
    const text = renderDiagnosis({ ways: ways(bad), checks: bad });
    expect(text).toMatch(/fail {2}cores +cores\n +do this/);
    expect(healthy({ ways: ways(bad), checks: bad })).toBe(false);
  });
});

describe('histogram', () => {
  test('a bucket holds its values with an error of 1/32 at most', () => {
    for (let value = 0; value < 2 ** 30; value = value * 1.01 + 1) {
      const v = Math.floor(value);
      const bucket = bucketOf(v);
      expect(bucket).toBeLessThan(HISTOGRAM_BUCKETS);
      expect(bucketFloor(bucket)).toBeLessThanOrEqual(v);
      expect(bucketFloor(bucket + 1)).toBeGreaterThan(v);
      expect(bucketFloor(bucket + 1) - bucketFloor(bucket)).toBeLessThanOrEqual(Math.max(1, v / 31));
    }
    expect(bucketOf(0x7fffffff)).toBe(HISTOGRAM_BUCKETS - 1);
    expect(bucketOf(-5)).toBe(0);
  });

  test('percentiles never flatter', () => {
    const counts = new Int32Array(HISTOGRAM_BUCKETS);
    for (let value = 1; value <= 1000; value++) counts[bucketOf(value)]++;
    const { n, p50, p99, max } = summarize(counts);
    expect(n).toBe(1000);
    expect(p50).toBeGreaterThanOrEqual(500);
    expect(p50).toBeLessThan(520);
    expect(p99).toBeGreaterThanOrEqual(990);
    expect(max).toBeGreaterThanOrEqual(1000);
    expect(summarize(new Int32Array(HISTOGRAM_BUCKETS))).toMatchObject({ n: 0, p50: 0, max: 0 });
  });
});

test('the run directory', () => {
  expect(runDirectory({ HYPERFLUX_RUN: '/x' })).toBe('/x');
  const uid = process.getuid?.();
  expect(runDirectory({ XDG_RUNTIME_DIR: '/run/user/1' })).toBe(
    uid === 0 ? '/run/hyperflux' : '/run/user/1/hyperflux',
  );
});

import { describe, expect, test } from 'vitest';
import { countCargo, countTap, countVitest, totalLine, withCrash } from '../lib/counts.mjs';

describe('countCargo', () => {
  test('adds up the lines of all test programs, coloured or not', () => {
    const output = [
      'running 3 tests',
      'test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s',
      'test result: \x1b[31mFAILED\x1b(B\x1b[m. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out',
      'test result: \x1b[32mok\x1b[m. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out',
    ].join('\n');
    expect(countCargo(output)).toEqual({ passed: 7, failed: 2, skipped: 1 });
  });

  test('counts nothing where a test prints something similar', () => {
    expect(countCargo('note: test result: ok. 9 passed; 0 failed; 0 ignored')).toEqual({
      passed: 0,
      failed: 0,
      skipped: 0,
    });
  });
});

test('countTap counts ok, not ok and what was skipped, and no plan, note or prose', () => {
  const output = [
    '1..3',
    'ok 1 - a',
    'not ok 2 - b',
    '#   ok 9 - c',
    'ok 3 - d # SKIP no KVM',
    'okay',
    ' ok',
  ].join('\n');
  expect(countTap(output)).toEqual({ passed: 1, failed: 1, skipped: 1 });
});

test('countVitest counts pending and todo as skipped', () => {
  const report = { numPassedTests: 5, numFailedTests: 1, numPendingTests: 2, numTodoTests: 3 };
  expect(countVitest(JSON.stringify(report))).toEqual({ passed: 5, failed: 1, skipped: 5 });
});

test('a crash counts once, and only where no failure was counted', () => {
  expect(withCrash({ passed: 3, failed: 0, skipped: 0 }, false).failed).toBe(1);
  expect(withCrash({ passed: 3, failed: 2, skipped: 0 }, false).failed).toBe(2);
  expect(withCrash({ passed: 3, failed: 0, skipped: 0 }, true).failed).toBe(0);
});

test('the total names skipped tests only where there are any', () => {
  expect(totalLine({ passed: 3, failed: 0, skipped: 0 })).toBe('3 passed, 0 failed');
  expect(totalLine({ passed: 3, failed: 1, skipped: 2 })).toBe('3 passed, 1 failed, 2 skipped');
});

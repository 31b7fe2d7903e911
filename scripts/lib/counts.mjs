// @ts-check
// How many tests a suite ran, read from what the suite itself reports.

/** @typedef {{ passed: number, failed: number, skipped: number }} Counts */

/** @returns {Counts} */
export const noCounts = () => ({ passed: 0, failed: 0, skipped: 0 });

/** @param {Counts} total
 * @param {Counts} more */
export function add(total, more) {
  total.passed += more.passed;
  total.failed += more.failed;
  total.skipped += more.skipped;
}

/** The line that the whole run ends with.
 * @param {Counts} counts */
export function totalLine({ passed, failed, skipped }) {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`;
}

// eslint-disable-next-line no-control-regex -- cargo colours its words on a terminal
const colour = /\x1b(?:\[[0-9;]*m|\(B)/g;
const cargoResult = /^test result: (?:ok|FAILED)\. (\d+) passed; (\d+) failed; (\d+) ignored/gm;

/** Adds up cargo's `test result:` lines: one for each test program, and one for the examples in comments.
 * @param {string} output
 * @returns {Counts} */
export function countCargo(output) {
  const total = noCounts();
  for (const [, passed, failed, skipped] of output.replace(colour, '').matchAll(cargoResult)) {
    add(total, { passed: Number(passed), failed: Number(failed), skipped: Number(skipped) });
  }
  return total;
}

/** Counts the lines of a TAP stream.
 * @param {string} output
 * @returns {Counts} */
export function countTap(output) {
  const total = noCounts();
  for (const [, result, rest] of output.replace(colour, '').matchAll(/^(ok|not ok)\b(.*)$/gm)) {
    if (result === 'not ok') total.failed++;
    else if (/# SKIP\b/.test(rest)) total.skipped++;
    else total.passed++;
  }
  return total;
}

/** @param {string} json the text that vitest's JSON reporter wrote
 * @returns {Counts} */
export function countVitest(json) {
  const report = JSON.parse(json);
  return {
    passed: report.numPassedTests ?? 0,
    failed: report.numFailedTests ?? 0,
    skipped: (report.numPendingTests ?? 0) + (report.numTodoTests ?? 0),
  };
}

/** A suite that ended badly without counting a failure (a crash, a compile error, a file that did not load)
 * counts as one.
 * @param {Counts} counts
 * @param {boolean} endedWell
 * @returns {Counts} */
export function withCrash(counts, endedWell) {
  return endedWell || counts.failed > 0 ? counts : { ...counts, failed: 1 };
}

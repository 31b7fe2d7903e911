/** What a TAP stream says: enough of it to count, and to see that none is missing. */

export interface Tally {
  planned?: number;
  passed: number;
  failed: number;
  skipped: number;
}

export class TapReader {
  readonly tally: Tally = { passed: 0, failed: 0, skipped: 0 };

  line(text: string): void {
    const plan = /^1\.\.(\d+)$/.exec(text);
    if (plan) this.tally.planned = Number(plan[1]);
    const test = /^(ok|not ok)\b(.*)$/.exec(text);
    if (!test) return;
    if (test[1] === 'not ok') this.tally.failed++;
    else if (/# SKIP\b/.test(test[2])) this.tally.skipped++;
    else this.tally.passed++;
  }

  /** Undefined if every planned test has reported. */
  get missing(): string | undefined {
    const { planned, passed, failed, skipped } = this.tally;
    const seen = passed + failed + skipped;
    if (planned === undefined) return 'there was no plan: the suite did not start';
    return seen === planned ? undefined : `${planned - seen} of ${planned} cases never reported`;
  }
}

/** Says what is being done once it takes longer than a moment. Everything goes to stderr: stdout is the guest's. */

const SHOW_AFTER_MS = 700;
const live = Boolean(process.stderr.isTTY) && !process.env.CI;

export const say = (text: string): void => void process.stderr.write(`lab: ${text}\n`);

export const elapsed = (since: number): string => `${((Date.now() - since) / 1000).toFixed(1)} s`;

/** Runs the work; if it is not done at once, says so, shows the time that passes, and says how long it took. */
export async function step<T>(label: string, work: () => T | Promise<T>): Promise<T> {
  const started = Date.now();
  let shown = false;
  const show = (): void => {
    if (live) process.stderr.write(`\r\x1b[Klab: ${label} (${elapsed(started)})`);
    else if (!shown) say(`${label} ...`);
    else say(`${label}: still at it after ${elapsed(started)}`);
    shown = true;
  };
  let timer = setTimeout(function again() {
    show();
    timer = setTimeout(again, live ? 200 : 15_000);
  }, SHOW_AFTER_MS);
  let result = 'failed';
  try {
    const value = await work();
    result = 'done';
    return value;
  } finally {
    clearTimeout(timer);
    if (live && shown) process.stderr.write('\r\x1b[K');
    if (shown) say(`${label}: ${result} in ${elapsed(started)}`);
  }
}

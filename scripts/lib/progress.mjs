// @ts-check
// Says what is being done. On a terminal one line that lives, elsewhere plain lines. All of it goes to stderr:
// stdout belongs to the program that runs afterwards, which may be writing JSON.
const live = Boolean(process.stderr.isTTY) && !process.env.CI;
const frames = ['-', '\\', '|', '/'];

/** @param {number} since */
export const seconds = (since) => `${((Date.now() - since) / 1000).toFixed(1)} s`;

/** @param {string} text */
export const say = (text) => process.stderr.write(`${text}\n`);

/** Shows that something is going on until it is ended.
 * @param {string} label
 * @returns {{ detail(line: string): void, end(result: string): void }} */
export function startProgress(label) {
  const started = Date.now();
  let latest = '';
  let frame = 0;
  if (!live) say(`${label} ...`);

  const draw = () => {
    const text = `${frames[frame++ % frames.length]} ${label} (${seconds(started)}) ${latest}`;
    process.stderr.write(`\r\x1b[K${text.slice(0, (process.stderr.columns || 80) - 1)}`);
  };
  const timer = live
    ? setInterval(draw, 120)
    : setInterval(
        () => say(`${label}: still at it after ${seconds(started)}${latest && `: ${latest}`}`),
        15_000,
      );

  return {
    detail: (line) => (latest = line.trim()),
    end: (result) => {
      clearInterval(timer);
      say(`${live ? '\r\x1b[K' : ''}${label}: ${result} in ${seconds(started)}`);
    },
  };
}

/**
 * Says how far a benchmark is: on a terminal one line that lives, elsewhere a plain
 * line at each tenth. All of it goes to stderr, since stdout may be JSON. It draws
 * when it is told something and has no timer, which would wake up in what is
 * measured.
 */
export interface ProgressStream {
  write(text: string): unknown;
  isTTY?: boolean;
  columns?: number;
}

export interface Progress {
  /** A new part of the benchmark; its steps count from 0. */
  stage(name: string): void;
  step(done: number, total: number, detail?: string): void;
  /** Ends the live line, so that something else can be printed. */
  end(): void;
}

const REDRAW_MS = 100;

export function makeProgress(
  stream: ProgressStream = process.stderr,
  now: () => number = Date.now,
): Progress {
  const live = Boolean(stream.isTTY);
  let label = '';
  let drawn = false;
  let last = -Infinity;
  let tenth = 0;

  function draw(text: string): void {
    stream.write(`\r\x1b[K${text.slice(0, (stream.columns ?? 80) - 1)}`);
    drawn = true;
  }

  return {
    stage(name): void {
      label = name;
      tenth = 0;
      last = -Infinity;
      if (live) draw(name);
      else stream.write(`${name} ...\n`);
    },
    step(done, total, detail = ''): void {
      const share = total > 0 ? Math.min(done / total, 1) : 1;
      if (live) {
        if (now() - last < REDRAW_MS && done < total) return;
        last = now();
        draw(`${label} ${String(Math.floor(share * 100)).padStart(3)} % ${detail}`.trimEnd());
        return;
      }
      // The end needs no line: what comes next says it.
      const reached = Math.floor(share * 10);
      if (reached <= tenth || reached >= 10) return;
      tenth = reached;
      stream.write(`${label}: ${reached * 10} %\n`);
    },
    end(): void {
      if (drawn) stream.write('\r\x1b[K');
      drawn = false;
    },
  };
}

/** For those who asked for quiet. */
export const silent: Progress = { stage() {}, step() {}, end() {} };

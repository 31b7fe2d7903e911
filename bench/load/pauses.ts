/**
 * When to look at a running load: in the pauses between its bursts, where a look that
 * takes the arbiter's core for a moment delays no request. Guests and policy cannot
 * see an arrival before it is due; whoever watches may know the schedule.
 */
import type { Schedule } from './schedule.ts';

/** A gap between two arrivals that is shorter than this is no pause. */
const PAUSE_MIN_MS = 8;
/** What share of a pause to let pass: the burst's last requests are answered first, and the next burst is far enough. */
const INTO = 0.4;

/**
 * Milliseconds after the start, ascending, the schedule's end last. In each pause one;
 * where there is no pause for longer than `everyMs`, at these intervals.
 */
export function lookTimes({ dueNs, spec }: Schedule, everyMs: number): number[] {
  const end = spec.seconds * 1000;
  const times: number[] = [];
  let last = 0;
  const add = (time: number): void => {
    while (time - last > everyMs * 1.5) times.push((last += everyMs));
    times.push((last = time));
  };
  let before = 0;
  for (const due of dueNs) {
    const at = due / 1e6;
    if (at - before >= PAUSE_MIN_MS) add(before + (at - before) * INTO);
    before = at;
  }
  add(end);
  return times;
}

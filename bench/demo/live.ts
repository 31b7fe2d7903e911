/**
 * The line that lives while the demo runs: on a terminal one line, drawn anew at
 * each look; elsewhere a line at each step and a few while a phase measures. All of
 * it goes to stderr. There is no timer: it is drawn when a look has been made, because
 * every wake-up is time taken from the arbiter's core.
 */
import type { ProgressStream } from '../lib/progress.ts';
import { figure } from '../lib/table.ts';
import type { Glance } from './phases.ts';

/** Without a terminal: seconds between two lines. */
const PLAIN_EVERY_S = 4;
const BAR = 16;

export interface Live {
  readonly glance: (glance: Glance) => void;
  /** A sentence that stays. */
  say(text: string): void;
  /** Clears the line, so that something else can be printed. */
  end(): void;
}

const steps: Readonly<Record<Glance['step'], string>> = {
  start: 'starting the VMs',
  'warm up': 'warming up',
  measure: 'measuring',
  drain: 'waiting for the last requests',
  stop: 'stopping the VMs',
};

function figures({ released, finished, blocksPerSecond, moves, phase }: Glance): string {
  const parts = [`${figure(finished)} of ${figure(released)} requests answered`];
  if (blocksPerSecond !== undefined) parts.push(`batch ${figure(Math.round(blocksPerSecond))} blocks/s`);
  if (phase.id === 'hyperflux') parts.push(`${figure(moves)} moves`);
  return parts.join(', ');
}

function bar(share: number): string {
  const full = Math.round(Math.min(Math.max(share, 0), 1) * BAR);
  return '#'.repeat(full) + '.'.repeat(BAR - full);
}

export function makeLive(stream: ProgressStream, phases: number): Live {
  const terminal = Boolean(stream.isTTY);
  let drawn = false;
  let number = 0;
  let phase = '';
  let saidAt = 0;

  function head(glance: Glance): string {
    if (glance.phase.id !== phase) {
      phase = glance.phase.id;
      number++;
      saidAt = 0;
    }
    return `[${number}/${phases}] ${glance.phase.title}: `;
  }

  function draw(glance: Glance): void {
    const title = head(glance);
    const running = glance.step === 'measure';
    const text = running
      ? `${title}${bar(glance.elapsedS / glance.seconds)} ${figures(glance)}`
      : `${title}${steps[glance.step]}`;
    stream.write(`\r\x1b[K${text.slice(0, (stream.columns ?? 80) - 1)}`);
    drawn = true;
  }

  function print(glance: Glance): void {
    const title = head(glance);
    if (glance.step === 'start') {
      stream.write(`${title}${steps.start}\n`);
    } else if (glance.step === 'measure' && glance.elapsedS - saidAt >= PLAIN_EVERY_S) {
      saidAt = glance.elapsedS;
      stream.write(`${title}${glance.elapsedS.toFixed(0)} s, ${figures(glance)}\n`);
    }
  }

  function end(): void {
    if (drawn) stream.write('\r\x1b[K');
    drawn = false;
  }

  return {
    glance: terminal ? draw : print,
    say(text): void {
      end();
      stream.write(`${text}\n`);
    },
    end,
  };
}

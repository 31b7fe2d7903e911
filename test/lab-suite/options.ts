/** What the runner is asked for. */
export interface SuiteOptions {
  kernel?: string;
  seconds: number;
  slow: number;
  reloads: number;
  filter?: string;
  seed?: string;
  /** Keeps the trace here; else it is checked as it comes and thrown away. */
  keepTrace?: string;
  dmesg?: string;
  timeout: number;
  /** More words for hyperflux lab. */
  lab: string[];
}

export const usage = `node test/lab-suite/kflux.ts [OPTIONS] [-- OPTIONS OF hyperflux lab]
Runs kFlux's test suite in the lab, and holds the kernel's trace of the stress against the protocol's rules.
  --soak           ten minutes of stress instead of one
  --kernel NAME    a kernel of the lab; "debug" has everything take six times as long
  --seconds N      of stress            --reloads N    of insmod and rmmod
  --filter TEXT    only cases whose name contains this, or one of A|B|C
  --seed N         of all that is random; every run says its own
  --slow N         factor of every limit
  --trace FILE     keep the trace       --dmesg FILE   keep the kernel's log`;

const DEBUG_IS_SLOWER = 6;

export class UsageError extends Error {}

export function parseOptions(args: readonly string[]): SuiteOptions {
  const end = args.indexOf('--');
  const own = end < 0 ? args : args.slice(0, end);
  const words = new Map<string, string>();
  let soak = false;
  for (let i = 0; i < own.length; i++) {
    const [name, inline] = own[i].split('=', 2);
    if (name === '--soak') soak = true;
    else if (/^--(kernel|seconds|reloads|filter|seed|slow|trace|dmesg)$/.test(name)) {
      const value = inline ?? own[++i];
      if (value === undefined) throw new UsageError(`${name} needs a value`);
      words.set(name.slice(2), value);
    } else throw new UsageError(`unknown option ${own[i]}`);
  }
  const debug = words.get('kernel') === 'debug';
  const number = (name: string, otherwise: number): number => {
    const text = words.get(name);
    if (text === undefined) return otherwise;
    if (!/^\d+$/.test(text)) throw new UsageError(`--${name} needs a number, not '${text}'`);
    return Number(text);
  };
  const slow = Math.max(1, number('slow', debug ? DEBUG_IS_SLOWER : 1));
  const seconds = number('seconds', soak ? 600 : 60);
  return {
    kernel: words.get('kernel'),
    seconds,
    slow,
    reloads: number('reloads', debug ? 50 : 200),
    filter: words.get('filter'),
    seed: words.get('seed'),
    keepTrace: words.get('trace'),
    dmesg: words.get('dmesg'),
    // The stress, a quarter of it for the fuzzer, and all the cases that take no given time.
    timeout: Math.ceil(seconds * 1.5) + 900 * slow,
    lab: [
      // It has a detector of leaks, which is off until it is asked for.
      ...(debug ? ['--append', 'kmemleak=on'] : []),
      ...(end < 0 ? [] : args.slice(end + 1)),
    ],
  };
}

/** The words of the lab's command line. */
export function labCommand(options: SuiteOptions): string[] {
  const test = [
    ...['--seconds', String(options.seconds), '--slow', String(options.slow)],
    ...['--reloads', String(options.reloads), '--trace', 'fd:2'],
    ...(options.filter === undefined ? [] : ['--filter', options.filter]),
    ...(options.seed === undefined ? [] : ['--seed', options.seed]),
  ];
  return [
    'lab',
    ...(options.kernel === undefined ? [] : ['--kernel', options.kernel]),
    // The suite loads the module itself, with numbers that are about to wrap.
    ...['--no-load', '--timeout', String(options.timeout)],
    ...(options.dmesg === undefined ? [] : ['--dmesg', options.dmesg]),
    ...options.lab,
    ...['--exec', '--', 'sh', '-c'],
    'exec kmod/test/build/kflux-test --module "/lib/modules/$(uname -r)/extra/kflux.ko" "$@"',
    'kflux-test',
    ...test,
  ];
}

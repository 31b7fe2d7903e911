import { existsSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { setFlagsFromString } from 'node:v8';
import type { Command } from 'commander';
import { LOOP_FLAGS } from '../../process/flags.ts';
import { integer, subcommand } from '../common.ts';
import { usage } from '../output.ts';

interface BenchOptions {
  json?: boolean;
  quick?: boolean;
  out?: string;
  moves?: number;
  rounds?: number;
  row?: string;
}

const folder = fileURLToPath(new URL('../../../bench/', import.meta.url));

/** A benchmark is a folder with a main.ts. */
export function benchNames(): string[] {
  return readdirSync(folder).filter((name) => existsSync(`${folder}${name}/main.ts`));
}

const after = (): string => `
Benchmarks: ${benchNames().join(', ') || 'none'}.
  realloc   how long a core takes from one busy VM to another, against the strongest alternatives
  park      how long a guest takes to be parked, by what it is doing, and what becomes of its queues
  loop      the arbiter's turn against the same loop in C
  sim       the simulator: how fast it is, and its prediction of a real run on this machine
  uthreads  what FluxOS's threads cost, against pthreads, Go and tokio

Examples:
  $ hyperflux bench realloc
  $ hyperflux bench loop --quick --json
  $ hyperflux bench uthreads --row spawn,fan`;

export function addBench(program: Command): void {
  const command = subcommand('bench', 'measure')
    .argument('<name>', 'which benchmark')
    .option('--quick', 'a tenth of the samples: to see that it works, not to quote')
    .option('--out <file>', 'write the JSON to a file as well')
    .option('--moves <n>', 'samples a row, where the benchmark has moves', integer(1, 10_000_000))
    .option('--rounds <n>', 'rounds, where the benchmark has rounds', integer(1, 10_000_000))
    .option('--row <names>', 'only these rows, where the benchmark has names for them: spawn,yield')
    .addHelpText('after', after)
    .action(async (name: string, options: BenchOptions) => {
      if (!benchNames().includes(name))
        throw usage(`there is no benchmark ${name}`, `There are ${benchNames().join(', ')}.`);
      // The loop is measured as the arbiter runs it.
      if (name === 'loop') LOOP_FLAGS.forEach((flag) => setFlagsFromString(flag));
      const module = (await import(new URL(`../../../bench/${name}/main.ts`, import.meta.url).href)) as {
        bench(options: BenchOptions): Promise<number>;
      };
      process.exitCode = await module.bench(options);
    });
  program.addCommand(command);
}

import { writeFileSync } from 'node:fs';
import type { Command } from 'commander';
import { makeProgress, silent } from '../../../bench/lib/progress.ts';
import { ControlError } from '../../control/protocol.ts';
import { collect, integer, subcommand } from '../common.ts';
import { print, printJson, usage } from '../output.ts';

interface SimOptions {
  json?: boolean;
  policy: string[];
  html?: string;
  seed?: number;
  quiet?: boolean;
}

const after = `
A scenario is a TOML or JSON file: a host's cores, its VMs and their load (docs/simulator.md). Without one, a small
host is simulated. Every policy gets the same requests. The loop, the guard and the policy are the code that the
arbiter runs; hosts, guests and time are modelled, and the times of moves are those that bench realloc measured.

A policy's parameters are given behind a colon: delay:threshold_us=50,tenure_us=0

Examples:
  $ hyperflux policy sim
  $ hyperflux policy sim host.toml --policy delay --policy delay:threshold_us=100 --html compare.html
  $ hyperflux policy sim host.toml --json | jq '.results[].groups[0].latency_us'`;

export function addPolicySim(policy: Command): void {
  const command = subcommand('sim', 'what policies would do on a host, in virtual time')
    .argument('[scenario]', 'a TOML or JSON file')
    .option('--policy <name>', 'which policy; may be given several times', collect, [])
    .option('--html <file>', 'write a page with plots; overwritten if it is there')
    .option('--seed <n>', "instead of the scenario's", integer(-(2 ** 31), 2 ** 31 - 1))
    .option('--quiet', 'say nothing on stderr')
    .addHelpText('after', after)
    .action(sim);
  policy.addCommand(command);
}

async function sim(file: string | undefined, options: SimOptions): Promise<void> {
  // Only now, so that the other commands need none of it.
  const { readScenario } = await import('../../sim/scenario.ts');
  const { EXAMPLE } = await import('../../sim/example.ts');
  const { choosePolicy } = await import('../../sim/choose.ts');
  const { loadMachine, readLoads, simulate } = await import('../../sim/run.ts');
  const { renderResults, resultsJson } = await import('../../sim/report.ts');
  const read = file === undefined ? EXAMPLE : await readScenario(file);
  const scenario = options.seed === undefined ? read : { ...read, seed: options.seed };
  const chosen = (options.policy.length > 0 ? options.policy : ['delay']).map(choosePolicy);
  const twice = chosen.find(({ label }, i) => chosen.findIndex((other) => other.label === label) !== i);
  if (twice !== undefined) throw usage(`--policy ${twice.label} is there twice`);
  const machine = loadMachine(scenario);
  const progress = options.quiet ? silent : patient();
  let results;
  try {
    progress.stage('reading the load');
    const loads = readLoads(scenario, (share, what) => progress.step(share, 1, what));
    results = chosen.map((one) => {
      progress.stage(`simulating ${one.label}`);
      return simulate(scenario, one, loads, machine, (share) => progress.step(share, 1));
    });
  } finally {
    progress.end();
  }
  if (options.html !== undefined) {
    const { page } = await import('../../sim/html.ts');
    try {
      writeFileSync(options.html, page(scenario, results));
    } catch (cause) {
      throw new ControlError('failed', `cannot write ${options.html}: ${(cause as Error).message}`);
    }
  }
  if (options.json) printJson(resultsJson(scenario, results));
  else {
    print(renderResults(scenario, results));
    if (options.html !== undefined) print(`\n${options.html}: open it in a browser`);
  }
}

/** What is over within a second needs no progress. */
function patient(): ReturnType<typeof makeProgress> {
  const inner = makeProgress();
  const began = performance.now();
  let stage: string | undefined;
  return {
    stage(name): void {
      stage = name;
    },
    step(done, total, detail): void {
      if (performance.now() - began < 1000) return;
      if (stage !== undefined) inner.stage(stage);
      stage = undefined;
      inner.step(done, total, detail);
    },
    end: () => inner.end(),
  };
}

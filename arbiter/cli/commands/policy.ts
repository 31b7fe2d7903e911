import type { Command } from 'commander';
import { Command as MakeCommand } from 'commander';
import { paramsOf } from '../../policy/define.ts';
import { builtinPolicies } from '../../policy/registry.ts';
import { subcommand } from '../common.ts';
import { print, printJson } from '../output.ts';
import { addPolicyReplay } from './policy-replay.ts';
import { addPolicySim } from './policy-sim.ts';

const after = `
A policy decides which VM has which core. hyperflux start --policy NAME takes one, --policy-params sets its parameters.

Examples:
  $ hyperflux policy list
  $ hyperflux policy list --json | jq '.policies[].name'
  $ hyperflux start --policy fair-share --policy-params slice_us=500
  $ hyperflux policy sim --policy delay --policy fair-share`;

export function addPolicy(program: Command): void {
  const command = new MakeCommand('policy')
    .description('the policies: who decides which VM has which core')
    .addHelpText('after', after)
    .showSuggestionAfterError()
    .exitOverride()
    .configureOutput({ writeErr: () => {} });
  command.addCommand(list());
  addPolicySim(command);
  addPolicyReplay(command);
  program.addCommand(command);
}

function list(): Command {
  return subcommand('list', 'show the policies that come with HyperFlux, and their parameters').action(
    (options: { json?: boolean }) => {
      if (options.json === true) printJson({ schema: 1, policies: describePolicies() });
      else print(renderPolicies());
    },
  );
}

export const describePolicies = (): object[] =>
  builtinPolicies.map((policy) => ({
    ...{
      name: policy.name,
      version: policy.version,
      summary: policy.summary,
      plans: policy.plan !== undefined,
    },
    params: paramsOf(policy),
  }));

export function renderPolicies(): string {
  const blocks = builtinPolicies.map((policy) => {
    const params = paramsOf(policy);
    const width = Math.max(0, ...params.map(({ name }) => name.length));
    const lines = params.map(
      ({ name, default: value, text }) => `    ${name.padEnd(width)}  ${String(value).padStart(6)}  ${text}`,
    );
    // Its parameters come from a file, and are as many as the file has classes.
    if (policy.name === 'classes')
      lines.push('    rules=FILE  the classes: docs/policies.md describes the file');
    return [`${policy.name} ${policy.version}: ${policy.summary}`, ...lines].join('\n');
  });
  return blocks.join('\n\n');
}

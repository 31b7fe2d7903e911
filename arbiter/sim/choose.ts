/** Policies as the command line names them: `delay`, or `delay:threshold_us=50,tenure_us=0`. */
import { z } from 'zod';
import { ControlError } from '../control/protocol.ts';
import { findPolicy, policyNames } from '../policy/registry.ts';
import type { Chosen } from './run.ts';

export function choosePolicy(text: string): Chosen {
  const [name, ...rest] = text.split(':');
  const policy = findPolicy(name);
  if (policy === undefined)
    throw new ControlError('usage', `there is no policy ${name}`, `There are ${policyNames().join(', ')}.`);
  const given: Record<string, number> = {};
  for (const pair of rest
    .join(':')
    .split(',')
    .filter((part) => part !== '')) {
    const [key, value, more] = pair.split('=');
    const parsed = Number(value);
    if (value === undefined || value.trim() === '' || more !== undefined || !Number.isFinite(parsed))
      throw new ControlError(
        'usage',
        `${pair}, in --policy ${text}, is not KEY=NUMBER`,
        'As in --policy delay:threshold_us=50,tenure_us=0',
      );
    given[key] = parsed;
  }
  const params = policy.params.safeParse(given);
  if (!params.success)
    throw new ControlError(
      'usage',
      `--policy ${text}: ${z.prettifyError(params.error).replaceAll('\n', ' ')}`,
    );
  return { label: text, policy, params: params.data };
}

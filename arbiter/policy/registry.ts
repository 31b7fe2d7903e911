/** The policies that come with HyperFlux. */
import type { Policy } from './api.ts';
import { delay } from './builtin/delay.ts';

const builtin: readonly Policy[] = [delay];

export const policyNames = (): string[] => builtin.map((policy) => policy.name);

export function findPolicy(name: string): Policy | undefined {
  return builtin.find((policy) => policy.name === name);
}

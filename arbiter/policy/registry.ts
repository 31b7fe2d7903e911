/** The policies that come with HyperFlux. */
import type { Policy } from './api.ts';
import { chaos } from './builtin/chaos.ts';
import { classes } from './builtin/classes.ts';
import { delay } from './builtin/delay.ts';
import { fairShare } from './builtin/fair-share.ts';
import { iasLite } from './builtin/ias-lite.ts';
import { proactive } from './builtin/proactive.ts';
import { slo } from './builtin/slo.ts';
import { fixed } from './builtin/static.ts';
import { utilization } from './builtin/utilization.ts';

export const builtinPolicies: readonly Policy[] = [
  delay,
  fixed,
  fairShare,
  slo,
  proactive,
  utilization,
  iasLite,
  classes,
  chaos,
];

export const policyNames = (): string[] => builtinPolicies.map((policy) => policy.name);

export function findPolicy(name: string): Policy | undefined {
  return builtinPolicies.find((policy) => policy.name === name);
}

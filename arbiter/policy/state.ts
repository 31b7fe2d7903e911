/**
 * State that outlives a policy: its next life, or another version of it, goes on
 * from it. It is a copy, of numbers only, and carries who wrote it and in which
 * form, so that nobody takes up what means something else.
 */
import type { Decider, Policy, PolicyState } from './api.ts';

export interface SavedState {
  readonly policy: string;
  readonly version: number;
  readonly state: PolicyState;
}

/** Undefined: it has nothing to hand on. */
export function saveState(policy: Policy, decider: Decider): SavedState | undefined {
  const state = decider.save?.();
  if (state === undefined) return undefined;
  const bad = Object.entries(state).find(([, value]) => typeof value !== 'number' || !Number.isFinite(value));
  if (bad !== undefined)
    throw new TypeError(`the state of ${policy.name} has ${String(bad[1])} at ${bad[0]}, which is no number`);
  return {
    policy: policy.name,
    version: policy.stateVersion ?? 1,
    state: state instanceof Int32Array ? state.slice() : { ...state },
  };
}

/** Says why the policy begins anew instead; undefined: it goes on. */
export function restoreState(policy: Policy, decider: Decider, saved: SavedState): string | undefined {
  if (saved.policy !== policy.name) return `the state is of ${saved.policy}`;
  if (decider.restore === undefined) return `${policy.name} takes no state`;
  const version = policy.stateVersion ?? 1;
  // An older form may be understood; what a later version wrote cannot be.
  if (saved.version > version)
    return `the state has form ${saved.version}, and ${policy.name} ${policy.version} knows ${version}`;
  try {
    decider.restore(saved.state, saved.version);
  } catch (error) {
    return `${policy.name} cannot use the state: ${(error as Error).message}`;
  }
  return undefined;
}

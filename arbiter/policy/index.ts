/** Everything that a policy is written with: import from here. docs/policies.md explains it. */
export { z } from 'zod';
export * from './api.ts';
export * from './define.ts';
export * from './kit/claims.ts';
export * from './kit/equals.ts';
export * from './kit/heirs.ts';
export * from './plan.ts';
export * from './reasons.ts';

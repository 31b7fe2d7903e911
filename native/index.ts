// SPDX-License-Identifier: Apache-2.0
/**
 * The native addon for TypeScript; nobody else loads it. Importing this file loads the addon and compares its layout
 * of the contract with arbiter/abi/layout.gen.ts.
 *
 * Failures are Errors with a `code`: an errno name such as `ENOENT`, or `ERR_INVALID_ARG_TYPE` and `ERR_OUT_OF_RANGE`
 * for arguments. No argument crashes the process.
 */
export { checkAbi, loadAddon } from './lib/addon.ts';
export type { AbiInfo } from './lib/addon.ts';
export * from './lib/memory.ts';
export * from './lib/clock.ts';
export * from './lib/counters.ts';
export * from './lib/threads.ts';
export * from './lib/files.ts';
export * from './lib/notify.ts';
export * from './lib/sockets.ts';
export * from './lib/futex.ts';
export * from './lib/bridge.ts';
export * from './lib/kflux.ts';
export * from './lib/releaser.ts';
export * from './lib/probes.ts';
export * from './lib/twin.ts';

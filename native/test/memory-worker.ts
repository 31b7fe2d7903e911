// SPDX-License-Identifier: Apache-2.0
// The other thread of a test in memory.test.ts.
import { parentPort, workerData } from 'node:worker_threads';
import { HOT_BYTES } from '../../arbiter/abi/layout.gen.ts';
import { Arena, wrapShared } from '../index.ts';

const ids = workerData as { arena: number; mapped: number };
const words = new Int32Array(Arena.wrap(ids.arena).buffer);
const mapped = new Int32Array(wrapShared(ids.mapped));
parentPort?.once('message', () => {
  mapped[4] = 44;
  parentPort?.postMessage(words[HOT_BYTES / 4 + 3]);
});
parentPort?.postMessage('ready');

// SPDX-License-Identifier: Apache-2.0
// A thread that is terminated while it watches a word; see futex.test.ts.
import { parentPort, workerData } from 'node:worker_threads';
import { watchWord, wrapShared } from '../index.ts';

watchWord(wrapShared(workerData as number), 0, () => undefined, { keepAlive: true });
parentPort?.postMessage('watching');

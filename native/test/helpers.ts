// SPDX-License-Identifier: Apache-2.0
// Shared by the addon's tests.
import { setTimeout as sleep } from 'node:timers/promises';
import { TABLE_BYTES } from '../../arbiter/abi/layout.gen.ts';
import * as native from '../index.ts';

/** The `code` of the error that a call throws; fails the test, by throwing, if it throws none. */
export function codeOf(call: () => unknown): string {
  try {
    call();
  } catch (error) {
    return (error as { code: string }).code;
  }
  throw new Error('expected an error, and there was none');
}

/** Waits until something holds, however long that takes; the test's own limit ends it. */
export async function until(holds: () => boolean): Promise<void> {
  while (!holds()) {
    await sleep(1);
  }
}

/** A new table, filled in and mapped. */
export function newTable(): ArrayBuffer {
  const fd = native.createTable();
  const table = native.mapShared(fd, TABLE_BYTES);
  native.closeFd(fd);
  native.initTable(table, 1_000_000, 6);
  return table;
}

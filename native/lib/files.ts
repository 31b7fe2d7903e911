// SPDX-License-Identifier: Apache-2.0
/** Locks and descriptors. */
import { constants } from 'node:fs';
import { addon } from './addon.ts';

/**
 * Takes an exclusive lock on a file, which is created if need be. null: somebody else holds it. The lock lasts until
 * the descriptor is closed or the process ends, however it ends.
 */
export const lockFile: (path: string) => number | null = addon.lockFile;

/**
 * Opens a path, relative to a directory's descriptor if one is given, closed on exec. Also for /proc/<pid>/fd/<n>,
 * through which another process's memory file is reached.
 */
export function openAt(
  dirFd: number | null,
  path: string,
  flags: number = constants.O_RDWR,
  mode = 0o600,
): number {
  return addon.openAt(dirFd ?? -1, path, flags, mode);
}

export const closeFd: (fd: number) => void = addon.closeFd;

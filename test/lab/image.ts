/** Read-only disk images (ext4) from a folder, by mke2fs -d: neither root nor a mount is needed. */
import {
  copyFileSync,
  constants,
  lstatSync,
  mkdirSync,
  readlinkSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { listTree } from './cache.ts';
import { needProgram, run } from './run.ts';

const BLOCK = 4096;

/** Copies a file or a symlink with its mode, and makes the folders above it. */
export function put(from: string, to: string): void {
  mkdirSync(dirname(to), { recursive: true });
  if (lstatSync(from).isSymbolicLink()) symlinkSync(readlinkSync(from), to);
  else copyFileSync(from, to, constants.COPYFILE_FICLONE);
}

/** How large the image must be: the contents in whole blocks, and what the file system needs for itself. */
export function imageSize(sizes: readonly number[]): { bytes: number; inodes: number } {
  const blocks = sizes.reduce((sum, size) => sum + Math.ceil(size / BLOCK) + 1, 0);
  // Folders have inodes too; there are never more of them than files, by far.
  const inodes = sizes.length * 2 + 256;
  const overhead = Math.ceil((inodes * 256) / BLOCK) + 1024;
  return { bytes: Math.ceil((blocks * 1.06 + overhead) / 256) * 256 * BLOCK, inodes };
}

export async function makeImage(folder: string, file: string, label: string): Promise<void> {
  const mke2fs = needProgram('mke2fs', 'Install e2fsprogs: sudo apt-get install e2fsprogs');
  const sizes = listTree(folder).map((path) => lstatSync(join(folder, path)).size);
  const { bytes, inodes } = imageSize(sizes);
  writeFileSync(file, '');
  truncateSync(file, bytes);
  const features = '^has_journal,^metadata_csum,^64bit,^resize_inode';
  await run(
    [
      mke2fs,
      '-q',
      '-t',
      'ext4',
      '-O',
      features,
      '-b',
      String(BLOCK),
      '-I',
      '256',
      '-N',
      String(inodes),
    ].concat(['-m', '0', '-L', label, '-E', 'root_owner=0:0,lazy_itable_init=1', '-d', folder, file]),
    { hint: 'See whether the disk is full: df -h' },
  );
}

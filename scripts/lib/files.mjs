// @ts-check
// Lists source files and digests them, to know whether a build step has anything to do.
import { createHash } from 'node:crypto';
import { readFileSync, readdirSync, statSync } from 'node:fs';
import { join, relative } from 'node:path';
import { root } from './paths.mjs';

const skipped = new Set(['node_modules', 'target', '.git', '.build']);

/** Every file at or under the given paths, relative to the root and sorted. What is missing is left out.
 * @param {string[]} paths
 * @param {string[]} [ignore] files and folders, relative to the root
 * @returns {string[]} */
export function listFiles(paths, ignore = []) {
  /** @type {string[]} */
  const found = [];
  /** @param {string} path */
  const visit = (path) => {
    const stat = statSync(join(root, path), { throwIfNoEntry: false });
    if (stat?.isFile()) found.push(path);
    if (!stat?.isDirectory()) return;
    for (const name of readdirSync(join(root, path))) {
      const child = join(path, name);
      if (!skipped.has(name) && !ignore.includes(child)) visit(child);
    }
  };
  paths.forEach(visit);
  return found.map((path) => relative(root, join(root, path))).sort();
}

/** One hash over names and contents. Contents rather than times: a checkout touches files that did not change,
 * and the whole tree is read in a few milliseconds.
 * @param {string[]} files
 * @param {string[]} [extra] anything else that must not have changed */
export function digest(files, extra = []) {
  const hash = createHash('sha256');
  for (const text of extra) hash.update(`${text}\0`);
  for (const file of files)
    hash
      .update(`${file}\0`)
      .update(readFileSync(join(root, file)))
      .update('\0');
  return hash.digest('hex');
}

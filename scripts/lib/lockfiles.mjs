// @ts-check
// Lock files must name the public registries only, and must match what they lock.
import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { listFiles } from './files.mjs';
import { root } from './paths.mjs';

const npmRegistry = 'https://registry.npmjs.org/';
const crateSources = ['registry+https://github.com/rust-lang/crates.io-index'];

/** @param {string} path */
const readJson = (path) => JSON.parse(readFileSync(join(root, path), 'utf8'));

/** @returns {string[]} what is wrong, empty when nothing is */
export function checkLockFiles() {
  const cargoLocks = listFiles(['vmm', 'guest-libos', 'abi', 'bench', 'native']).filter(
    (path) => basename(path) === 'Cargo.lock',
  );
  return [...checkNpmLock(), ...cargoLocks.flatMap(checkCargoLock)];
}

/** @returns {string[]} */
function checkNpmLock() {
  const wrong = [];
  const { packages } = readJson('package-lock.json');
  for (const [path, { resolved, link }] of Object.entries(packages)) {
    if (path === '' || link) continue;
    if (!resolved?.startsWith(npmRegistry))
      wrong.push(`package-lock.json: ${path} is resolved to ${resolved ?? 'nothing'}`);
  }
  const manifest = readJson('package.json');
  for (const kind of ['dependencies', 'devDependencies']) {
    if (JSON.stringify(manifest[kind]) !== JSON.stringify(packages[''][kind])) {
      wrong.push(
        `package-lock.json: its ${kind} differ from package.json's; run: npm install --ignore-scripts`,
      );
    }
  }
  // A direct dependency because npm leaves out optional ones whose `engines` the system's Node does not satisfy,
  // though it is the pinned Node that loads it. So it has to follow rolldown's version by hand.
  const rolldown = packages['node_modules/rolldown']?.version;
  const binding = packages['node_modules/@rolldown/binding-linux-x64-gnu']?.version;
  if (rolldown !== binding)
    wrong.push(`package.json: @rolldown/binding-linux-x64-gnu must be ${rolldown}, as rolldown is`);
  return wrong;
}

/** @param {string} path
 * @returns {string[]} */
function checkCargoLock(path) {
  const sources = readFileSync(join(root, path), 'utf8').matchAll(/^source = "(.*)"$/gm);
  return [...sources]
    .filter(([, source]) => !crateSources.includes(source))
    .map(([, source]) => `${path}: a crate comes from ${source}`);
}

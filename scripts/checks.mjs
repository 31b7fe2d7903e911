// @ts-check
// What `npm run check` runs. To add a check, add an entry:
//   name     what the user sees
//   when     the check exists only where this path does
//   command  must exit with 0 when all is well; or `inProcess`, which returns what is wrong
//   fix      optional: the command that mends what `command` finds (--fix)
//   needs    programs from the system, known to lib/tools.mjs
import { join } from 'node:path';
import { listFiles } from './lib/files.mjs';
import { checkLockFiles } from './lib/lockfiles.mjs';
import { pinnedNode, root } from './lib/paths.mjs';

/**
 * @typedef {{ name: string, when?: string, cwd?: string, needs?: string[], env?: Record<string, string>,
 *   command?: string[], fix?: string[], inProcess?: () => string[] }} Check
 */

/** @param {string} path */
const tool = (path) => [pinnedNode, join(root, 'node_modules', path)];

const rustFolders = ['vmm', 'guest-libos', 'guest-libos/hosted', 'abi/rust'];

const cxxFiles = listFiles(['native'], ['native/build']).filter((path) => /\.(cc|h)$/.test(path));
const cxxSources = cxxFiles.filter((path) => path.endsWith('.cc'));
const capiSources = listFiles(['guest-libos/include', 'guest-libos/capi']).filter((path) =>
  /\.[ch]$/.test(path),
);
const abiHeaders = listFiles(['abi']).filter((path) => /^abi\/[^/]+\.h$/.test(path));
// -isystem: what is wrong in other people's headers is not reported.
const cxxFlags = [
  // As native/build.mjs compiles.
  ...['-std=c++17', '-fno-exceptions', '-fno-rtti', '-D_GNU_SOURCE'],
  ...['-DNAPI_VERSION=9', '-DNODE_ADDON_API_DISABLE_CPP_EXCEPTIONS', '-DNODE_ADDON_API_DISABLE_DEPRECATED'],
  ...['-DNODE_GYP_MODULE_NAME=hyperflux', '-DBUILDING_NODE_EXTENSION'],
  ...['-Iabi', '-Ivmm/handoff-ffi/include', '-Inative/build'],
  ...['-isystem', 'node_modules/node-addon-api', '-isystem', 'node_modules/node-api-headers/include'],
];

/** @type {Check[]} */
const always = [
  { name: 'lock files', inProcess: checkLockFiles },
  {
    name: 'generated files',
    when: 'abi/gen/generate.ts',
    command: [pinnedNode, 'abi/gen/generate.ts', '--check'],
    fix: [pinnedNode, 'abi/gen/generate.ts'],
  },
  {
    name: 'prettier',
    command: [...tool('prettier/bin/prettier.cjs'), '--check', '--log-level=warn', '.'],
    fix: [...tool('prettier/bin/prettier.cjs'), '--write', '--log-level=warn', '.'],
  },
  {
    name: 'eslint',
    command: [...tool('eslint/bin/eslint.js'), '--max-warnings=0', '.'],
    fix: [...tool('eslint/bin/eslint.js'), '--max-warnings=0', '--fix', '.'],
  },
  { name: 'tsc', command: [...tool('typescript/bin/tsc'), '--noEmit'] },
];

/** @type {Check[]} */
const rust = rustFolders.flatMap((cwd) => [
  {
    name: `rustfmt ${cwd}`,
    when: `${cwd}/Cargo.toml`,
    needs: ['cargo'],
    cwd,
    command: ['cargo', 'fmt', '--all', '--check'],
    fix: ['cargo', 'fmt', '--all'],
  },
  {
    name: `clippy ${cwd}`,
    when: `${cwd}/Cargo.toml`,
    needs: ['cargo', 'cc'],
    cwd,
    command: ['cargo', 'clippy', '--quiet', '--workspace', '--all-targets', '--', '-D', 'warnings'],
  },
]);

/** @param {string} folder
 * @param {string} style
 * @param {string[]} files
 * @returns {Check[]} */
function clangFormat(folder, style, files) {
  if (files.length === 0) return [];
  const command = ['clang-format', `--style=${style}`];
  return [
    {
      name: `clang-format ${folder}`,
      needs: ['clang-format'],
      command: [...command, '--dry-run', '--Werror', ...files],
      fix: [...command, '-i', ...files],
    },
  ];
}

/** @type {Check[]} */
const cxx = [
  ...clangFormat('native', 'file', cxxFiles),
  // The kernel module includes these headers: they keep the kernel's style.
  ...clangFormat('abi', 'file:scripts/kernel.clang-format', abiHeaders),
  ...clangFormat('capi', 'file:scripts/kernel.clang-format', capiSources),
  // A file at a time: clang-tidy uses one core for all of its arguments.
  ...cxxSources.map((path) => ({
    name: `clang-tidy ${path}`,
    needs: ['clang-tidy', 'g++'],
    command: ['clang-tidy', '--quiet', path, '--', ...cxxFlags],
  })),
];

/** @type {Check[]} */
const kernel = [
  {
    // With the headers of a Debian kernel, which it fetches.
    name: 'sparse and checkpatch',
    when: 'kmod/tools/lint.ts',
    command: [pinnedNode, 'kmod/tools/lint.ts'],
  },
];

export const checks = [...always, ...rust, ...cxx, ...kernel];

#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
// @ts-check
// Builds the addon: native/src/*.cc and the hand-over protocol's static library into native/build/hyperflux.node.
// Plain calls of g++, because node-gyp would download headers and wants Python. Node built-ins only, Node 18 and later.
//
//   --lib PATH   link this libflux_handoff.a (default: the one in vmm/target/release, brought up to date by cargo)
//   --force      compile everything again
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { availableParallelism, homedir } from 'node:os';
import { join, relative } from 'node:path';
import { argv, env, exit } from 'node:process';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const at = (/** @type {string[]} */ ...parts) => join(root, ...parts);
const build = at('native/build');
const objects = join(build, 'obj');
const target = join(build, 'hyperflux.node');
const compiler = env.CXX ?? 'g++';

/** @param {string} message
 * @returns {never} */
function fail(message) {
  console.error(`native/build.mjs: ${message}`);
  exit(1);
}

/** @param {string} flag */
function option(flag) {
  const index = argv.indexOf(flag);
  return index < 0 ? undefined : (argv[index + 1] ?? fail(`${flag} needs a value`));
}

const flags = [
  ...[
    '-O2',
    '-std=c++17',
    '-fPIC',
    '-fvisibility=hidden',
    '-fno-exceptions',
    '-fno-rtti',
    '-fno-strict-aliasing',
  ],
  ...['-Wall', '-Wextra', '-Werror', '-Wno-psabi', '-g1', '-pthread'],
  ...[
    '-D_GNU_SOURCE',
    '-DNAPI_VERSION=9',
    '-DNODE_ADDON_API_DISABLE_CPP_EXCEPTIONS',
    '-DNODE_ADDON_API_DISABLE_DEPRECATED',
  ],
  ...['-DNODE_GYP_MODULE_NAME=hyperflux', '-DBUILDING_NODE_EXTENSION'],
  ...['-I', at('abi'), '-I', at('vmm/handoff-ffi/include'), '-I', build],
  // As system headers, so that their warnings are not ours.
  ...['-isystem', at('node_modules/node-api-headers/include'), '-isystem', at('node_modules/node-addon-api')],
];

/** What Rust's standard library needs (cargo rustc -- --print native-static-libs), and nothing exported but Node's two symbols. */
const linkFlags = [
  ...[
    '-shared',
    '-pthread',
    `-Wl,--version-script=${at('native/exports.map')}`,
    '-Wl,--gc-sections',
    '-Wl,-z,relro,-z,now,-z,noexecstack',
  ],
  ...['-Wl,--no-as-needed', '-ldl', '-lrt', '-lm', '-lgcc_s', '-lc'],
];

function checkTools() {
  if (process.platform !== 'linux' || process.arch !== 'x64') fail('HyperFlux runs on Linux on x86-64 only');
  if (spawnSync(compiler, ['--version']).status !== 0) {
    fail(
      `cannot run ${compiler}, the C++ compiler; install it (Debian, Ubuntu: apt install g++; Fedora: dnf install gcc-c++)`,
    );
  }
  for (const name of ['node-addon-api', 'node-api-headers']) {
    if (!existsSync(at('node_modules', name)))
      fail(`node_modules/${name} is absent; run first: npm ci --ignore-scripts`);
  }
}

/** The static library, brought up to date by cargo, which knows best what it depends on. */
function handoffLibrary() {
  const given = option('--lib') ?? env.HYPERFLUX_HANDOFF_LIB;
  if (given !== undefined) return existsSync(given) ? given : fail(`there is no ${given}`);
  const library = at('vmm/target/release/libflux_handoff.a');
  // rustup's folder may not be on the path of a shell that is older than its installation.
  const path = `${env.PATH ?? ''}:${join(env.CARGO_HOME ?? join(homedir(), '.cargo'), 'bin')}`;
  const args = ['build', '--release', '--locked', '--quiet', '-p', 'handoff-ffi'];
  const cargo = spawnSync('cargo', args, { cwd: at('vmm'), stdio: 'inherit', env: { ...env, PATH: path } });
  if (cargo.error !== undefined && !existsSync(library)) {
    fail('cannot run cargo, which builds the hand-over protocol; install Rust: https://rustup.rs');
  }
  if (cargo.error === undefined && (cargo.status !== 0 || !existsSync(library))) {
    fail('cargo could not build vmm/target/release/libflux_handoff.a, see above');
  }
  return library;
}

/** The list of all sizes, offsets and constants: names from the TypeScript layout, values left to the C++ compiler. */
function abiFacts() {
  const layout = readFileSync(at('arbiter/abi/layout.gen.ts'), 'utf8');
  let struct = '';
  const lines = [];
  for (const [, name, value] of layout.matchAll(/^export const (\w+) = (.*);$/gm)) {
    if (name.startsWith('SIZE_')) {
      struct = name.slice('SIZE_'.length);
      lines.push(`{"${name}", sizeof(struct flux_${struct.toLowerCase()})},`);
    } else if (name.startsWith(`OFF_${struct}_`) && struct !== '') {
      const field = name.slice(`OFF_${struct}_`.length).toLowerCase();
      lines.push(
        `{"${name}", offsetof(struct flux_${struct.toLowerCase()}, ${field === 'class' ? 'vm_class' : field})},`,
      );
    } else if (!name.startsWith('W_') && /^(0x[0-9a-f]+|\d+)$/.test(value)) {
      lines.push(`{"${name}", FLUX_${name}},`);
    }
  }
  if (lines.length === 0)
    fail('arbiter/abi/layout.gen.ts exports no constants; write it again: node abi/gen/generate.ts');
  return `${lines.join('\n')}\n`;
}

/** @param {string} path
 * @param {string} text */
function writeIfChanged(path, text) {
  if (!existsSync(path) || readFileSync(path, 'utf8') !== text) writeFileSync(path, text);
}

/** @param {string[]} args
 * @returns {Promise<boolean>} */
function run(args) {
  return new Promise((resolve) => {
    const child = spawn(compiler, args, { stdio: 'inherit' });
    child.on('error', () => resolve(false));
    child.on('close', (code) => resolve(code === 0));
  });
}

const modified = (/** @type {string} */ path) => (existsSync(path) ? statSync(path).mtimeMs : 0);

/** Whether an object is newer than everything that it was made of, by the dependency file that g++ wrote.
 * @param {string} object */
function isFresh(object) {
  const dependencies = object.replace(/\.o$/, '.d');
  if (!existsSync(object) || !existsSync(dependencies)) return false;
  const files = readFileSync(dependencies, 'utf8')
    .replace(/^[^:]*:/, '')
    .replace(/\\\n/g, ' ')
    .trim()
    .split(/\s+/);
  return files.every((file) => existsSync(file) && modified(file) < modified(object));
}

async function main() {
  checkTools();
  const library = handoffLibrary();
  // Other flags or another compiler make every object stale.
  const version = spawnSync(compiler, ['--version'], { encoding: 'utf8' }).stdout;
  const recipe = createHash('sha256')
    .update(JSON.stringify([flags, version]))
    .digest('hex');
  const stamp = join(objects, 'recipe');
  if (argv.includes('--force') || !existsSync(stamp) || readFileSync(stamp, 'utf8') !== recipe) {
    rmSync(objects, { recursive: true, force: true });
  }
  mkdirSync(objects, { recursive: true });
  writeFileSync(stamp, recipe);
  writeIfChanged(join(build, 'abi_facts.inc'), abiFacts());

  const sources = readdirSync(at('native/src'))
    .filter((name) => name.endsWith('.cc'))
    .sort();
  const all = sources.map((name) => join(objects, name.replace(/\.cc$/, '.o')));
  const queue = sources.filter((_, index) => !isFresh(all[index]));
  let good = true;
  await Promise.all(
    Array.from({ length: availableParallelism() }, async () => {
      for (let name = queue.shift(); name !== undefined && good; name = queue.shift()) {
        const object = join(objects, name.replace(/\.cc$/, '.o'));
        const made = await run([...flags, '-MMD', '-c', at('native/src', name), '-o', object]);
        if (!made) good = false;
      }
    }),
  );
  if (!good) fail('the compiler reported the errors above');

  const newest = Math.max(modified(library), modified(at('native/exports.map')), ...all.map(modified));
  const link = JSON.stringify([library, linkFlags]);
  const linkStamp = join(objects, 'link');
  if (modified(target) > newest && existsSync(linkStamp) && readFileSync(linkStamp, 'utf8') === link) return;
  // Linked beside and moved, so that a program that has the old one loaded keeps it.
  const fresh = join(build, `hyperflux.${process.pid}.node`);
  if (!(await run(['-o', fresh, ...all, library, ...linkFlags]))) fail('linking failed, see above');
  // A shared library links with symbols missing; here they would be missed only when it is loaded.
  const node = at('node_modules/node/bin/node');
  if (
    existsSync(node) &&
    spawnSync(node, ['-e', `require(${JSON.stringify(fresh)})`], { stdio: 'inherit' }).status !== 0
  ) {
    rmSync(fresh);
    fail('what was built cannot be loaded, see above');
  }
  renameSync(fresh, target);
  writeFileSync(linkStamp, link);
  console.log(`built ${relative(root, target)}`);
}

await main();

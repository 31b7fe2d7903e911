#!/usr/bin/env node
// @ts-check
// Runs the hosted guest's tests, and those of the guest's libraries, under a sanitizer of the compiler's.
// Usage: npm run sanitize -- [address|thread]... [--short]; both unless one is named. What it builds it keeps, in
// guest-libos/target/sanitize-KIND. --short: only what shows that the sanitizer sees what it must.
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { argv, exit } from 'node:process';
import { add, noCounts, totalLine } from './lib/counts.mjs';
import { toolEnv } from './lib/env.mjs';
import { root } from './lib/paths.mjs';
import { seconds } from './lib/progress.mjs';
import { Failure } from './lib/run.mjs';
import { runSuite } from './lib/suite.mjs';
import { requireTools } from './lib/tools.mjs';

const target = 'x86_64-unknown-linux-gnu';

/** @typedef {'address' | 'thread'} Kind */

/** The runtime's file in the compiler's own folder, and more flags.
 * @type {Record<Kind, { runtime: string, flags: string[] }>} */
const kinds = {
  // Local variables stay on the stacks that uThreads have: the other place is a kernel thread's.
  address: { runtime: '_rt.asan.a', flags: ['-Cllvm-args=-asan-use-after-return=never'] },
  thread: { runtime: '_rt.tsan.a', flags: [] },
};

/** @param {Kind} kind */
function requireRuntime(kind) {
  const asked = spawnSync('rustc', ['--print', 'target-libdir', '--target', target], {
    env: toolEnv(),
    encoding: 'utf8',
  });
  const folder = asked.stdout?.trim();
  const there = asked.status === 0 && readdirSync(folder).some((name) => name.endsWith(kinds[kind].runtime));
  if (!there)
    throw new Failure(
      `this Rust has no runtime of the ${kind} sanitizer (librustc*${kinds[kind].runtime}), which rustup's has; ` +
        `install that one: https://rustup.rs, then: rustup target add ${target}`,
    );
}

/** @param {Kind} kind */
function environment(kind) {
  const flags = [
    // As guest-libos/.cargo/config.toml, which this takes the place of.
    ...['-C', 'relocation-model=static', '-C', 'no-redzone=yes', '-C', 'force-frame-pointers=yes'],
    `-Zsanitizer=${kind}`,
    // The standard library is the stable one, which is not instrumented.
    '-Cunsafe-allow-abi-mismatch=sanitizer',
    ...['--cfg', 'flux_sanitizer', '--cfg', `flux_sanitizer="${kind}"`],
    ...kinds[kind].flags,
  ];
  return {
    // Sanitizers are an unstable option of the stable compiler.
    RUSTC_BOOTSTRAP: '1',
    CARGO_ENCODED_RUSTFLAGS: flags.join('\x1f'),
    CARGO_TARGET_DIR: join(root, `guest-libos/target/sanitize-${kind}`),
    CARGO_PROFILE_RELEASE_LTO: 'off',
    CARGO_PROFILE_RELEASE_CODEGEN_UNITS: '16',
  };
}

/** @param {Kind} kind
 * @param {boolean} short
 * @returns {import('./suites.mjs').Suite[]} */
function suitesOf(kind, short) {
  const cargo = ['cargo', 'test', '--release', '--locked', '--no-fail-fast', '--target', target];
  // In the harness's own thread: it is not instrumented, so what its threads hand to each other looks like races.
  const one = ['--', '--test-threads=1'];
  const env = environment(kind);
  const planted = ['--test', 'planted'];
  /** @type {import('./suites.mjs').Suite} */
  const hosted = {
    name: `hosted, ${kind}`,
    when: 'guest-libos/hosted/Cargo.toml',
    counts: 'cargo',
    cwd: 'guest-libos/hosted',
    command: [...cargo, ...planted, ...(short ? [] : ['--test', 'sync']), ...one],
    env,
  };
  if (short) return [hosted];
  const libraries = ['-p', 'sched', '-p', 'libos', '--lib', '--tests'];
  return [
    hosted,
    {
      name: `sched and libos, ${kind}`,
      when: 'guest-libos/Cargo.toml',
      counts: 'cargo',
      cwd: 'guest-libos',
      command: [...cargo, ...libraries, ...one],
      env,
    },
  ];
}

const named = argv.slice(2).filter((word) => word !== '--short');
const unknown = named.filter((word) => !(word in kinds));
if (unknown.length > 0) {
  console.error(`no such sanitizer: ${unknown.join(', ')}; give address, thread, or nothing for both`);
  exit(2);
}
const wanted = /** @type {Kind[]} */ (named.length > 0 ? named : Object.keys(kinds));

const total = noCounts();
let failed = false;
try {
  await requireTools(['cargo', 'cc']);
  for (const kind of wanted) {
    requireRuntime(kind);
    for (const suite of suitesOf(kind, argv.includes('--short'))) {
      console.log(`\n== ${suite.name}`);
      const started = Date.now();
      const { trouble, ...counts } = await runSuite(suite, []);
      add(total, counts);
      failed ||= trouble !== undefined;
      console.log(
        `${suite.name}: ${totalLine(counts)} in ${seconds(started)}${trouble ? `; FAILED, ${trouble}` : ''}`,
      );
    }
  }
} catch (error) {
  if (!(error instanceof Failure)) throw error;
  console.error(error.message);
  exit(1);
}
console.log(`\n${totalLine(total)}`);
exit(failed || total.failed > 0 || total.passed === 0 ? 1 : 0);

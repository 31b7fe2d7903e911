// @ts-check
// Builds the tests that start real VMs, and runs them in the lab, over kFlux and over the affinity bridge.
// Usage: node vmm/lab-tests.mjs [--bridge kflux|affinity] [--debug] [TEST FILE ...]
//
// The lab's image has whatever lies in vmm/target/release/examples under a plain name: the tests are put there.
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';

const vmm = fileURLToPath(new URL('.', import.meta.url));
const examples = join(vmm, 'target/release/examples');
/** The test files that are of use in another machine, without cargo, and the folder of their crate. */
const hosted = join(vmm, '../guest-libos/hosted');
const known = new Map([
  ...['guest', 'lease', 'kflux', 'socket', 'start', 'seat', 'confined'].map((name) => [
    name,
    join(vmm, 'fluxion'),
  ]),
  // The same guests as hosted, with FluxOS under KVM.
  ...['parks', 'rogues', 'serve', 'torture'].map((name) => [name, hosted]),
]);

/** @param {string} message @returns {never} */
function fail(message) {
  console.error(message);
  process.exit(2);
}

const args = process.argv.slice(2);
const debug = args.includes('--debug');
if (debug) args.splice(args.indexOf('--debug'), 1);
const at = args.indexOf('--bridge');
const bridges = at < 0 ? ['kflux', 'affinity'] : args.splice(at, 2).slice(1);
if (!bridges.every((bridge) => ['kflux', 'affinity'].includes(bridge)) || bridges.length === 0)
  fail('--bridge takes kflux or affinity');
const chosen = args.length > 0 ? args : [...known.keys()];
for (const name of chosen)
  if (!known.has(name)) fail(`${name}: no such test file; there are ${[...known.keys()].join(', ')}`);

/** Builds the chosen tests of a crate and puts them into the image. @param {string} cwd */
function build(cwd) {
  const names = chosen.filter((name) => known.get(name) === cwd);
  if (names.length === 0) return;
  console.error(`builds ${names.join(', ')} ...`);
  const tests = names.flatMap((name) => ['--test', name]);
  const cargo = ['test', '--no-run', '--message-format=json', ...(debug ? [] : ['--release']), ...tests];
  const { status, stdout } = spawnSync('cargo', cargo, {
    cwd,
    stdio: ['ignore', 'pipe', 'inherit'],
    maxBuffer: 1 << 28,
  });
  if (status !== 0) process.exit(status ?? 1);
  let built = 0;
  for (const line of stdout.toString().split('\n').filter(Boolean)) {
    const { executable, target, profile } = JSON.parse(line);
    if (!executable || !profile?.test || !target.kind.includes('test')) continue;
    copyFileSync(executable, join(examples, `labtest_${target.name}`));
    built++;
  }
  if (built !== names.length) fail(`cargo has built ${built} of them`);
}

/** What an earlier run has left, and this one will: nobody else's image is to have them. */
function sweep() {
  for (const name of readdirSync(examples).filter((name) => name.startsWith('labtest_')))
    rmSync(join(examples, name));
}

mkdirSync(examples, { recursive: true });
sweep();
for (const cwd of new Set(known.values())) build(cwd);
const fluxion = join(vmm, debug ? 'target/debug/fluxion' : 'target/release/fluxion');
if (!existsSync(fluxion)) fail(`${fluxion} is not there: build it (npm run setup)`);
copyFileSync(fluxion, join(examples, 'labtest_fluxion'));

// What the torture goes by; see its options.rs. In the lab, without being told, fewer and for less long.
const stress = Number(process.env.FLUX_STRESS_SECONDS ?? 10);
const settings = [
  `FLUX_STRESS_SECONDS=${stress}`,
  `FLUX_TORTURE_VCPUS=${process.env.FLUX_TORTURE_VCPUS ?? 8}`,
  `FLUX_TORTURE_UTHREADS=${process.env.FLUX_TORTURE_UTHREADS ?? 2000}`,
  ...(process.env.FLUX_TORTURE_SEED === undefined
    ? []
    : [`FLUX_TORTURE_SEED=${process.env.FLUX_TORTURE_SEED}`]),
].join(' ');
const limit = 300 + stress;

// One boot for all; every test file runs, whatever the others came to.
const guest = 'guest-libos/target/x86_64-unknown-linux-gnu/release/fluxos';
const lines = bridges.flatMap((bridge) =>
  chosen.map(
    (name) =>
      `echo "== ${bridge}: ${name}"; HYPERFLUX_BRIDGE=${bridge} ${settings} timeout ${limit} ` +
      `"$here/labtest_${name}" --test-threads=2 ${name === 'torture' ? '--nocapture ' : ''}|| ` +
      `failed="$failed ${bridge}:${name}"`,
  ),
);
const script =
  `here=$PWD/vmm/target/release/examples; export FLUXION=$here/labtest_fluxion FLUXOS=$PWD/${guest}; ` +
  `failed=; ${lines.join('; ')}; test -z "$failed" || { echo "failed:$failed"; exit 1; }`;
console.error(`runs ${chosen.join(', ')} in the lab, over ${bridges.join(' and ')} ...`);
const lab = ['lab', '--timeout', String(1800 + 2 * stress), '--exec', '--', 'sh', '-c', script];
const ran = spawnSync(join(vmm, '..', 'hyperflux'), lab, { stdio: 'inherit' });
sweep();
process.exit(ran.status ?? 1);

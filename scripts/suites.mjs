// @ts-check
// What `npm test` runs, in this order. To add a suite, add an entry:
//   name     short; selects the suite with --only
//   when     the suite exists only where this path (or one of these) does
//   counts   how its tests are counted: 'vitest' (JSON report), 'cargo' (its result lines) or 'tap' (ok, not ok)
//   needs    programs from the system, known to lib/tools.mjs; tests that miss one say so and are not run
//   cwd, command, env
//   minutes  a suite that takes longer hangs: it is killed and counts as failed
import { join } from 'node:path';
import { buildState, pinnedNode, root } from './lib/paths.mjs';

/**
 * @typedef {{ name: string, when: string | string[], counts: 'vitest' | 'cargo' | 'tap', needs?: string[],
 *   cwd?: string, command: string[], env?: Record<string, string>, minutes?: number }} Suite
 */

export const vitestReport = join(buildState, 'vitest.json');

const cargoTest = ['cargo', 'test', '--locked', '--no-fail-fast'];

const loomTests = ['', '_queue', '_timers', '_sync', '_sync_units', '_sync_ends'].flatMap((name) => [
  '--test',
  `loom${name}`,
]);

/** @type {Suite[]} */
export const suites = [
  {
    name: 'vitest',
    when: 'vitest.config.ts',
    counts: 'vitest',
    command: [
      pinnedNode,
      join(root, 'node_modules/vitest/vitest.mjs'),
      'run',
      '--reporter=default',
      '--reporter=json',
      `--outputFile.json=${vitestReport}`,
    ],
  },
  {
    name: 'abi',
    when: 'abi/rust/Cargo.toml',
    counts: 'cargo',
    cwd: 'abi/rust',
    // A library: it has no lock file to hold to.
    command: ['cargo', 'test', '--no-fail-fast', '--features', 'protocol'],
  },
  {
    name: 'vmm',
    when: 'vmm/Cargo.toml',
    counts: 'cargo',
    cwd: 'vmm',
    // Release, as it is built: real guests run in it, and nothing is compiled twice.
    command: [...cargoTest, '--release', '--workspace'],
    env: { FLUX_STRESS_SECONDS: '60' },
  },
  {
    name: 'loom',
    when: 'vmm/handoff/tests/loom.rs',
    counts: 'cargo',
    cwd: 'vmm',
    // Every interleaving is tried: only optimised code is fast enough.
    command: [
      ...cargoTest,
      '--release',
      '--features',
      'loom',
      '-p',
      'handoff',
      '--test',
      'loom',
      '--test',
      'loom_doorbell',
    ],
  },
  { name: 'guest', when: 'guest-libos/Cargo.toml', counts: 'cargo', cwd: 'guest-libos', command: cargoTest },
  {
    name: 'guest-loom',
    when: 'guest-libos/sched/tests/loom.rs',
    counts: 'cargo',
    cwd: 'guest-libos',
    command: [...cargoTest, '--release', '--features', 'loom', '-p', 'sched', ...loomTests],
  },
  {
    // Release, as it is built: these run real guests under load, hosted and in KVM.
    name: 'hosted',
    when: 'guest-libos/hosted/Cargo.toml',
    counts: 'cargo',
    needs: ['gdb'],
    cwd: 'guest-libos/hosted',
    command: [...cargoTest, '--release'],
    // The torture's, on KVM and then hosted.
    env: { FLUX_STRESS_SECONDS: '60' },
  },
  {
    // Every interleaving of the hand-over in the kernel, and mutants that must be found.
    name: 'model',
    when: 'kmod/model/check.ts',
    counts: 'tap',
    command: [pinnedNode, join(root, 'kmod/model/check.ts')],
    minutes: 30,
  },
  {
    // The kernel module, on a stock Debian kernel in QEMU: its cases, a minute of stress, its trace.
    name: 'kflux',
    when: 'kmod/Makefile',
    counts: 'tap',
    command: [pinnedNode, join(root, 'test/lab-suite/kflux.ts')],
    minutes: 30,
  },
  {
    // The torture of `hosted` once more, in the lab, where kFlux moves the cores.
    name: 'torture-lab',
    when: 'kmod/Makefile',
    counts: 'cargo',
    command: [pinnedNode, join(root, 'scripts/torture.mjs'), '--on', 'lab', '--seconds', '30'],
    minutes: 15,
  },
];

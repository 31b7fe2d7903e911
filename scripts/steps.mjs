// @ts-check
// What set-up does, in this order. To add a step, add an entry:
//   name     short; names the stamp and the log, and selects the step on the command line
//   title    what the user sees
//   when     the step exists only where this path does (a component that is not there yet is no error)
//   inputs   files and folders; the step runs again when any of their contents changes
//   ignore   files and folders among the inputs that building or testing writes
//   outputs  paths that must exist afterwards; the step runs again when one is gone
//   needs    programs from the system, known to lib/tools.mjs
//   cwd, command, hint
import { pinnedNode } from './lib/paths.mjs';

/**
 * @typedef {{ name: string, title: string, when: string, inputs: string[], ignore?: string[], outputs: string[],
 *   needs: string[], cwd?: string, command: string[], hint?: string }} Step
 */

/** @type {Step[]} */
export const steps = [
  {
    name: 'npm',
    title: 'install npm packages',
    when: 'package-lock.json',
    inputs: ['package-lock.json'],
    outputs: ['node_modules/.package-lock.json', 'node_modules/node/bin/node'],
    needs: [],
    // Nothing here needs an install script, so none is run.
    command: ['npm', 'ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'],
    hint: 'check that the npm registry can be reached, then run the same command again',
  },
  {
    name: 'vmm',
    title: 'build Fluxion and the bridge (Rust)',
    when: 'vmm/Cargo.toml',
    inputs: ['vmm', 'abi'],
    ignore: ['abi/rust/Cargo.lock'],
    outputs: ['fluxion', 'libflux_handoff.a', 'examples/puppet'].map((name) => `vmm/target/release/${name}`),
    needs: ['cargo', 'cc'],
    cwd: 'vmm',
    // The examples are the puppets of the bridges' contract tests.
    command: ['cargo', 'build', '--release', '--locked', '--workspace', '--lib', '--bins', '--examples'],
  },
  {
    name: 'addon',
    title: 'build the addon (C++)',
    when: 'native/build.mjs',
    // It links the static library that the step before has built.
    inputs: [
      'native',
      'abi',
      'arbiter/abi',
      'vmm/handoff',
      'vmm/handoff-ffi',
      'vmm/Cargo.lock',
      'package-lock.json',
    ],
    ignore: ['native/build', 'abi/rust/Cargo.lock'],
    outputs: ['native/build/hyperflux.node'],
    needs: ['g++', 'cargo', 'cc'],
    command: [pinnedNode, 'native/build.mjs'],
  },
  {
    name: 'guest',
    title: 'build the guest image (Rust)',
    when: 'guest-libos/Cargo.toml',
    inputs: ['guest-libos', 'abi'],
    ignore: ['abi/rust/Cargo.lock', 'guest-libos/hosted'],
    outputs: ['guest-libos/target/x86_64-unknown-linux-gnu/release/fluxos'],
    needs: ['cargo', 'cc'],
    cwd: 'guest-libos',
    command: ['cargo', 'build', '--release', '--locked', '--target', 'x86_64-unknown-linux-gnu'],
  },
  {
    name: 'hosted',
    title: 'build the hosted FluxOS (Rust)',
    when: 'guest-libos/hosted/Cargo.toml',
    inputs: ['guest-libos', 'abi', 'vmm'],
    ignore: ['abi/rust/Cargo.lock'],
    outputs: ['guest-libos/target/x86_64-unknown-linux-gnu/release/fluxos-hosted'],
    needs: ['cargo', 'cc'],
    cwd: 'guest-libos/hosted',
    command: ['cargo', 'build', '--release', '--locked', '--target', 'x86_64-unknown-linux-gnu'],
  },
  {
    name: 'capi',
    title: 'build libfluxos and its C programs (Rust, C)',
    when: 'guest-libos/capi/build.mjs',
    inputs: ['guest-libos', 'abi', 'vmm'],
    ignore: ['abi/rust/Cargo.lock'],
    outputs: ['kvm', 'hosted'].map((kind) => `guest-libos/target/capi/${kind}/program`),
    needs: ['cargo', 'cc'],
    command: [pinnedNode, 'guest-libos/capi/build.mjs'],
  },
];

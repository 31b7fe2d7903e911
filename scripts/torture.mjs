#!/usr/bin/env node
// @ts-check
// Thousands of uThreads under a host that takes cores away at random, for as long as it is told to.
// The guest is guest-libos/apps/src/torture, the host guest-libos/hosted/tests/torture.rs.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { argv, exit } from 'node:process';
import { root } from './lib/paths.mjs';

const usage = `npm run torture [-- OPTIONS]
uThreads that take locks, sleep, send, fill their registers and stacks, and check all of it, while a host parks, forces,
moves and grants their vCPUs at random, one to ten times as far apart as a park and a grant take on this machine.

  --seconds N     how long, 300 unless given
  --on WHERE      kvm, hosted or lab; kvm and then hosted unless given
                  lab: a kernel with kFlux in QEMU, where kFlux moves the cores and FluxOS runs under KVM
  --seed N        of all that is chosen by chance; each run says its own
  --vcpus N       of the VM, 8 unless given
  --uthreads N    10000 unless given
  --help

Exit code 0: nothing was lost, changed or stuck. Else the log says who and what; the guest's lines begin with "torture:".`;

/** @param {string} message @returns {never} */
function refuse(message) {
  console.error(`${message}\n\n${usage}`);
  exit(2);
}

/** @param {string[]} args */
function parse(args) {
  /** @type {Record<string, number>} */
  const numbers = {};
  let on = 'both';
  for (let i = 0; i < args.length; i++) {
    const [name, inline] = args[i].split('=', 2);
    if (name === '--help' || name === '-h') {
      console.log(usage);
      exit(0);
    }
    if (!['--seconds', '--on', '--seed', '--vcpus', '--uthreads'].includes(name))
      refuse(`there is no option ${args[i]}`);
    const value = inline ?? args[++i];
    if (value === undefined) refuse(`${name} needs a value`);
    if (name === '--on') {
      if (!['kvm', 'hosted', 'lab'].includes(value)) refuse(`--on ${value}: give kvm, hosted or lab`);
      on = value;
    } else {
      if (!/^\d+$/.test(value)) refuse(`${name} ${value}: give a whole number`);
      numbers[name.slice(2)] = Number(value);
    }
  }
  return { on, numbers };
}

/** Runs a program to its end. @param {string[]} command @param {string} cwd @param {Record<string, string>} more */
function run([program, ...args], cwd, more) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { cwd, stdio: 'inherit', env: { ...process.env, ...more } });
    child.on('error', (error) => reject(new Error(`${program} cannot be started: ${error.message}`)));
    child.on('close', (code) => resolve(code ?? 1));
  });
}

const { on, numbers } = parse(argv.slice(2));
const { seconds = 300, seed, vcpus = 8, uthreads = 10_000 } = numbers;
/** @type {Record<string, string>} */
const env = {
  FLUX_STRESS_SECONDS: String(seconds),
  FLUX_TORTURE_VCPUS: String(vcpus),
  FLUX_TORTURE_UTHREADS: String(uthreads),
  ...(seed === undefined ? {} : { FLUX_TORTURE_SEED: String(seed) }),
  ...(on === 'both' ? {} : { FLUX_TORTURE_ON: on === 'lab' ? 'kvm' : on }),
};
console.error(`torture: ${seconds} s, ${uthreads} uThreads on ${vcpus} vCPUs`);
const command =
  on === 'lab'
    ? [process.execPath, join(root, 'vmm/lab-tests.mjs'), '--bridge', 'kflux', 'torture']
    : [
        'cargo',
        'test',
        '--release',
        '--locked',
        '--test',
        'torture',
        '--',
        '--nocapture',
        '--test-threads=1',
      ];
exit(await run(command, on === 'lab' ? root : join(root, 'guest-libos/hosted'), env));

/**
 * What a benchmark ran on: whatever a reader needs to judge the figures, and
 * nothing that tells whose machine it was (no host names, no paths).
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { availableParallelism, cpus, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Env } from './schema.ts';

const repository = fileURLToPath(new URL('../..', import.meta.url));

/** Where to look; tests look elsewhere. */
export interface Places {
  sys: string;
  proc: string;
  dev: string;
  repository: string;
}

const here: Places = { sys: '/sys', proc: '/proc', dev: '/dev', repository };

function text(path: string): string | null {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    // Not there on this host: that is what null says.
    return null;
  }
}

/** The module that runs guests: kvm_pvm, kvm_amd, kvm_intel; or "none". */
export function kvmFlavour({ sys, dev }: Places = here): string {
  for (const module of ['kvm_pvm', 'kvm_amd', 'kvm_intel']) {
    // A module that is built in or loaded but was refused by the CPU has no /dev/kvm behind it.
    if (existsSync(join(sys, 'module', module))) return existsSync(join(dev, 'kvm')) ? module : 'none';
  }
  return existsSync(join(dev, 'kvm')) ? 'unknown' : 'none';
}

/** What this machine itself runs on, as far as it says: times under TCG mean nothing. */
export function platform({ sys, proc }: Places = here): string {
  const cpuinfo = text(join(proc, 'cpuinfo')) ?? '';
  if (/^model name\s*:.*\bTCG\b/m.test(cpuinfo)) return 'TCG';
  if (!/^flags\s*:.*\bhypervisor\b/m.test(cpuinfo)) return 'bare metal';
  const vendor = text(join(sys, 'class/dmi/id/sys_vendor'));
  return vendor === null || vendor === '' ? 'virtual machine' : `virtual machine (${vendor})`;
}

/** Only those that this CPU is affected by. */
function mitigations({ sys }: Places): Record<string, string> {
  const folder = join(sys, 'devices/system/cpu/vulnerabilities');
  const found: Record<string, string> = {};
  if (!existsSync(folder)) return found;
  for (const name of readdirSync(folder).sort()) {
    const state = text(join(folder, name));
    if (state !== null && state !== 'Not affected') found[name] = state;
  }
  return found;
}

/** Git's word for what is checked out; "+" if files were changed since. Null outside a clone. */
function commit({ repository }: Places): string | null {
  const git = (...args: string[]): string =>
    execFileSync('git', ['-C', repository, ...args], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
      timeout: 5000,
    }).trim();
  try {
    const changed = git('status', '--porcelain', '--untracked-files=no') !== '';
    return git('rev-parse', '--short=12', 'HEAD') + (changed ? '+' : '');
  } catch {
    // No git, or a copy without history: as in the lab, where the host says what it is a copy of.
    return process.env.HYPERFLUX_COMMIT ?? null;
  }
}

/** The compiler that built Fluxion, from the note that cargo keeps of it. */
function rustc({ repository }: Places): string | null {
  const info = text(join(repository, 'vmm/target/.rustc_info.json'));
  return /rustc (\d+\.\d+\.\d+)/.exec(info ?? '')?.[1] ?? null;
}

/**
 * `mode`: how cores are moved and what guests run in (full, unprivileged, hosted, lab), or that there are none.
 * Must not be called while something is measured: it starts git.
 */
export function describeEnv(mode: string, places: Places = here): Env {
  const cpu = (path: string): string | null => text(join(places.sys, 'devices/system/cpu', path));
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: cpus().length,
    usable_cores: availableParallelism(),
    smt: cpu('smt/active') === '1',
    isolated_cores: cpu('isolated') || 'none',
    memory_mib: Math.round(totalmem() / 2 ** 20),
    platform: platform(places),
    kernel: release(),
    kvm: kvmFlavour(places),
    mode,
    clocksource: text(join(places.sys, 'devices/system/clocksource/clocksource0/current_clocksource')),
    idle_driver: cpu('cpuidle/current_driver'),
    idle_governor: cpu('cpuidle/current_governor'),
    frequency_governor: cpu('cpu0/cpufreq/scaling_governor'),
    mitigations: mitigations(places),
    node: process.versions.node,
    v8: process.versions.v8,
    rustc: rustc(places),
    commit: commit(places),
  };
}

// @ts-check
// The programs that a step needs from the system: finds them, installs Debian's where that is allowed, and
// otherwise says in one line how to get them.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { isOnPath, toolEnv } from './env.mjs';
import { Failure, runLogged } from './run.mjs';

const oldestRust = [1, 88];
const installRust = "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y";

/** @type {Record<string, string[]>} the Debian packages that bring a program */
const debianPackages = {
  cc: ['gcc', 'libc6-dev'],
  'g++': ['g++'],
  'clang-format': ['clang-format'],
  'clang-tidy': ['clang-tidy'],
  gdb: ['gdb'],
};

function requireRust() {
  const oldest = oldestRust.join('.');
  const env = toolEnv();
  if (!isOnPath('cargo', env.PATH))
    throw new Failure(`Rust ${oldest} or newer is missing; install it with: ${installRust}`);

  const result = spawnSync('cargo', ['--version'], { env, encoding: 'utf8' });
  const [, major, minor] = /^cargo (\d+)\.(\d+)/.exec(result.stdout ?? '') ?? [];
  if (!major)
    throw new Failure(`cargo does not run (${firstLine(result.stderr)}); try: rustup default stable`);
  if (Number(major) * 1000 + Number(minor) < oldestRust[0] * 1000 + oldestRust[1]) {
    const remedy = isOnPath('rustup', env.PATH) ? 'rustup update stable' : installRust;
    throw new Failure(
      `Rust ${major}.${minor} is too old, ${oldest} or newer is needed; update it with: ${remedy}`,
    );
  }
}

/** @param {string | null | undefined} text */
const firstLine = (text) => (text ?? '').trim().split('\n')[0] || 'no output';

/** Returns once every program is there, or throws a Failure that names what is missing.
 * @param {string[]} programs */
export async function requireTools(programs) {
  const missing = programs.filter((program) => program in debianPackages && !isOnPath(program));
  if (missing.length > 0) await installFromDebian(missing);
  if (programs.includes('cargo')) requireRust();
}

/** @param {string[]} programs */
async function installFromDebian(programs) {
  const packages = programs.flatMap((program) => debianPackages[program]);
  const isDebian = existsSync('/etc/debian_version') && isOnPath('apt-get');
  if (!isDebian)
    throw new Failure(`missing: ${programs.join(', ')}; install them with this system's package manager`);
  if (process.getuid?.() !== 0) {
    throw new Failure(
      `missing: ${programs.join(', ')}; install with: sudo apt-get install -y ${packages.join(' ')}`,
    );
  }
  // Somebody else may be installing at this moment: wait for them rather than fail.
  const apt = ['apt-get', '-o', 'DPkg::Lock::Timeout=300', '-q'];
  const env = { DEBIAN_FRONTEND: 'noninteractive' };
  const hint = `see the output above, or install by hand: apt-get install ${packages.join(' ')}`;
  await runLogged('update the list of Debian packages', [...apt, 'update'], {
    name: 'apt-update',
    env,
    hint,
  });
  await runLogged(
    `install ${packages.join(', ')} from Debian`,
    [...apt, 'install', '-y', '--no-install-recommends', ...packages],
    { name: 'apt-install', env, hint },
  );
}

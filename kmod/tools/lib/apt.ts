/**
 * Debian packages of releases other than the host's, without root and without installing anything. Each release
 * has an apt state of its own in the cache, in which nothing is installed: what is resolved is complete, comes from
 * that release alone, and does not depend on the host. apt checks every signature.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { inCache } from './cache.ts';
import { withLock } from './lock.ts';
import { attempt, need, ToolError } from './run.ts';

export interface Release {
  name: string;
  /** In order; the first is the one that everything but backported kernels comes from. */
  suites: readonly string[];
}

/** Debian's releases with kernels that the module supports (6.1 and newer). */
export const RELEASES: readonly Release[] = [
  { name: 'bookworm', suites: ['bookworm', 'bookworm-security', 'bookworm-backports'] },
  { name: 'trixie', suites: ['trixie', 'trixie-security', 'trixie-backports'] },
  { name: 'sid', suites: ['sid'] },
];

export interface Package {
  name: string;
  version: string;
}

const PUBLIC_MIRROR = 'http://deb.debian.org/debian';
const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';
const FRESH_MS = 86_400_000;
const NETWORK_HINT = 'Check that the Debian mirror can be reached (HYPERFLUX_LAB_MIRROR names another one).';

interface Mirrors {
  main: string;
  security: string;
}

/** From apt's own view of the host's sources: lines of "repository address|label". */
export function mirrorsFrom(targets: string, override = ''): Mirrors {
  const trimmed = (uri: string): string => uri.replace(/\/+$/, '');
  const find = (label: string): string | undefined =>
    targets
      .split('\n')
      .map((line) => line.trim().split('|'))
      .find(([uri, its]) => its === label && /^(https?|mirror\+https?):/.test(uri))?.[0];
  const main = trimmed(override || find('Debian') || PUBLIC_MIRROR);
  const security = override ? undefined : find('Debian-Security');
  return { main, security: trimmed(security ?? `${main}-security`) };
}

async function hostMirrors(): Promise<Mirrors> {
  const format = ['--format', '$(REPO_URI)|$(LABEL)', 'Created-By: Packages'];
  const { code, output } = await attempt(['apt-get', 'indextargets', ...format]);
  if (code === 127)
    throw new ToolError(
      'apt-get is not here',
      'The headers come as Debian packages: run this on Debian or a relative of it.',
    );
  return mirrorsFrom(code === 0 ? output : '', process.env.HYPERFLUX_LAB_MIRROR);
}

const stateOf = (release: Release): string => inCache('apt', release.name);

function options(release: Release): string[] {
  const state = stateOf(release);
  const set = {
    'Dir::Etc::sourcelist': join(state, 'sources.list'),
    'Dir::Etc::sourceparts': '/dev/null',
    'Dir::Etc::preferences': '/dev/null',
    'Dir::Etc::preferencesparts': '/dev/null',
    'Dir::State': state,
    'Dir::State::status': join(state, 'status'),
    'Dir::Cache': state,
    'APT::Architecture': 'amd64',
    'APT::Architectures': 'amd64',
    'APT::Install-Recommends': '0',
    'APT::Sandbox::User': '',
    'Acquire::Languages': 'none',
    'Acquire::IndexTargets::deb::DEP-11::DefaultEnabled': 'false',
    'Acquire::Retries': '3',
  };
  return Object.entries(set).flatMap(([key, value]) => ['-o', `${key}=${value}`]);
}

async function apt(
  release: Release,
  program: string,
  args: readonly string[],
  cwd?: string,
): Promise<string> {
  return need([program, ...options(release), ...args], NETWORK_HINT, { cwd });
}

/** Fetches the lists of packages unless they are less than a day old. */
export async function updateLists(release: Release, refresh: boolean): Promise<void> {
  const state = stateOf(release);
  const mirrors = await hostMirrors();
  const signedBy = existsSync(KEYRING) ? `[signed-by=${KEYRING}] ` : '';
  const sources = release.suites
    .map((suite) => {
      const uri = suite.endsWith('-security') ? mirrors.security : mirrors.main;
      return `deb ${signedBy}${uri} ${suite} main\n`;
    })
    .join('');
  const stamp = join(state, 'updated');
  const same = existsSync(stamp) && readFileSync(stamp, 'utf8') === sources;
  if (same && !refresh && Date.now() - statSync(stamp).mtimeMs < FRESH_MS) return;
  for (const folder of ['lists/partial', 'archives/partial'])
    mkdirSync(join(state, folder), { recursive: true });
  writeFileSync(join(state, 'status'), '');
  writeFileSync(join(state, 'sources.list'), sources);
  await withLock(join(state, 'update.lock'), () =>
    apt(release, 'apt-get', ['-q', '--error-on=any', 'update']),
  );
  writeFileSync(stamp, sources);
}

/** The names of packages that match, as apt-cache search sees them. */
export async function searchNames(release: Release, pattern: string): Promise<string[]> {
  const lines = await apt(release, 'apt-cache', ['search', '--names-only', pattern]);
  return lines
    .split('\n')
    .map((line) => line.split(' - ')[0].trim())
    .filter((name) => name !== '');
}

export interface Described extends Package {
  depends: string;
}

export function parseDescriptions(text: string): Described[] {
  return text
    .split(/\n\s*\n/)
    .map((stanza) => {
      const field = (key: string): string => new RegExp(`^${key}: (.*)$`, 'm').exec(stanza)?.[1] ?? '';
      return { name: field('Package'), version: field('Version'), depends: field('Depends') };
    })
    .filter(({ name }) => name !== '');
}

/** Version and dependencies of the newest version of each package. */
export async function describe(release: Release, names: readonly string[]): Promise<Described[]> {
  if (names.length === 0) return [];
  return parseDescriptions(await apt(release, 'apt-cache', ['show', '--no-all-versions', ...names]));
}

/** These packages and all that they depend on. */
export async function closure(release: Release, names: readonly string[]): Promise<Package[]> {
  const lines = await apt(release, 'apt-get', [
    '-qq',
    '--print-uris',
    '-t',
    release.suites[0],
    'install',
    ...names,
  ]);
  return lines
    .split('\n')
    .map((line) => decodeURIComponent(line.split(' ')[1] ?? '').split('_'))
    .filter((parts) => parts.length === 3)
    .map(([name, version]) => ({ name, version }));
}

/** Downloads packages and unpacks them into a folder. */
export async function unpack(release: Release, packages: readonly Package[], folder: string): Promise<void> {
  const files = join(folder, 'debs');
  mkdirSync(files, { recursive: true });
  const wanted = packages.map(({ name, version }) => (version === '' ? name : `${name}=${version}`));
  await apt(release, 'apt-get', ['-q', 'download', ...wanted], files);
  for (const file of readdirSync(files).filter((name) => name.endsWith('.deb'))) {
    await need(['dpkg-deb', '-x', join(files, file), join(folder, 'root')], 'Is the disk full? See: df -h');
    // Removed at once: a header tree is big enough without its package beside it.
    await need(['rm', join(files, file)], 'Is the cache writable?');
  }
}

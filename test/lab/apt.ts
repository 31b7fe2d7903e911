/**
 * Debian packages without installing anything and without root: apt runs on a state of its own in the cache. It
 * has its own list of sources and believes that nothing is installed, so that what it resolves is complete and
 * does not depend on the host.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { labError } from './fail.ts';
import { inCache } from './paths.ts';
import { step } from './progress.ts';
import { needProgram, run } from './run.ts';
import type { Mirrors } from './sources.ts';
import { findMirrors, sourcesList } from './sources.ts';

const LISTS_FRESH_MS = 7 * 86_400_000;
const noNetwork =
  'The lab fetches Debian packages once. Check that the mirror can be reached (HYPERFLUX_LAB_MIRROR names another), then run it again.';

export interface Package {
  name: string;
  version: string;
}

function hostSources(): string[] {
  const folder = '/etc/apt/sources.list.d';
  const names = existsSync(folder) ? readdirSync(folder).filter((n) => /\.(list|sources)$/.test(n)) : [];
  const files = ['/etc/apt/sources.list', ...names.map((name) => join(folder, name))];
  return files.filter((file) => existsSync(file)).map((file) => readFileSync(file, 'utf8'));
}

/** Debian's keys: a host that is not Debian has them in the same package. */
function keyring(mirrors: Mirrors): string {
  const places = [
    mirrors.signedBy,
    '/usr/share/keyrings/debian-archive-keyring.gpg',
    '/etc/apt/trusted.gpg.d',
  ];
  const found = places.find((path) => path !== undefined && existsSync(path));
  if (found !== undefined && statSync(found).isFile()) return found;
  throw labError(
    "Debian's archive keys are not on this host",
    'Install them: sudo apt-get install debian-archive-keyring',
  );
}

function options(): string[] {
  const state = inCache('apt');
  const set = {
    'Dir::Etc::sourcelist': join(state, 'sources.list'),
    'Dir::Etc::sourceparts': '/dev/null',
    'Dir::Etc::preferences': '/dev/null',
    'Dir::Etc::preferencesparts': '/dev/null',
    'Dir::State': state,
    'Dir::State::status': join(state, 'status'),
    'Dir::Cache': state,
    'APT::Architecture': 'amd64',
    'APT::Install-Recommends': '0',
    'APT::Sandbox::User': '',
    'Acquire::Languages': 'none',
    'Acquire::IndexTargets::deb::DEP-11::DefaultEnabled': 'false',
    'Acquire::Retries': '3',
    'DPkg::Lock::Timeout': '300',
  };
  return Object.entries(set).flatMap(([key, value]) => ['-o', `${key}=${value}`]);
}

async function aptGet(args: readonly string[], cwd?: string): Promise<string> {
  const program = needProgram(
    'apt-get',
    'The lab takes QEMU and kernels from Debian: it needs apt and dpkg.',
  );
  // The hooks of the host's configuration are for its own package state.
  return run([program, ...options(), ...args], { cwd, hint: noNetwork });
}

/** Makes the lists of packages current, unless they are, or `refresh` asks for it. */
export async function updateLists(refresh: boolean): Promise<void> {
  const state = inCache('apt');
  const stamp = join(state, 'updated');
  const mirrors = findMirrors(hostSources(), process.env.HYPERFLUX_LAB_MIRROR);
  const sources = sourcesList(mirrors, keyring(mirrors));
  const same = existsSync(stamp) && readFileSync(stamp, 'utf8') === sources;
  if (same && !refresh && Date.now() - statSync(stamp).mtimeMs < LISTS_FRESH_MS) return;
  for (const folder of ['lists/partial', 'archives/partial'])
    mkdirSync(join(state, folder), { recursive: true });
  writeFileSync(join(state, 'status'), '');
  writeFileSync(join(state, 'sources.list'), sources);
  await step("fetch the lists of Debian's packages", () => aptGet(['-q', '--error-on=any', 'update']));
  writeFileSync(stamp, sources);
}

/** A package's file name as apt prints it, with its escapes: name_version_architecture.deb */
export function parseFileName(file: string): Package | undefined {
  const [name, version] = decodeURIComponent(file).split('_');
  return version === undefined ? undefined : { name, version };
}

/** These packages and all that they depend on. */
export async function closure(names: readonly string[], release?: string): Promise<Package[]> {
  const target = release === undefined ? [] : ['-t', release];
  const lines = await aptGet(['-qq', '--print-uris', ...target, 'install', ...names]);
  return lines
    .split('\n')
    .map((line) => parseFileName(line.split(' ')[1] ?? ''))
    .filter((found) => found !== undefined);
}

/** Fetches packages (apt checks their signatures) and unpacks them into one folder. */
export async function unpack(packages: readonly Package[], folder: string): Promise<void> {
  const dpkg = needProgram('dpkg-deb', 'Install dpkg; the lab unpacks Debian packages with it.');
  const files = `${folder}.debs`;
  mkdirSync(files, { recursive: true });
  mkdirSync(folder, { recursive: true });
  await aptGet(['-q', 'download', ...packages.map(({ name, version }) => `${name}=${version}`)], files);
  for (const file of readdirSync(files)) {
    await run([dpkg, '-x', join(files, file), folder], { hint: 'See whether the disk is full: df -h' });
  }
}

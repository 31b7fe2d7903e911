/** Which kernels Debian offers headers for, and which of them stand for the others. */
import type { Described, Package, Release } from './apt.ts';
import { describe, searchNames } from './apt.ts';

export interface HeaderSet {
  /** As uname -r says it: 6.12.117+deb13-rt-amd64 */
  kernel: string;
  /** What it is compared by: 6.12 of deb13, flavour rt. */
  series: string;
  release: Release;
  /** The version of the Debian package. */
  version: string;
  /** The package with the compiler that this kernel was built with, as gcc-14. */
  compiler: string;
  /** Headers, common headers, kbuild. */
  packages: Package[];
}

const HEADERS = /^linux-headers-((\d+)\.(\d+)\.\d\S*?)-(?:(cloud|rt)-)?amd64$/;

/** 6.1 or 6.12+deb13, and the flavour: a package's name has all of it. */
export function seriesOf(name: string): string | undefined {
  const found = HEADERS.exec(name);
  if (!found) return undefined;
  const [, abi, major, minor, flavour] = found;
  const built = /\+(deb\d+)/.exec(abi)?.[1];
  return `${major}.${minor}${built ? `+${built}` : ''} ${flavour ?? 'generic'}`;
}

/** Compares two names by the numbers in them: 6.1.0-9 comes before 6.1.0-10. */
export function byNumbers(a: string, b: string): number {
  const numbers = (text: string): number[] => (text.match(/\d+/g) ?? []).map(Number);
  const [left, right] = [numbers(a), numbers(b)];
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return a < b ? -1 : a > b ? 1 : 0;
}

/** The oldest series that is supported is 6.1. */
const isSupported = (name: string): boolean => byNumbers(name.replace(/^\D+/, ''), '6.1') >= 0;

/** The same for kernels whose headers lie in one folder of the cache. */
export const groupKey = ({ release, version, compiler }: HeaderSet): string =>
  `${release.name} ${version} ${compiler}`;

/** What a headers package needs of the other packages, from its dependencies. Undefined where that is not understood. */
export function headerSet(release: Release, described: Described): HeaderSet | undefined {
  const series = seriesOf(described.name);
  const common = /linux-headers-[^\s,]*-common(?:-rt)?(?= \(=)|linux-headers-[^\s,]*-common(?:-rt)?/.exec(
    described.depends,
  )?.[0];
  const kbuild = /linux-kbuild-[^\s,]+/.exec(described.depends)?.[0];
  const compiler = /(?:^|[\s,])(?:linux-compiler-)?(gcc-\d+)/.exec(described.depends)?.[1];
  if (series === undefined || !common || !kbuild || !compiler) return undefined;
  const { name, version } = described;
  return {
    kernel: name.replace(/^linux-headers-/, ''),
    series,
    release,
    version,
    compiler,
    packages: [
      { name, version },
      { name: common, version },
      // The kbuild package of 6.1 is shared by all ABIs: the newest fits.
      { name: kbuild, version: '' },
    ],
  };
}

/** The newest of each series and flavour, or all of them; oldest kernels first. */
export function choose(sets: readonly HeaderSet[], every: boolean): HeaderSet[] {
  const sorted = [...sets].sort((a, b) => byNumbers(a.kernel, b.kernel));
  // One kernel may be in two releases while it migrates: compiled against once.
  const unique = [...new Map(sorted.map((set) => [set.kernel, set])).values()];
  if (every) return unique;
  return [...new Map(unique.map((set) => [set.series, set])).values()].sort((a, b) =>
    byNumbers(a.kernel, b.kernel),
  );
}

export async function offered(release: Release): Promise<HeaderSet[]> {
  const names = await searchNames(release, '^linux-headers-[0-9].*amd64$');
  const wanted = names.filter((name) => seriesOf(name) !== undefined && isSupported(name));
  const sets = (await describe(release, wanted)).map((found) => headerSet(release, found));
  return sets.filter((set) => set !== undefined);
}

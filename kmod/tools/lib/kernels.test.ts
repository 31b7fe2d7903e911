import { expect, test } from 'vitest';
import { RELEASES, mirrorsFrom, parseDescriptions } from './apt.ts';
import { byNumbers, choose, headerSet, seriesOf } from './kernels.ts';
import type { HeaderSet } from './kernels.ts';

const described = (name: string, depends: string): { name: string; version: string; depends: string } => ({
  name,
  version: '1',
  depends,
});

test('a series is the version, the release it was built for, and the flavour', () => {
  expect(seriesOf('linux-headers-6.1.0-56-amd64')).toBe('6.1 generic');
  expect(seriesOf('linux-headers-6.12.117+deb13-rt-amd64')).toBe('6.12+deb13 rt');
  expect(seriesOf('linux-headers-6.12.115+deb13.1-cloud-amd64')).toBe('6.12+deb13 cloud');
});

test('metapackages and common headers are no kernels', () => {
  for (const name of ['linux-headers-6.12-amd64', 'linux-headers-6.1.0-56-common', 'linux-headers-amd64'])
    expect(seriesOf(name)).toBeUndefined();
});

test('names are compared by their numbers', () => {
  expect(['6.1.0-9', '6.12.1', '6.1.0-10', '6.2.0'].sort(byNumbers)).toEqual([
    '6.1.0-9',
    '6.1.0-10',
    '6.2.0',
    '6.12.1',
  ]);
});

test('the three ways in which headers name their compiler', () => {
  const compilerOf = (depends: string): string | undefined =>
    headerSet(RELEASES[0], described('linux-headers-6.12.1+deb13-amd64', depends))?.compiler;
  const others = 'linux-headers-6.12.1+deb13-common (= 1), linux-kbuild-6.12.1+deb13';
  expect(compilerOf(`${others}, linux-compiler-gcc-12-x86`)).toBe('gcc-12');
  expect(compilerOf(`${others}, gcc-14`)).toBe('gcc-14');
  expect(compilerOf(`gcc-16-for-host, ${others}`)).toBe('gcc-16');
  expect(compilerOf(others)).toBeUndefined();
});

test('a real-time kernel has common headers of its own', () => {
  const set = headerSet(
    RELEASES[0],
    described(
      'linux-headers-6.1.0-56-rt-amd64',
      'linux-headers-6.1.0-56-common-rt (= 1), linux-kbuild-6.1 (>= 1), linux-compiler-gcc-12-x86',
    ),
  );
  expect(set?.packages.map(({ name }) => name)).toEqual([
    'linux-headers-6.1.0-56-rt-amd64',
    'linux-headers-6.1.0-56-common-rt',
    'linux-kbuild-6.1',
  ]);
});

test('the newest of each series stands for it, unless every one is asked for', () => {
  const set = (kernel: string): HeaderSet => ({
    kernel,
    series: seriesOf(`linux-headers-${kernel}`)!,
    release: RELEASES[0],
    version: '1',
    compiler: 'gcc-12',
    packages: [],
  });
  const all = ['6.1.0-9-amd64', '6.1.0-10-amd64', '6.1.0-10-amd64', '6.1.0-9-rt-amd64'].map(set);
  expect(choose(all, false).map(({ kernel }) => kernel)).toEqual(['6.1.0-9-rt-amd64', '6.1.0-10-amd64']);
  expect(choose(all, true)).toHaveLength(3);
});

test("the mirror is the host's, the public one, or the one that is named", () => {
  const targets =
    'http://mirror.test/debian/|Debian\nhttp://mirror.test/sec/|Debian-Security\nhttp://other.test/|Node Source\n';
  expect(mirrorsFrom(targets)).toEqual({
    main: 'http://mirror.test/debian',
    security: 'http://mirror.test/sec',
  });
  expect(mirrorsFrom('').main).toBe('http://deb.debian.org/debian');
  expect(mirrorsFrom(targets, 'http://named.test/debian/')).toEqual({
    main: 'http://named.test/debian',
    security: 'http://named.test/debian-security',
  });
});

test('descriptions of packages', () => {
  expect(parseDescriptions('Package: a\nVersion: 1\nDepends: b, c\n\nPackage: d\nVersion: 2\n')).toEqual([
    { name: 'a', version: '1', depends: 'b, c' },
    { name: 'd', version: '2', depends: '' },
  ]);
});

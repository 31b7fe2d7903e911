/** Building the kernel module: which kernel, what is missing, and a clone that stays clean. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { buildModule, builtModule } from '../../arbiter/kmod/build.ts';
import { findKernel } from '../../arbiter/kmod/kernel.ts';
import { copySources, moduleSources } from '../../arbiter/kmod/sources.ts';
import type { FakeHost } from './kmod-host.ts';
import { fails, fakeClone, fakeHost, moduleFile, ok, RELEASE, headers, thrown } from './kmod-host.ts';

let host: FakeHost;
beforeEach(() => void (host = fakeHost()));
afterEach(() => host.end());

describe('the kernel to build for', () => {
  const tools = (): void => void (host.programs = { make: () => ok(), gcc: () => ok() });

  test.each([
    ['debian', 'ID=debian', 'apt-get install linux-headers-6.1.0-56-amd64'],
    ['ubuntu', 'ID=ubuntu\nID_LIKE=debian', 'apt-get install linux-headers-'],
    ['fedora', 'ID=fedora', 'dnf install kernel-devel-6.1.0-56-amd64'],
    ['rocky', 'ID="rocky"\nID_LIKE="rhel centos fedora"', 'dnf install kernel-devel-'],
    ['arch', 'ID=arch', 'pacman -S linux-headers'],
    ['another', 'ID=nixos', 'linux-headers-6.1.0-56-amd64 (Debian)'],
  ])('no headers on %s: the package is named', async (_name, os, says) => {
    host.write('/etc/os-release', `${os}\n`);
    const { message, hint } = await thrown(() => findKernel(host));
    expect(message).toContain('headers of kernel 6.1.0-56-amd64 are not installed');
    expect(hint).toContain(says);
  });

  test('a link that leads nowhere is no headers', async () => {
    host.link(`/lib/modules/${RELEASE}/build`, '/usr/src/removed');
    expect((await thrown(() => findKernel(host))).message).toContain('not installed');
  });

  test.each(['5.10.0-1-amd64', '6.0.12', '4.19.0'])('%s is too old', async (release) => {
    expect((await thrown(() => findKernel(host, release))).message).toContain('too old: kFlux needs 6.1');
  });

  test.each(['6.1.0', '6.10.3-arch1-1', '7.0.0-rc1', '10.2'])('%s is not', async (release) => {
    expect((await thrown(() => findKernel(host, release))).message).toContain('not installed');
  });

  test('a name that is none', async () => {
    expect((await thrown(() => findKernel(host, 'latest'))).message).toContain('no kernel release');
    expect((await thrown(() => findKernel(host, '/nonexistent/linux'))).message).toContain('no folder');
    host.write('/etc/motd', '');
    expect((await thrown(() => findKernel(host, host.at('/etc')))).message).toContain('not the build folder');
  });

  test('no make, no compiler, no modules, no KVM', async () => {
    headers(host);
    expect((await thrown(() => findKernel(host))).message).toBe('make is missing');
    host.programs = { make: () => ok() };
    expect((await thrown(() => findKernel(host))).message).toContain('no C compiler');
    headers(host, RELEASE, 'CONFIG_PREEMPT_NOTIFIERS=y\n');
    expect((await thrown(() => findKernel(host))).message).toContain('without modules');
    headers(host, RELEASE, 'CONFIG_MODULES=y\n');
    expect((await thrown(() => findKernel(host))).message).toContain('preemption notifiers');
  });

  test("the kernel's compiler is taken where it is there", () => {
    tools();
    const build = headers(host);
    expect(findKernel(host)).toMatchObject({ release: RELEASE, compiler: 'gcc' });
    host.write(`${build}/.kernelvariables`, 'CC = $(CROSS_COMPILE)gcc-12\n');
    expect(findKernel(host).makeArguments).toEqual(['CC=gcc']);
    host.programs['gcc-12'] = () => ok();
    expect(findKernel(host)).toMatchObject({ compiler: 'gcc-12', makeArguments: ['CC=gcc-12'] });
  });

  test('a kernel of clang wants clang', async () => {
    tools();
    headers(host, RELEASE, 'CONFIG_MODULES=y\nCONFIG_PREEMPT_NOTIFIERS=y\nCONFIG_CC_IS_CLANG=y\n');
    expect((await thrown(() => findKernel(host))).message).toContain('clang and ld.lld is missing');
    host.programs = { ...host.programs, clang: () => ok(), 'ld.lld': () => ok() };
    expect(findKernel(host).makeArguments).toEqual(['LLVM=1']);
  });

  test('a folder, and the folder of a release', () => {
    tools();
    headers(host, '6.12.9');
    expect(findKernel(host, host.at('/lib/modules/6.12.9/build')).release).toBe('6.12.9');
    expect(findKernel(host, host.at('/lib/modules/6.12.9'))).toMatchObject({
      release: '6.12.9',
      build: host.at('/lib/modules/6.12.9/build'),
    });
  });
});

describe('build', () => {
  const make = (result: () => ReturnType<typeof ok>, version = '0.1.0'): string => {
    const clone = fakeClone(host);
    headers(host);
    host.programs = {
      gcc: () => ok(),
      make: () => {
        writeFileSync(builtModule(RELEASE, clone), moduleFile(version));
        return result();
      },
    };
    return clone;
  };

  test('from a copy: the clone stays as it was', async () => {
    const clone = make(() => ok('CC [M] main.o'));
    const built = await buildModule(host, { clone });
    expect(built).toMatchObject({ release: RELEASE, version: '0.1.0', signed: false, notes: [] });
    expect(built.module).toBe(join(clone, `.build/kmod/${RELEASE}/kmod/kflux.ko`));
    expect(host.ran[0]).toContain(
      `-C ${host.at(`/lib/modules/${RELEASE}/build`)} M=${clone}/.build/kmod/${RELEASE}/kmod`,
    );
    expect(existsSync(join(clone, 'kmod/kflux.ko'))).toBe(false);
    expect(existsSync(join(clone, `.build/kmod/${RELEASE}/abi/kflux.h`))).toBe(true);
    expect(readFileSync(built.log, 'utf8')).toBe('CC [M] main.o');
  });

  test("the compiler's words are shown, and where the rest is", async () => {
    const clone = make(() =>
      fails("make: Entering\nkmod/main.c:3:1: error: expected ';'\nmake: *** Error 1"),
    );
    const { message, hint } = await thrown(() => buildModule(host, { clone }));
    expect(message).toContain("kmod/main.c:3:1: error: expected ';'");
    expect(message).not.toContain('Entering');
    expect(hint).toContain('build.log');
  });

  test('a signature is needed: how', async () => {
    host.write('/sys/kernel/security/lockdown', 'none [integrity] confidentiality');
    const clone = make(() => ok());
    const { notes } = await buildModule(host, { clone });
    expect(notes.join('\n')).toMatch(/mokutil --import[^]*sign-file sha256/);
  });

  test('in a container, and for another kernel: said', async () => {
    host.write('/run/.containerenv', '');
    host.release = '6.12.0-other';
    const clone = make(() => ok());
    const { notes } = await buildModule(host, { clone, kernel: RELEASE });
    expect(notes.join('\n')).toMatch(/kernel that runs is 6\.12\.0-other[^]*container \(podman\)/);
  });

  test('sources: no tests, nothing built; copies follow them', async () => {
    const clone = fakeClone(host);
    const files = moduleSources(clone);
    expect(files).toEqual(['abi/kflux.h', 'kmod/Makefile', 'kmod/main.c']);
    const folder = host.at('/copy');
    expect(copySources(files, folder, clone)).toBe(true);
    expect(copySources(files, folder, clone)).toBe(false);
    host.write('/copy/kmod/old.c', '');
    host.write('/copy/kmod/main.o', '');
    expect(copySources(files, folder, clone)).toBe(true);
    expect([host.read('/copy/kmod/old.c'), host.read('/copy/kmod/main.o')]).toEqual([undefined, '']);
    host.remove('/clone/kmod/main.c');
    expect((await thrown(() => moduleSources(clone))).message).toContain('sources are not in');
  });
});

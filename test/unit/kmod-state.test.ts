/** What the kernel module's command sees of a machine: versions, permissions, holders. Machines are folders here. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { describe as describeHolder, holders } from '../../arbiter/kmod/holders.ts';
import { CLONE_ABI, CLONE_VERSION } from '../../arbiter/kmod/names.ts';
import { security } from '../../arbiter/kmod/security.ts';
import { kmodStatus, renderStatus } from '../../arbiter/kmod/status.ts';
import { kfluxUsable } from '../../arbiter/kmod/usable.ts';
import { checkKflux } from '../../arbiter/observe/kflux.ts';
import type { FakeHost } from './kmod-host.ts';
import { fakeHost, moduleFile, RELEASE, showLoaded, showProcess, headers } from './kmod-host.ts';

let host: FakeHost;
beforeEach(() => void (host = fakeHost()));
afterEach(() => host.end());

describe('whether it can be used', () => {
  const level = (): string[] => checkKflux(host).map(({ name, level }) => `${name} ${level}`);

  test('not loaded', () => {
    expect(kfluxUsable(host)).toMatchObject({
      usable: false,
      why: expect.stringContaining('not loaded') as string,
    });
    expect(level()).toEqual(['kflux warn', 'claim ok']);
  });

  test('loaded, of this version, and permitted', () => {
    showLoaded(host);
    expect(kfluxUsable(host)).toEqual({ usable: true, why: 'kFlux 0.1.0 with ABI 1.0 is loaded' });
    expect(level()).toEqual(['kflux ok', 'device ok', 'claim ok']);
  });

  test('another major: both versions are named', () => {
    showLoaded(host, { version: '0.0.3', abi: '0.9' });
    const { usable, why, hint } = kfluxUsable(host);
    expect(usable).toBe(false);
    expect(why).toBe(
      `kFlux 0.0.3 with ABI 0.9 is loaded, this arbiter is ${CLONE_VERSION} with ABI ${CLONE_ABI}`,
    );
    expect(hint).toContain('kmod');
    expect(renderStatus(kmodStatus(host))).toContain('kFlux 0.0.3 with ABI 0.9, this arbiter is');
  });

  test('a module that says nothing of its ABI is not ours', () => {
    showLoaded(host);
    host.remove('/sys/class/misc/kflux/abi');
    expect(kfluxUsable(host).why).toContain('ABI unknown');
  });

  test('another minor and version go together, and doctor says so', () => {
    showLoaded(host, { version: '0.2.0', abi: '1.7' });
    expect(kfluxUsable(host).usable).toBe(true);
    expect(checkKflux(host)[0]).toMatchObject({
      level: 'ok',
      text: expect.stringContaining(`this clone: ${CLONE_VERSION}`) as string,
    });
  });

  test('it is going at this moment', () => {
    showLoaded(host);
    host.write('/sys/module/kflux/initstate', 'going\n');
    expect(kfluxUsable(host).why).toContain('going');
  });

  test('no device', () => {
    showLoaded(host);
    host.remove('/dev/kflux');
    expect(kfluxUsable(host).why).toContain('there is no /dev/kflux');
    expect(level()).toEqual(['kflux ok', 'device warn', 'claim ok']);
  });

  test('not in the group: which, and how to join', () => {
    showLoaded(host);
    host.refused = 'EACCES';
    host.write('/etc/group', `hyperflux:x:${process.getgid?.() ?? 0}:\n`);
    expect(kfluxUsable(host)).toMatchObject({
      usable: false,
      hint: expect.stringContaining('usermod -aG hyperflux') as string,
    });
    host.write('/etc/group', 'root:x:0:\n');
    expect(kfluxUsable(host).hint).toContain('udev rule');
    host.refused = 'ENXIO';
    expect(kfluxUsable(host).why).toContain('ENXIO');
  });

  test('no CAP_SYS_NICE, or only in another user namespace', () => {
    showLoaded(host);
    // All but bit 23.
    host.write('/proc/self/status', 'CapEff:\t000001ffff7fffff\n');
    expect(kfluxUsable(host)).toMatchObject({
      usable: false,
      why: expect.stringContaining('CAP_SYS_NICE') as string,
    });
    host.write('/proc/self/status', 'CapEff:\t0000000000800000\n');
    expect(kfluxUsable(host).usable).toBe(true);
    host.remove('/proc/self/ns/user');
    host.link('/proc/self/ns/user', 'user:[4026532200]');
    expect(kfluxUsable(host).why).toContain('user namespace');
    expect(level()).toEqual(['kflux ok', 'device ok', 'claim warn']);
  });
});

describe('security', () => {
  test.each([
    ['[none] integrity confidentiality', false],
    ['none [integrity] confidentiality', true],
    ['none integrity [confidentiality]', true],
  ])('lockdown %s', (text, signed) => {
    host.write('/sys/kernel/security/lockdown', text);
    expect(security(host)).toMatchObject({ signed, secureBoot: undefined, container: '', modules: true });
  });

  test('enforced signatures, Secure Boot, containers, no modules', () => {
    host.write('/sys/module/module/parameters/sig_enforce', 'Y\n');
    host.write(
      '/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c',
      Buffer.from([6, 0, 0, 0, 1]),
    );
    host.write('/proc/1/environ', 'PATH=/bin\0container=lxc\0');
    host.remove('/proc/modules');
    expect(security(host)).toEqual({
      ...{ lockdown: 'unknown', secureBoot: true, signed: true, container: 'lxc', modules: false },
    });
    host.write('/run/.containerenv', '');
    expect(security(host).container).toBe('podman');
  });
});

describe('who holds it', () => {
  test.each([
    [['/opt/fluxion', '--name', 'web', '--vcpus', '2'], 'VM web'],
    [['node', '/hf/arbiter/process/main.ts', '{}'], 'the arbiter'],
    [['node', '/hf/arbiter/control/main.ts', '{}'], 'hyperfluxd'],
    [['node', '/hf/arbiter/cli/main.ts', 'start', '--foreground'], 'hyperfluxd'],
    [['sleep', '5'], 'sleep'],
  ])('%j', (words, what) => expect(describeHolder(words, words[0])).toBe(what));

  test('descriptors and mappings count, other files do not', () => {
    showProcess(host, 10, ['node', '/hf/arbiter/process/main.ts'], ['/dev/null', '/dev/kflux']);
    showProcess(host, 9, ['/opt/fluxion', '--name', 'web'], ['anon_inode:kflux-vm']);
    showProcess(host, 11, ['cat'], ['anon_inode:[eventfd]', '/dev/kvm']);
    showProcess(host, 12, ['viewer'], []);
    host.write('/proc/12/maps', '7f00-7f01 r--s 00000000 00:06 123 /dev/kflux\n');
    showProcess(host, 13, ['/opt/fluxion', '--name', 'bulk'], []);
    host.write('/proc/13/maps', '7f00-7f01 r--s 00000000 00:0f 124 anon_inode:kflux-map\n');
    expect(holders(host)).toEqual([
      { pid: 9, what: 'VM web' },
      { pid: 10, what: 'the arbiter' },
      { pid: 12, what: 'viewer' },
      { pid: 13, what: 'VM bulk' },
    ]);
  });
});

describe('status', () => {
  test('nothing there', () => {
    const text = renderStatus(kmodStatus(host, host.at('/clone')));
    expect(text).toMatch(/module +kflux: not loaded/);
    expect(text).toContain(`clone      version ${CLONE_VERSION}, ABI ${CLONE_ABI}`);
    expect(text).toContain('headers not installed');
  });

  test('all of it', () => {
    showLoaded(host, { refcount: 2 });
    headers(host);
    host.write('/sys/kernel/security/lockdown', '[none] integrity confidentiality');
    host.write(`/lib/modules/${RELEASE}/updates/kflux.ko`, moduleFile());
    host.write('/sys/kernel/debug/kflux/cores', 'core owner\n1 web.0\n');
    showProcess(host, 40, ['node', '/hf/arbiter/process/main.ts'], ['/dev/kflux']);
    const status = kmodStatus(host, host.at('/clone'));
    expect(status).toMatchObject({
      module: { loaded: true, version: '0.1.0', abi: '1.0', refcount: 2 },
      mismatch: '',
      usable: { usable: true },
      headers: true,
      installed: { path: `/lib/modules/${RELEASE}/updates/kflux.ko`, version: '0.1.0' },
      built: null,
    });
    const text = renderStatus(status);
    for (const part of [
      'used 2 times',
      'this user may claim',
      'lockdown none',
      'the arbiter (process 40)',
      '1 web.0',
    ])
      expect(text).toContain(part);
  });
});

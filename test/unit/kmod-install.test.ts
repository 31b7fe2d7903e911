/** Installing the kernel module, with DKMS and without, and taking it away again. */
import { existsSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { builtModule } from '../../arbiter/kmod/build.ts';
import { parseStatus } from '../../arbiter/kmod/dkms.ts';
import { installModule, uninstallModule } from '../../arbiter/kmod/install.ts';
import { readModule } from '../../arbiter/kmod/modinfo.ts';
import type { FakeHost } from './kmod-host.ts';
import {
  fails,
  fakeClone,
  fakeHost,
  moduleFile,
  ok,
  RELEASE,
  showLoaded,
  headers,
  thrown,
} from './kmod-host.ts';

let host: FakeHost;
beforeEach(() => void (host = fakeHost()));
afterEach(() => host.end());

describe('install', () => {
  const group = (): ReturnType<typeof ok> => {
    host.write('/etc/group', 'root:x:0:\nhyperflux:x:995:\n');
    return ok();
  };

  test('without DKMS: built, copied, depmod; a second time nothing', async () => {
    const clone = fakeClone(host);
    headers(host);
    host.programs = {
      gcc: () => ok(),
      make: () => (writeFileSync(builtModule(RELEASE, clone), moduleFile()), ok()),
      depmod: () => (host.write(`/lib/modules/${RELEASE}/modules.dep`, 'updates/kflux.ko:\n'), ok()),
      groupadd: group,
      udevadm: () => ok(),
    };
    const dry = await installModule(host, { clone, dryRun: true });
    expect(new Set(dry.map(({ state }) => state))).toEqual(new Set(['would']));
    expect(existsSync(host.at('/clone/.build/kmod'))).toBe(false);
    expect(host.ran).toEqual([]);
    const steps = await installModule(host, { clone });
    expect(new Set(steps.map(({ state }) => state))).toEqual(new Set(['done']));
    expect(host.ran.map((command) => command.split(' ')[0])).toEqual([
      'make',
      'depmod',
      'groupadd',
      'udevadm',
    ]);
    expect(host.read('/etc/udev/rules.d/60-hyperflux.rules')).toBe('60-hyperflux.rules\n');
    expect(readModule(host.at(`/lib/modules/${RELEASE}/updates/kflux.ko`))?.version).toBe('0.1.0');
    const again = await installModule(host, { clone });
    expect(new Set(again.map(({ state }) => state))).toEqual(new Set(['unchanged']));
    expect(host.ran.length).toBe(4);
    // Other sources of the same version are another module.
    host.write('/clone/kmod/main.c', 'other\n');
    const changed = (await installModule(host, { clone })).filter(({ state }) => state === 'done');
    expect(changed.map(({ what }) => what.split(' ')[0])).toEqual(['build']);
    // One kind takes the other's place.
    host.programs.dkms = ([verb]) =>
      ok(verb === 'status' ? `kflux/0.1.0, ${RELEASE}, x86_64: installed\n` : '');
    await installModule(host, { clone });
    expect(existsSync(host.at(`/lib/modules/${RELEASE}/updates/kflux.ko`))).toBe(false);
    await installModule(host, { clone, dkms: false });
    expect(host.ran).toContain('dkms remove kflux/0.1.0 --all');
  });

  test('depmod is missing: said, and done by the next run', async () => {
    const clone = fakeClone(host);
    headers(host);
    host.programs = {
      gcc: () => ok(),
      make: () => (writeFileSync(builtModule(RELEASE, clone), moduleFile()), ok()),
      groupadd: group,
    };
    expect((await thrown(() => installModule(host, { clone }))).message).toBe('depmod is missing');
    host.programs.depmod = () => (
      host.write(`/lib/modules/${RELEASE}/modules.dep`, 'updates/kflux.ko:\n'),
      ok()
    );
    await installModule(host, { clone });
    expect(host.ran).toContain(`depmod ${RELEASE}`);
  });

  test('with DKMS: sources, then its own build; other sources replace what it has', async () => {
    const clone = fakeClone(host);
    let status = '';
    host.programs = {
      dkms: ([verb]) => {
        if (verb === 'install') status = `kflux/0.1.0, ${RELEASE}, x86_64: installed\n`;
        if (verb === 'remove') status = '';
        return ok(verb === 'status' ? status : '');
      },
      'systemd-sysusers': group,
    };
    await installModule(host, { clone });
    expect(host.read('/usr/src/kflux-0.1.0/dkms.conf')).toBe('dkms.conf\n');
    expect(host.ran).toContain(`dkms install kflux/0.1.0 -k ${RELEASE}`);
    const again = await installModule(host, { clone });
    expect(new Set(again.map(({ state }) => state))).toEqual(new Set(['unchanged']));
    host.write('/clone/kmod/main.c', 'other\n');
    await installModule(host, { clone });
    expect(host.ran).toContain('dkms remove kflux/0.1.0 --all');
    expect(host.read('/usr/src/kflux-0.1.0/kmod/main.c')).toBe('other\n');
  });

  test('a build that fails leaves nothing behind', async () => {
    const clone = fakeClone(host);
    headers(host);
    host.programs = { gcc: () => ok(), make: () => fails('error: no'), groupadd: group };
    await thrown(() => installModule(host, { clone }));
    expect(host.read('/etc/udev/rules.d/60-hyperflux.rules')).toBeUndefined();
  });

  test('only root; a dry run is for everybody', async () => {
    host.uid = 1000;
    const clone = fakeClone(host);
    expect(await thrown(() => installModule(host, { clone }))).toMatchObject({ code: 'permission' });
    expect(await thrown(() => uninstallModule(host))).toMatchObject({ code: 'permission' });
    expect((await installModule(host, { clone, dryRun: true })).length).toBeGreaterThan(3);
  });

  test('uninstall takes away what install brought, of every version and kernel', async () => {
    const versions = 'kflux/0.0.9, 6.1.0-1-amd64, x86_64: installed\nkflux/0.1.0: added\n';
    host.programs = { dkms: ([verb]) => ok(verb === 'status' ? versions : ''), depmod: () => ok() };
    host.write('/lib/modules/6.5.0/updates/kflux.ko', 'x');
    host.write('/usr/src/kflux-0.1.0/dkms.conf', 'x');
    host.write('/etc/udev/rules.d/60-hyperflux.rules', 'x');
    await uninstallModule(host, { dryRun: true });
    expect(host.read('/etc/udev/rules.d/60-hyperflux.rules')).toBe('x');
    await uninstallModule(host);
    expect(host.ran.filter((command) => !command.endsWith('status kflux'))).toEqual([
      'dkms remove kflux/0.0.9 --all',
      'dkms remove kflux/0.1.0 --all',
      'depmod 6.5.0',
    ]);
    for (const path of [
      '/lib/modules/6.5.0/updates/kflux.ko',
      '/usr/src/kflux-0.1.0',
      '/etc/udev/rules.d/60-hyperflux.rules',
    ])
      expect(existsSync(host.at(path)), path).toBe(false);
  });

  test('uninstall while it is in use', async () => {
    showLoaded(host, { refcount: 1 });
    host.write('/etc/udev/rules.d/60-hyperflux.rules', 'x');
    expect((await thrown(() => uninstallModule(host))).code).toBe('busy');
    expect(host.read('/etc/udev/rules.d/60-hyperflux.rules')).toBe('x');
  });
});

test('what DKMS says, since 3 and before', () => {
  const text = [
    'kflux/0.1.0, 6.1.0-56-amd64, x86_64: installed',
    'kflux/0.1.0: added',
    'kflux, 0.0.9, 5.10.0, x86_64: built',
    'zfs/2.1, 6.1.0, x86_64: installed',
  ].join('\n');
  expect(parseStatus(text)).toEqual([
    { version: '0.1.0', release: '6.1.0-56-amd64', state: 'installed' },
    { version: '0.1.0', release: '', state: 'added' },
    { version: '0.0.9', release: '5.10.0', state: 'built' },
  ]);
});

/** Loading and unloading the kernel module, and what is said when that cannot be. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ABI_MAJOR, ABI_MINOR } from '../../arbiter/abi/layout.gen.ts';
import { builtModule } from '../../arbiter/kmod/build.ts';
import { explainLoad, loadModule, unloadModule } from '../../arbiter/kmod/load.ts';
import type { FakeHost } from './kmod-host.ts';
import {
  fails,
  fakeClone,
  fakeHost,
  moduleFile,
  ok,
  RELEASE,
  showLoaded,
  showProcess,
  showUnloaded,
  thrown,
} from './kmod-host.ts';

let host: FakeHost;
beforeEach(() => void (host = fakeHost()));
afterEach(() => host.end());

describe('load', () => {
  const insmod = (work: () => ReturnType<typeof ok>): void =>
    void (host.programs = { insmod: work, modprobe: work });
  const built = (file = moduleFile()): string => {
    const clone = fakeClone(host);
    host.write(`/clone/.build/kmod/${RELEASE}/kmod/kflux.ko`, file);
    return clone;
  };

  test('what was built here', async () => {
    const clone = built();
    insmod(() => (showLoaded(host), ok()));
    expect(await loadModule(host, { clone })).toMatchObject({
      changed: true,
      path: builtModule(RELEASE, clone),
      module: { version: '0.1.0', abi: '1.0' },
    });
    expect(host.ran).toEqual([`insmod ${builtModule(RELEASE, clone)}`]);
    expect((await loadModule(host, { clone })).changed).toBe(false);
  });

  test('what is installed goes first, by its name; --built takes the other', async () => {
    const clone = built();
    host.write(`/lib/modules/${RELEASE}/updates/dkms/kflux.ko.xz`, 'packed');
    host.write(`/lib/modules/${RELEASE}/modules.dep`, 'updates/dkms/kflux.ko.xz:\n');
    insmod(() => (showLoaded(host), ok()));
    host.programs.udevadm = () => ok();
    await loadModule(host, { clone });
    expect(host.ran).toEqual(['modprobe kflux', 'udevadm settle --timeout=5']);
    showUnloaded(host);
    await loadModule(host, { clone, built: true });
    expect(host.ran[2]).toContain('insmod');
  });

  test('installed, and depmod has not seen it: by its path; without udev the device gets its group all the same', async () => {
    host.write(`/lib/modules/${RELEASE}/extra/kflux.ko`, moduleFile());
    host.write('/etc/group', 'hyperflux:x:105:\n');
    insmod(() => (showLoaded(host), ok()));
    await loadModule(host);
    expect(host.ran).toEqual([
      `insmod ${host.at(`/lib/modules/${RELEASE}/extra/kflux.ko`)}`,
      'chown 0:105 /dev/kflux',
    ]);
  });

  test('it went in and is gone', async () => {
    const clone = built();
    insmod(() => ok());
    expect((await thrown(() => loadModule(host, { clone }))).message).toContain('gone again');
  });

  test('an old one that is loaded already: both versions', async () => {
    showLoaded(host, { version: '0.0.9', abi: '0.4' });
    const { code, message } = await thrown(() => loadModule(host));
    expect([code, message]).toEqual([
      'version',
      expect.stringMatching(
        new RegExp(`0\\.0\\.9 with ABI 0\\.4.*ABI ${ABI_MAJOR}\\.${ABI_MINOR}`),
      ) as string,
    ]);
  });

  test.each([
    ['another kernel', moduleFile('0.1.0', '6.5.0-1-amd64'), 'built for kernel 6.5.0-1-amd64'],
    ['another version', moduleFile('0.0.8'), 'kFlux 0.0.8, this clone is'],
  ])('a file of %s is not even tried', async (_name, file, says) => {
    const clone = built(file);
    insmod(() => ok());
    expect((await thrown(() => loadModule(host, { clone }))).message).toContain(says);
    expect(host.ran).toEqual([]);
  });

  test('unsigned, where it must be signed', async () => {
    host.write('/sys/kernel/security/lockdown', 'none [integrity] confidentiality');
    const clone = built();
    insmod(() => (showLoaded(host), ok()));
    expect((await thrown(() => loadModule(host, { clone }))).hint).toContain('sign-file');
    built(moduleFile('0.1.0', RELEASE, true));
    expect((await loadModule(host, { clone })).changed).toBe(true);
  });

  test.each([
    ['Key was rejected by service', 'failed', 'signature'],
    ['Invalid module format', 'failed', 'does not fit kernel'],
    ['Operation not permitted', 'permission', 'does not let'],
    ['Unknown symbol in module', 'failed', 'does not have'],
    ['Cannot allocate memory', 'failed', 'Cannot allocate memory'],
  ])('the kernel says %s', async (said, code, says) => {
    const clone = built();
    insmod(() => fails(`insmod: ERROR: could not insert module kflux.ko: ${said}`));
    const error = await thrown(() => loadModule(host, { clone }));
    expect([error.code, error.message]).toEqual([code, expect.stringContaining(says) as string]);
    expect(explainLoad(host, 'x.ko', said).hint).toMatch(/./);
  });

  test('not root, no modules, a container, nothing built, no insmod', async () => {
    host.uid = 1000;
    expect(await thrown(() => loadModule(host))).toMatchObject({ code: 'permission' });
    host.uid = 0;
    host.remove('/proc/modules');
    expect((await thrown(() => loadModule(host))).message).toContain('cannot load modules');
    host.write('/proc/modules', '');
    const clone = fakeClone(host);
    expect((await thrown(() => loadModule(host, { clone }))).message).toContain(
      'neither installed nor built',
    );
    built();
    expect((await thrown(() => loadModule(host, { clone }))).message).toBe('insmod is missing');
    host.write('/.dockerenv', '');
    expect((await thrown(() => loadModule(host, { clone }))).message).toContain('container (docker)');
  });
});

describe('unload', () => {
  test('not loaded is no error', async () => {
    expect(await unloadModule(host)).toEqual({ changed: false });
  });

  test('in use: by whom, and how to end it', async () => {
    showLoaded(host, { refcount: 3 });
    showProcess(host, 20, ['node', '/hf/arbiter/process/main.ts'], ['/dev/kflux']);
    showProcess(host, 21, ['/opt/fluxion', '--name', 'web'], ['anon_inode:[kflux-vm]']);
    host.programs = { rmmod: () => ok() };
    const { code, message, hint } = await thrown(() => unloadModule(host));
    expect(code).toBe('busy');
    expect(message).toBe('kflux is in use (3 uses): the arbiter (process 20), VM web (process 21)');
    expect(hint).toContain('hyperflux stop --all --daemon');
    expect(host.ran).toEqual([]);
  });

  test('in use by what cannot be seen', async () => {
    showLoaded(host, { refcount: 1 });
    expect((await thrown(() => unloadModule(host))).message).toContain('no process shows');
    host.uid = 1000;
    expect((await thrown(() => unloadModule(host))).message).toContain('only root can see');
  });

  test('taken between the look and the try', async () => {
    showLoaded(host);
    host.programs = {
      rmmod: () => {
        showLoaded(host, { refcount: 1 });
        showProcess(host, 30, ['sleep', '9'], ['/dev/kflux']);
        return fails('rmmod: ERROR: Module kflux is in use');
      },
    };
    expect((await thrown(() => unloadModule(host))).message).toContain('sleep (process 30)');
  });

  test('idle', async () => {
    showLoaded(host);
    host.programs = { rmmod: () => (showUnloaded(host), ok()) };
    expect(await unloadModule(host)).toEqual({ changed: true });
  });
});

/** What installs HyperFlux on a host names the same things as the code, and is understood by those who read it. */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { makeProgram } from '../../arbiter/cli/program.ts';
import { runPaths } from '../../arbiter/control/paths.ts';
import { VERSION } from '../../arbiter/control/protocol.ts';
import { dkmsSource } from '../../arbiter/kmod/dkms.ts';
import { SYSTEM_FILES } from '../../arbiter/kmod/install.ts';
import { CLONE_VERSION, DEVICE, GROUP, MODULE, OLDEST_KERNEL } from '../../arbiter/kmod/names.ts';

const folder = fileURLToPath(new URL('../../packaging/', import.meta.url));
const root = fileURLToPath(new URL('../../', import.meta.url));
const text = (name: string): string => readFileSync(join(folder, name), 'utf8');
/** Without comments and empty lines. */
const lines = (name: string): string[] =>
  text(name)
    .split('\n')
    .filter((line) => line.trim() !== '' && !line.startsWith('#'));
const temporary = mkdtempSync(join(tmpdir(), 'hf-packaging-'));
afterAll(() => rmSync(temporary, { recursive: true }));
const has = (program: string): boolean =>
  spawnSync(program, ['--version'], { stdio: 'ignore' }).error === undefined;

test("all versions are package.json's", () => {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
  expect([VERSION, CLONE_VERSION]).toEqual([version, version]);
  expect(text('dkms.conf')).toContain(`PACKAGE_VERSION="${version}"`);
  const sources = readdirSync(join(root, 'kmod')).filter((name) => /\.[ch]$/.test(name));
  const named = sources.flatMap((name) => [
    ...readFileSync(join(root, 'kmod', name), 'utf8').matchAll(
      /^#define \w*VERSION\w* +"([^"]+)"|MODULE_VERSION\("([^"]+)"\)/gm,
    ),
  ]);
  for (const match of named) expect(match[1] ?? match[2]).toBe(version);
});

describe('DKMS', () => {
  /** As DKMS reads it: by a shell. */
  const conf = (name: string): string =>
    execFileSync('bash', ['-c', `. "$0"; printf %s "\${${name}}"`, join(folder, 'dkms.conf')], {
      env: { ...process.env, kernel_source_dir: '/headers', dkms_tree: '/tree' },
      encoding: 'utf8',
    });

  test('names the module, where it is built and where the sources are', () => {
    expect([conf('PACKAGE_NAME'), conf('BUILT_MODULE_NAME[0]')]).toEqual([MODULE, MODULE]);
    expect(dkmsSource(conf('PACKAGE_VERSION'))).toBe(`/usr/src/${MODULE}-${CLONE_VERSION}`);
    expect(conf('BUILT_MODULE_LOCATION[0]')).toBe('kmod');
    expect(conf('MAKE[0]')).toBe(`make -C /headers M=/tree/${MODULE}/${CLONE_VERSION}/build/kmod modules`);
    expect(conf('AUTOINSTALL')).toBe('yes');
  });

  test.each([
    ['6.1.0-56-amd64', true],
    ['6.9.12', true],
    ['6.12.117+deb12-amd64', true],
    ['7.0.0', true],
    ['10.1', true],
    ['6.0.19', false],
    ['5.10.0-30-amd64', false],
    ['4.19.0', false],
  ])('kernel %s: %s', (release, wanted) => {
    expect(OLDEST_KERNEL).toEqual([6, 1]);
    expect(new RegExp(conf('BUILD_EXCLUSIVE_KERNEL')).test(release)).toBe(wanted);
  });
});

describe('udev and the group', () => {
  test('the device is of the group, for its members only', () => {
    expect(lines('60-hyperflux.rules')).toEqual([
      `KERNEL=="${DEVICE.replace('/dev/', '')}", SUBSYSTEM=="misc", GROUP="${GROUP}", MODE="0660"`,
    ]);
  });

  test('the group is made, with the user of the service', () => {
    const service = text('hyperflux.service');
    const user = /^User=(.*)$/m.exec(service)?.[1];
    const made = lines('hyperflux.sysusers').map((line) => line.split(/\s+/).slice(0, 3).join(' '));
    expect(made).toEqual([`g ${GROUP} -`, `u ${user} -:${GROUP}`, 'g kvm -', `m ${user} kvm`]);
  });

  test.skipIf(!has('systemd-sysusers'))('systemd-sysusers understands it', () => {
    const { status, stderr } = spawnSync(
      'systemd-sysusers',
      ['--dry-run', `--root=${temporary}`, join(folder, 'hyperflux.sysusers')],
      { encoding: 'utf8' },
    );
    expect([status, stderr]).toEqual([0, expect.stringContaining("group 'hyperflux'") as string]);
  });

  test('systemd loads the module by its name', () =>
    expect(lines('hyperflux.modules-load')).toEqual([MODULE]));

  test('install puts all of it where the system looks', () => {
    for (const [from, to] of SYSTEM_FILES) {
      expect(existsSync(join(folder, from)), from).toBe(true);
      expect(to).toMatch(/^\/etc\/(udev\/rules|sysusers|modules-load)\.d\/[\w-]+\.(rules|conf)$/);
    }
  });
});

describe('the service', () => {
  const all = lines('hyperflux.service');
  const values = (key: string): string[] =>
    all.filter((line) => line.startsWith(`${key}=`)).map((line) => line.slice(key.length + 1));

  test('starts what the command line has, in the foreground', () => {
    const [start] = values('ExecStart');
    const [program, command, ...options] = start.split(' ');
    expect(program).toMatch(/^\/opt\/hyperflux\/hyperflux$/);
    const found = makeProgram().commands.find((each) => each.name() === command);
    expect(found?.options.map(({ long }) => long)).toEqual(expect.arrayContaining(options));
    expect(options).toContain('--foreground');
  });

  test('waits for the word of the daemon itself, and restarts it alone', () => {
    expect([values('Type'), values('NotifyAccess'), values('KillMode')]).toEqual([
      ['notify'],
      ['main'],
      ['process'],
    ]);
    expect(values('Restart')).toEqual(['on-failure']);
    expect(Number(values('WatchdogSec')[0])).toBeGreaterThanOrEqual(10);
    // Longer than the daemon gives the arbiter to come up (start_timeout_ms and 45 s), and to end (3 s).
    expect(Number(values('TimeoutStartSec')[0])).toBeGreaterThan(60);
    expect(Number(values('TimeoutStopSec')[0])).toBeGreaterThan(3);
  });

  test('has the one capability that it needs, and no other', () => {
    expect(values('AmbientCapabilities')).toEqual(['CAP_SYS_NICE']);
    expect(values('CapabilityBoundingSet')).toEqual(['CAP_SYS_NICE']);
    expect(values('Group')).toEqual([GROUP]);
  });

  test('may use the devices, and nothing forbids what it lives by', () => {
    expect(values('DeviceAllow')).toEqual(expect.arrayContaining(['/dev/kvm rw', `${DEVICE} rw`]));
    for (const key of [
      'PrivateDevices',
      'MemoryDenyWriteExecute',
      'RestrictRealtime',
      'PrivateUsers',
      'PrivateNetwork',
    ])
      expect(values(key), key).toEqual([]);
    expect(values('RestrictAddressFamilies')).toEqual(['AF_UNIX']);
  });

  test('has the run directory that root looks in', () => {
    const [run] = values('Environment').map((each) => /^HYPERFLUX_RUN=(.*)$/.exec(each)?.[1] ?? '');
    expect(run).toBe('/run/hyperflux');
    expect(values('RuntimeDirectory').map((name) => `/run/${name}`)).toEqual([run]);
    expect([values('RuntimeDirectoryMode'), values('RuntimeDirectoryPreserve')]).toEqual([['0700'], ['yes']]);
    expect(runPaths(run).vmSocket('x'.repeat(31)).length).toBeLessThan(108);
  });

  test.skipIf(!has('systemd-analyze'))(
    'systemd-analyze has nothing to say against it',
    { timeout: 60_000 },
    () => {
      const path = join(temporary, 'hyperflux.service');
      // The clone is not at the unit's place here.
      writeFileSync(
        path,
        text('hyperflux.service').replace('/opt/hyperflux/hyperflux', join(root, 'hyperflux')),
      );
      const { status, stderr } = spawnSync('systemd-analyze', ['verify', '--man=no', path], {
        encoding: 'utf8',
      });
      expect([status, stderr]).toEqual([0, '']);
    },
  );
});

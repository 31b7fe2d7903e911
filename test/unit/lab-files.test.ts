/** The lab's formats: modules.dep, the initramfs, disk sizes, package lists. No QEMU. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parseFileName } from '../lab/apt.ts';
import { entry, filesKey, keyOf, listTree, prune } from '../lab/cache.ts';
import { cpio } from '../lab/cpio.ts';
import { imageSize } from '../lab/image.ts';
import { parseLdd } from '../lab/libraries.ts';
import { known, loadOrder, moduleName, parseModules } from '../lab/modules.ts';
import { neededPackages } from '../lab/packages.ts';
import { findMirrors, sourcesList } from '../lab/sources.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'lab-test-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

describe('modules', () => {
  const table = parseModules(
    [
      'kernel/arch/x86/kvm/kvm-amd.ko: kernel/drivers/crypto/ccp/ccp.ko kernel/arch/x86/kvm/kvm.ko kernel/virt/irqbypass.ko',
      'kernel/arch/x86/kvm/kvm.ko.xz: kernel/virt/irqbypass.ko',
      'kernel/arch/x86/kvm/kvm.ko: kernel/virt/irqbypass.ko',
      'kernel/virt/irqbypass.ko:',
      'kernel/drivers/crypto/ccp/ccp.ko:',
      '',
    ].join('\n'),
    'kernel/fs/ext4/ext4.ko\nkernel/drivers/char/hw_random/virtio-rng.ko\n',
  );

  test('each comes after what it needs, and once', () => {
    expect(loadOrder(table, ['kvm_amd', 'irqbypass'])).toEqual([
      'kernel/drivers/crypto/ccp/ccp.ko',
      'kernel/virt/irqbypass.ko',
      'kernel/arch/x86/kvm/kvm.ko',
      'kernel/arch/x86/kvm/kvm-amd.ko',
    ]);
  });

  test('what is built in needs no file; what is not there is named', () => {
    expect(loadOrder(table, ['ext4', 'virtio-rng'])).toEqual([]);
    expect(() => loadOrder(table, ['virtio_blk'])).toThrow('no module virtio_blk');
    expect(known(table, ['virtio_blk', 'ext4', 'kvm-amd'])).toEqual(['ext4', 'kvm-amd']);
  });

  test('a circle is an error, not a hang', () => {
    const circle = parseModules('a.ko: b.ko\nb.ko: a.ko\n', '');
    expect(() => loadOrder(circle, ['a'])).toThrow('needs itself');
  });

  test('names', () => {
    expect(moduleName('kernel/x/virtio-rng.ko.zst')).toBe('virtio_rng');
  });
});

describe('the initramfs', () => {
  test('an archive that other programs read', () => {
    const archive = cpio([
      { kind: 'file', path: 'lab/start', mode: 0o755, data: Buffer.from('#!/bin/sh\n') },
      { kind: 'link', path: 'bin/sh', target: '/bin/busybox' },
      { kind: 'folder', path: 'lab/empty' },
    ]);
    expect(archive.length % 4).toBe(0);
    const text = archive.toString('latin1');
    // Folders before what is in them; nothing twice.
    expect([...text.matchAll(/070701[0-9a-f]{104}([^\0]+)\0/g)].map((m) => m[1])).toEqual([
      ...['lab', 'lab/start', 'bin', 'bin/sh', 'lab/empty', 'TRAILER!!!'],
    ]);
    expect(text).toContain('#!/bin/sh\n');
  });
});

describe('images', () => {
  test('have room for their files in whole blocks', () => {
    const { bytes, inodes } = imageSize([1, 5000, 0]);
    expect(bytes).toBeGreaterThan(3 * 4096);
    expect(bytes % 4096).toBe(0);
    expect(inodes).toBeGreaterThan(3);
    expect(imageSize([1 << 30]).bytes).toBeGreaterThan(1 << 30);
  });

  test('libraries are read from ldd', () => {
    const text = [
      '\tlinux-vdso.so.1 (0x00007f00)',
      '\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f01)',
      '\t/lib64/ld-linux-x86-64.so.2 (0x00007f02)',
      '\tlibgone.so => not found',
    ].join('\n');
    expect(parseLdd(text)).toEqual(['/lib/x86_64-linux-gnu/libc.so.6', '/lib64/ld-linux-x86-64.so.2']);
  });
});

describe('node_modules', () => {
  test('only what is needed at run time, nested ones at their place', () => {
    const lock = {
      packages: {
        '': { dependencies: { pino: '1' } },
        'node_modules/pino': { dependencies: { split2: '1', 'sonic-boom': '1' } },
        'node_modules/pino/node_modules/split2': { dependencies: { deep: '1' } },
        'node_modules/split2': {},
        'node_modules/sonic-boom': { optionalDependencies: { 'not-here': '1' } },
        'node_modules/deep': {},
        'node_modules/node': {},
        'node_modules/vitest': { peerDependencies: { vite: '1' } },
        'node_modules/vite': {},
        'node_modules/eslint': { dependencies: { split2: '1' } },
      },
    };
    expect(neededPackages(lock)).toEqual([
      'node_modules/deep',
      'node_modules/node',
      'node_modules/pino',
      'node_modules/pino/node_modules/split2',
      'node_modules/sonic-boom',
      'node_modules/vite',
      'node_modules/vitest',
    ]);
  });

  test("the project's own lock file", () => {
    const lock = JSON.parse(readFileSync('package-lock.json', 'utf8')) as Parameters<
      typeof neededPackages
    >[0];
    const packages = neededPackages(lock);
    for (const name of ['node', 'vitest', 'commander', 'zod', 'msgpackr', 'pino'])
      expect(packages).toContain(`node_modules/${name}`);
    for (const name of ['typescript', 'eslint', 'prettier'])
      expect(packages).not.toContain(`node_modules/${name}`);
  });
});

describe('the cache', () => {
  test('keys are of the contents and of where one part ends', () => {
    expect(keyOf('ab', 'c')).not.toBe(keyOf('a', 'bc'));
    expect(keyOf('a')).toBe(keyOf('a'));
    writeFileSync(join(dir, 'one'), 'text', { mode: 0o644 });
    const key = filesKey(dir, ['one']);
    utimesSync(join(dir, 'one'), 1, 1);
    expect(filesKey(dir, ['one'])).toBe(key);
    writeFileSync(join(dir, 'one'), 'texts');
    expect(filesKey(dir, ['one'])).not.toBe(key);
    expect(filesKey(dir, ['one'], ['6.12'])).not.toBe(filesKey(dir, ['one'], ['6.1']));
  });

  test('an entry is made once, and by one of two that make it at once', async () => {
    let made = 0;
    const make = async (partial: string): Promise<void> => {
      made++;
      await new Promise((resolve) => setTimeout(resolve, 10));
      writeFileSync(partial, 'whole');
    };
    const path = join(dir, 'images/x.img');
    await Promise.all([entry(path, make), entry(path, make)]);
    expect(made).toBe(2);
    await entry(path, make);
    expect(made).toBe(2);
    expect(readFileSync(path, 'utf8')).toBe('whole');
    expect(listTree(join(dir, 'images'))).toEqual(['x.img']);
  });

  test('an entry that fails leaves nothing', async () => {
    const path = join(dir, 'images/x.img');
    await expect(entry(path, () => Promise.reject(new Error('no')))).rejects.toThrow('no');
    expect(listTree(join(dir, 'images'))).toEqual([]);
  });

  test('old entries go, the newest and the used ones stay', () => {
    const day = 86_400_000;
    const now = Date.now();
    for (const [name, days] of [
      ['new', 40],
      ['old', 50],
      ['older', 60],
      ['.partial-killed', 2],
    ] as const) {
      mkdirSync(join(dir, name));
      utimesSync(join(dir, name), (now - days * day) / 1000, (now - days * day) / 1000);
    }
    const removed = prune([dir, join(dir, 'missing')], 30, { now }).map((path) => path.slice(dir.length + 1));
    expect(removed.sort()).toEqual(['.partial-killed', 'old', 'older']);
    expect(prune([dir], 0, { now, only: 'x' })).toEqual([]);
    expect(execFileSync('ls', [dir], { encoding: 'utf8' }).trim()).toBe('new');
  });
});

describe("Debian's packages", () => {
  test('the names of files have escapes', () => {
    expect(parseFileName('qemu-system-x86_1%3a10.0.2+ds-2_amd64.deb')).toEqual({
      name: 'qemu-system-x86',
      version: '1:10.0.2+ds-2',
    });
    expect(parseFileName('')).toBeUndefined();
  });

  const stanzas = `Types: deb deb-src
# a comment
URIs: http://mirror.example/debian/
Suites: trixie trixie-updates
Components: main
Signed-By:
 /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: trixie-security
Components: main

Types: deb
Enabled: no
URIs: http://off.example/debian
Suites: bookworm
`;

  test("the host's own mirror is used, in both formats", () => {
    expect(findMirrors([stanzas])).toEqual({
      main: 'http://mirror.example/debian',
      security: 'http://mirror.example/debian-security',
      signedBy: '/usr/share/keyrings/debian-archive-keyring.gpg',
    });
    const lines = [
      '# deb http://old.example/debian bookworm main',
      'deb [arch=amd64 signed-by=/k.gpg] https://a.example/debian bookworm main contrib',
      'deb https://a.example/other/debian-security bookworm-security main',
    ].join('\n');
    expect(findMirrors([lines])).toEqual({
      main: 'https://a.example/debian',
      security: 'https://a.example/other/debian-security',
      signedBy: '/k.gpg',
    });
  });

  test('a host that is not Debian gets the public mirror', () => {
    const ubuntu = 'deb http://archive.ubuntu.com/ubuntu noble main';
    expect(findMirrors([ubuntu]).main).toBe('http://deb.debian.org/debian');
    expect(findMirrors([ubuntu]).security).toBe('http://deb.debian.org/debian-security');
    expect(findMirrors([stanzas], 'http://mine.example/debian/').main).toBe('http://mine.example/debian');
  });

  test('the list has the release, its updates, its backports and its security', () => {
    const list = sourcesList({ main: 'http://m/debian', security: 'http://m/debian-security' }, '/k.gpg');
    expect(list).toBe(
      [
        'deb [signed-by=/k.gpg] http://m/debian bookworm main',
        'deb [signed-by=/k.gpg] http://m/debian bookworm-updates main',
        'deb [signed-by=/k.gpg] http://m/debian bookworm-backports main',
        'deb [signed-by=/k.gpg] http://m/debian-security bookworm-security main',
        '',
      ].join('\n'),
    );
  });
});

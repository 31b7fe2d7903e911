// SPDX-License-Identifier: Apache-2.0
// kFlux from JavaScript: what is said where it is not there, who may not use it, and whose pages a table shows.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import * as layout from '../../arbiter/abi/layout.gen.ts';
import { kfluxUsable } from '../../arbiter/kmod/usable.ts';
import * as native from '../index.ts';
import { codeOf, newTable } from './helpers.ts';

const there = existsSync('/dev/kflux');
const { usable, why } = kfluxUsable();

/** The file of a table that is filled in, and a mapping of it. */
function tableFile(): { fd: number; words: Int32Array } {
  const fd = native.createTable();
  const buffer = native.mapShared(fd, layout.TABLE_BYTES);
  native.initTable(buffer, 1_000_000, 6);
  return { fd, words: new Int32Array(buffer) };
}

describe('a table', () => {
  test('without a domain is mapped as it is', () => {
    const { fd, words } = tableFile();
    const seen = new Int32Array(native.mapTable(fd));
    const core = (layout.CORES_OFFSET >> 2) + layout.W_CORE_HEIR;
    words[core] = 7;
    expect(seen[core]).toBe(7);
    const window = newTable();
    native.remapTable(window, fd);
    expect(new Int32Array(window)[core]).toBe(7);
    native.closeFd(fd);
  });

  test('that is none, or of another version, is refused', () => {
    const fd = native.createTable();
    expect(codeOf(() => native.mapTable(fd))).toBe('EINVAL');
    native.closeFd(fd);
    const foreign = tableFile();
    foreign.words[layout.W_TABLE_ABI_MAJOR] = 9;
    expect(() => native.mapTable(foreign.fd)).toThrow(/table has ABI 9\.\d+, this addon/);
    native.closeFd(foreign.fd);
  });

  test('whose domain cannot be had is not shown without it', () => {
    const { fd, words } = tableFile();
    words[layout.W_TABLE_KFLUX_DOMAIN] = 0x7ffffff0;
    expect(['ENOENT', 'EACCES']).toContain(codeOf(() => native.mapTable(fd)));
    native.closeFd(fd);
  });
});

describe.skipIf(there)('without kFlux', () => {
  test('everybody is told to load the module', () => {
    const table = newTable();
    const bridge = native.NativeBridge.open(table);
    const calls = [
      () => native.kfluxHello(),
      () => native.kfluxJoin(table),
      () => {
        bridge.useKflux();
      },
    ];
    for (const call of calls) {
      expect(codeOf(call)).toBe('ENOENT');
      expect(call).toThrow(/no \/dev\/kflux\. Load the module: sudo hyperflux kmod load/);
    }
  });

  test('a bridge that cannot be switched stays what it was', () => {
    const bridge = native.NativeBridge.open(newTable());
    expect(codeOf(() => bridge.useKflux())).toBe('ENOENT');
    expect(bridge.kind).toBe('affinity');
    expect(bridge.claim(process.pid, 0, [1])).toBeGreaterThan(0);
    expect(native.NativeBridge.wrap(bridge.id).kind).toBe('affinity');
    bridge.release();
  });
});

test('what is no domain makes no VM', () => {
  expect(codeOf(() => native.kfluxCreateVm(-1, 0, 1))).toBe('ERR_OUT_OF_RANGE');
  expect(codeOf(() => native.kfluxCreateVm(0x7fffffff, 0, 1))).toBe('EBADF');
  for (const [slot, vcpus] of [
    [-1, 1],
    [layout.MAX_VMS, 1],
    [0, 0],
    [0, layout.MAX_VCPUS + 1],
  ]) {
    expect(codeOf(() => native.kfluxCreateVm(0, slot, vcpus))).toBe('ERR_OUT_OF_RANGE');
  }
});

describe.skipIf(!usable)(`with kFlux${usable ? '' : ` (not run: ${why})`}`, () => {
  test('the module says its versions', () => {
    const { major, minor, version } = native.kfluxHello();
    expect([major, minor]).toEqual([layout.ABI_MAJOR, layout.ABI_MINOR]);
    expect(version).toMatch(/^\d+\.\d+\.\d+/);
  });

  test('a table gets a domain once, and whoever maps it sees its pages', () => {
    const { fd, words } = tableFile();
    const first = native.kfluxJoin(words.buffer as ArrayBuffer);
    const domain = words[layout.W_TABLE_KFLUX_DOMAIN];
    expect(domain).not.toBe(0);
    const second = native.kfluxJoin(words.buffer as ArrayBuffer);
    expect(words[layout.W_TABLE_KFLUX_DOMAIN]).toBe(domain);

    const seen = new Int32Array(native.mapTable(fd));
    const word = (layout.TVCPUS_OFFSET >> 2) + 3 * (layout.TVCPUS_BYTES >> 2) + layout.W_VCPU_WORD;
    // The memory file's own words are nobody's now.
    words[word] = layout.VCPU_RUNNING;
    expect(seen[word] & 0xff).toBe(layout.VCPU_NEW);
    const vm = native.kfluxCreateVm(first, 3, 2);
    expect(codeOf(() => native.kfluxCreateVm(second, 3, 2))).toBe('EEXIST');
    expect(seen[word] & 0xff).toBe(layout.VCPU_NEW);
    native.closeFd(vm);
    const vmWord = (layout.VMS_OFFSET >> 2) + layout.W_VM_PID;
    words[vmWord] = 5;
    expect(seen[vmWord]).toBe(5);
    for (const open of [first, second, fd]) native.closeFd(open);
  });

  test('a bridge is switched once, in all threads; the cores of a domain are its alone', () => {
    const core = native.getAffinity(0).at(-1)!;
    const bridge = native.NativeBridge.open(newTable());
    const elsewhere = native.NativeBridge.wrap(bridge.id);
    bridge.useKflux();
    expect([bridge.kind, elsewhere.kind]).toEqual(['kflux', 'kflux']);
    expect(codeOf(() => bridge.useKflux())).toBe('EALREADY');
    expect(bridge.claim(process.pid, 0, [core])).toBeGreaterThan(0);
    const other = native.NativeBridge.open(newTable());
    other.useKflux();
    expect(codeOf(() => other.claim(process.pid, 0, [core]))).toBe('EBUSY');
    expect(() => other.claim(process.pid, 0, [core])).toThrow(/Another arbiter of this host/);
    bridge.release();
    expect(other.claim(process.pid, 0, [core])).toBeGreaterThan(0);
    other.release();
  });

  test('who may not is told what it takes', () => {
    const script = `
      const n = await import(${JSON.stringify(new URL('../index.ts', import.meta.url).href)});
      const fd = n.createTable();
      const table = n.mapShared(fd, ${layout.TABLE_BYTES});
      n.initTable(table, 1_000_000, 6);
      process.setgroups([]);
      process.setgid(Number(process.argv[1]));
      process.setuid(65534);
      try {
        n.kfluxJoin(table);
        console.log('joined');
      } catch (error) {
        console.log(error.code + ' ' + error.message);
      }`;
    const said = (gid: number): string =>
      spawnSync(process.execPath, ['--input-type=module', '-e', script, String(gid)], { encoding: 'utf8' })
        .stdout;
    expect(said(65534)).toMatch(/^EACCES .*\/dev\/kflux is for the group \S+\..*CAP_SYS_NICE/);
    const group = spawnSync('stat', ['-c', '%g', '/dev/kflux'], { encoding: 'utf8' }).stdout.trim();
    expect(said(Number(group))).toMatch(/^EPERM .*CAP_SYS_NICE in the initial user namespace.*the group of/);
  });
});

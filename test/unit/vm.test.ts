/** Slots, admission, artifacts, cpusets and command lines of VMs. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  HOST_BLOCKED,
  MAX_VMS,
  TABLE_BYTES,
  VCPU_BLOCKED,
  VCPU_RUNNING,
  VCPU_UNMANAGED,
  VM_DEAD,
  VM_LIVE,
  VM_STARTING,
  W_VCPU_GRANTED_TSC_LO,
  W_VCPU_HOST,
  W_VCPU_TAKEN_TSC_LO,
  W_VCPU_USED_TSC_LO,
  W_VCPU_WORD,
  W_VM_GRANTED_TSC_LO,
  W_VM_USED_TSC_LO,
} from '../../arbiter/abi/layout.gen.ts';
import { tableVcpuBase, vmBase } from '../../arbiter/bridge/words.ts';
import type { RunRequest } from '../../arbiter/control/protocol.ts';
import { runRequest } from '../../arbiter/control/protocol.ts';
import { admit } from '../../arbiter/vm/admission.ts';
import { checkImage, imageAbi } from '../../arbiter/vm/artifacts.ts';
import { makeCpuset } from '../../arbiter/vm/cpuset.ts';
import { launch, logTail } from '../../arbiter/vm/process.ts';
import { changeState, isNobodys, readSection, sections, takeSlot } from '../../arbiter/vm/section.ts';

const newTable = (): Int32Array => new Int32Array(TABLE_BYTES / 4);
const vm = (name: string, minCores = 0) => ({
  ...{ name, vcpus: 2, latencyCritical: true, minCores, maxCores: 2, quantumUs: 70 },
});
const request = (fields: object): RunRequest =>
  runRequest.parse({ name: 'web', workload: 'serve', ...fields });

describe('slots', () => {
  test('are taken, filled in, and told apart by generation', () => {
    const table = newTable();
    const slot = takeSlot(table, vm('web'));
    expect(readSection(table, slot)).toMatchObject({
      ...{ state: VM_STARTING, name: 'web', vcpus: 2, latencyCritical: true, maxCores: 2, generation: 1 },
      quantumUs: 70,
    });
    changeState(table, slot, VM_STARTING, 0);
    expect(takeSlot(table, vm('other'))).toBe(slot);
    expect(readSection(table, slot)).toMatchObject({ name: 'other', generation: 2 });
  });

  test("a slot that is not empty is nobody else's", () => {
    const table = newTable();
    expect(new Set(Array.from({ length: 5 }, (_, i) => takeSlot(table, vm(`vm${i}`)))).size).toBe(5);
    expect(sections(table).map(({ name }) => name)).toEqual(['vm0', 'vm1', 'vm2', 'vm3', 'vm4']);
  });

  test('a full table says so', () => {
    const table = newTable();
    for (let i = 0; i < MAX_VMS; i++) takeSlot(table, vm('x'));
    expect(takeSlot(table, vm('y'))).toBe(-1);
  });

  test('a state is changed only from the one that was expected', () => {
    const table = newTable();
    const slot = takeSlot(table, vm('web'));
    expect(changeState(table, slot, VM_LIVE, VM_DEAD)).toBe(false);
    expect(changeState(table, slot, VM_STARTING, VM_LIVE)).toBe(true);
  });

  test('the longest name fits, and ends', () => {
    const table = newTable();
    const slot = takeSlot(table, vm('n'.repeat(40)));
    expect(readSection(table, slot).name).toBe('n'.repeat(31));
  });
});

describe("kFlux's words of a VM", () => {
  const block = (table: Int32Array, slot: number, vcpu: number, fields: Record<number, number>): void => {
    for (const [word, value] of Object.entries(fields))
      table[tableVcpuBase(slot, vcpu) + Number(word)] = value;
  };

  test("meters are the VM's and those of its vCPUs", () => {
    const table = newTable();
    const slot = takeSlot(table, vm('web'));
    table[vmBase(slot) + W_VM_GRANTED_TSC_LO] = 5;
    table[vmBase(slot) + W_VM_USED_TSC_LO] = 3;
    block(table, slot, 0, { [W_VCPU_GRANTED_TSC_LO]: -1, [W_VCPU_TAKEN_TSC_LO]: 7 });
    block(table, slot, 1, { [W_VCPU_GRANTED_TSC_LO + 1]: 1, [W_VCPU_USED_TSC_LO]: 4 });
    // Not one of its vCPUs.
    block(table, slot, 2, { [W_VCPU_GRANTED_TSC_LO]: 1000 });
    expect(readSection(table, slot)).toMatchObject({
      ...{ grantedTsc: 5 + 0xffffffff + 2 ** 32, usedTsc: 7, takenTsc: 7 },
    });
  });

  test('blocked are those that sleep in the host and are managed', () => {
    const table = newTable();
    const slot = takeSlot(table, vm('web'));
    expect(readSection(table, slot).blocked).toBe(0);
    block(table, slot, 0, { [W_VCPU_HOST]: HOST_BLOCKED, [W_VCPU_WORD]: VCPU_RUNNING });
    block(table, slot, 1, { [W_VCPU_HOST]: HOST_BLOCKED, [W_VCPU_WORD]: VCPU_UNMANAGED });
    expect(readSection(table, slot).blocked).toBe(1);
    block(table, slot, 1, { [W_VCPU_WORD]: VCPU_BLOCKED });
    expect(readSection(table, slot).blocked).toBe(2);
  });

  test("a VM is nobody's when all its vCPUs are unmanaged", () => {
    const table = newTable();
    const slot = takeSlot(table, vm('web'));
    block(table, slot, 0, { [W_VCPU_WORD]: VCPU_UNMANAGED });
    expect(isNobodys(table, readSection(table, slot))).toBe(false);
    block(table, slot, 1, { [W_VCPU_WORD]: VCPU_UNMANAGED });
    expect(isNobodys(table, readSection(table, slot))).toBe(true);
  });
});

describe('admission', () => {
  test('the maximum is what the VM can use and the pool has', () => {
    expect(admit(request({ vcpus: 4 }), 2, newTable())).toBe(2);
    expect(admit(request({ vcpus: 1 }), 2, newTable())).toBe(1);
  });

  test.each([
    [{ vcpus: 1, max_cores: 2 }, /2 cores with 1 vCPU/],
    [{ vcpus: 4, max_cores: 4 }, /4 cores: the pool has 2/],
    [{ vcpus: 2, max_cores: 1, min_cores: 2 }, /guaranteed 2 cores when it may have 1/],
  ])('%j is refused, with what to do', (fields, says) => {
    expect(() => admit(request(fields), 2, newTable())).toThrow(says);
    try {
      admit(request(fields), 2, newTable());
    } catch (error) {
      expect(error).toMatchObject({ code: 'pool', hint: expect.stringMatching(/--/) as string });
    }
  });

  test('guarantees add up to the pool at most; those of the dead do not count', () => {
    const table = newTable();
    const slot = takeSlot(table, vm('other', 2));
    expect(() => admit(request({ vcpus: 2, min_cores: 1 }), 2, table)).toThrow(/2 of the pool's 2/);
    changeState(table, slot, VM_STARTING, VM_DEAD);
    expect(admit(request({ vcpus: 2, min_cores: 1 }), 2, table)).toBe(2);
  });

  test('an unmanaged VM does not need the pool', () => {
    expect(admit(request({ vcpus: 4, unmanaged: true }), 1, newTable())).toBe(4);
  });
});

describe('the command line of a VM', () => {
  const options = {
    hosted: false,
    program: 'fluxion',
    image: 'img',
    slot: 7,
    maxCores: 2,
    socket: 's',
    cpus: '0-3',
  };
  const words = (fields: object, more: object = {}): string =>
    launch({ ...options, ...more, request: request(fields) }).args.join(' ');

  test('has the workload and its arguments as one', () => {
    const { args } = launch({ ...options, request: request({ args: ['fanout=4', 'x=y'] }) });
    expect(args[args.indexOf('--cmdline') + 1]).toBe('serve fanout=4 x=y');
  });

  test('managed: table and slot; unmanaged: neither, so that the arbiter does not see it', () => {
    expect(words({})).toContain('--table-fd 3 --slot 7');
    expect(words({ unmanaged: true })).not.toMatch(/--table-fd|--slot/);
    expect(words({ unmanaged: true, cpus: '1' })).toContain('--cpus 1');
  });

  test('hosted: no image', () => {
    expect(words({}, { hosted: true })).not.toContain('--image');
  });
});

describe('images', () => {
  let dir: string;
  beforeEach(() => void (dir = mkdtempSync(join(tmpdir(), 'hf-image-'))));
  afterEach(() => rmSync(dir, { recursive: true }));
  const file = (bytes: Buffer | string): string => {
    const path = join(dir, 'image');
    writeFileSync(path, bytes);
    return path;
  };

  test.each([
    ['not there', () => '/nonexistent/image', /no such file/],
    ['a directory', () => dir, /no file/],
    ['empty', () => file(''), /not a 64-bit ELF/],
    ['a script', () => file('#!/bin/sh\nexit 0\n# padding padding'), /not a 64-bit ELF/],
    [
      'a 32-bit ELF',
      () => file(Buffer.from('7f454c4601010100000000000000000002000300', 'hex')),
      /not a 64-bit ELF/,
    ],
    [
      'for another machine',
      () => file(Buffer.from('7f454c460201010000000000000000000200b700', 'hex')),
      /not for x86-64/,
    ],
  ])('%s: refused', (_name, path, says) => {
    expect(() => checkImage(path())).toThrow(says);
  });

  test('an ELF without a note has no ABI', () => {
    expect(imageAbi(process.execPath)).toBeUndefined();
  });
});

describe('cpuset', () => {
  const group = `hyperflux-${process.pid}`;
  let root: string;
  beforeEach(() => void (root = mkdtempSync(join(tmpdir(), 'hf-cgroup-'))));
  afterEach(() => rmSync(root, { recursive: true }));

  test('without cgroups: said, and harmless', () => {
    const cpuset = makeCpuset([1], root);
    expect(cpuset).toMatchObject({
      isolation: 'none',
      text: expect.stringContaining('affinity alone') as string,
    });
    cpuset.add([1]);
    cpuset.undo();
  });

  test('cgroup v1: cores and memory are set, threads go in', () => {
    const v1 = join(root, 'cpuset');
    mkdirSync(v1);
    writeFileSync(join(v1, 'cpuset.cpus'), '0-3\n');
    writeFileSync(join(v1, 'cpuset.mems'), '0\n');
    const cpuset = makeCpuset([1, 2, 3], root);
    expect(cpuset.isolation).toBe('cpuset');
    const read = (name: string): string => readFileSync(join(v1, group, name), 'utf8');
    expect([read('cpuset.cpus'), read('cpuset.mems'), read('cpuset.cpu_exclusive')]).toEqual([
      '1-3',
      '0',
      '1',
    ]);
    cpuset.add([4242]);
    expect(read('tasks')).toBe('4242');
  });

  test('cgroup v2: a partition', () => {
    writeFileSync(join(root, 'cgroup.controllers'), 'cpuset cpu memory\n');
    writeFileSync(join(root, 'cgroup.subtree_control'), 'cpu\n');
    const cpuset = makeCpuset([2], root, '/');
    expect(cpuset.isolation).toBe('partition');
    expect(readFileSync(join(root, 'cgroup.subtree_control'), 'utf8')).toBe('+cpuset');
    expect(readFileSync(join(root, group, 'cpuset.cpus'), 'utf8')).toBe('2');
    cpuset.undo();
    expect(readFileSync(join(root, group, 'cpuset.cpus.partition'), 'utf8')).toBe('member');
  });

  test('cgroup v2: from within a group of systemd there is no partition, and the cores stay usable', () => {
    writeFileSync(join(root, 'cgroup.controllers'), 'cpuset cpu memory\n');
    writeFileSync(join(root, 'cgroup.subtree_control'), 'cpu\n');
    expect(makeCpuset([2], root, '/system.slice/hyperflux.service')).toMatchObject({
      isolation: 'none',
      text: expect.stringContaining('hyperflux.service') as string,
    });
    expect(existsSync(join(root, group))).toBe(false);
  });

  test('what a dead daemon left is cleared away, what a living one has is not', () => {
    const v1 = join(root, 'cpuset');
    const [dead, alive, other] = ['hyperflux-4194399', 'hyperflux-1', 'hyperflux-bench-4194399'];
    for (const name of [dead, alive, other]) mkdirSync(join(v1, name), { recursive: true });
    writeFileSync(join(v1, 'cpuset.cpus'), '0-3\n');
    writeFileSync(join(v1, 'cpuset.mems'), '0\n');
    makeCpuset([1], root);
    expect([dead, alive, other].map((name) => existsSync(join(v1, name)))).toEqual([false, true, true]);
  });

  test('a kernel that refuses is reported, not an error', () => {
    writeFileSync(join(root, 'cgroup.controllers'), 'cpuset\n');
    // No subtree_control to read.
    expect(makeCpuset([2], root, '/')).toMatchObject({
      isolation: 'none',
      text: expect.stringContaining('ENOENT') as string,
    });
    expect(existsSync(join(root, group))).toBe(false);
  });
});

test('the end of a log, from where this life of the VM began', () => {
  const dir = mkdtempSync(join(tmpdir(), 'hf-log-'));
  const path = join(dir, 'vm.log');
  const old = 'error old: an earlier failure\n';
  writeFileSync(path, `${old}info new: one\ninfo new: two\n`);
  expect(logTail(path, old.length)).toBe('info new: one\ninfo new: two');
  expect(logTail(path, 0, 1)).toBe('info new: two');
  expect(logTail(join(dir, 'nothing'))).toBe('');
  rmSync(dir, { recursive: true });
});

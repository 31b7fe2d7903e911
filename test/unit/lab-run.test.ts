/** What the lab makes of arguments, of the guest's ports and of the kernel's log. No QEMU. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { whyItEnded } from '../lab/lab.ts';
import { excerpt, findComplaints, readRecords } from '../lab/log.ts';
import { lastResets, openMonitor } from '../lab/monitor.ts';
import { chooseCpus, DEFAULTS, guestCommand, parseEnv } from '../lab/options.ts';
import { orderNodes, quote } from '../lab/orders.ts';
import { cacheFolder } from '../lab/paths.ts';
import { MarkFilter, openPort } from '../lab/ports.ts';
import { qemuArguments } from '../lab/qemu.ts';

describe('options', () => {
  test('a command of hyperflux, a program, a shell', () => {
    expect(guestCommand(DEFAULTS, ['demo', '--seconds', '2'])).toEqual([
      '/hyperflux/hyperflux',
      'demo',
      '--seconds',
      '2',
    ]);
    expect(guestCommand({ ...DEFAULTS, exec: true }, ['sh', '-c', 'ls'])).toEqual(['sh', '-c', 'ls']);
    expect(() => guestCommand(DEFAULTS, [])).toThrow('nothing to run');
    expect(() => guestCommand({ ...DEFAULTS, shell: true }, ['demo'])).toThrow('takes no command');
  });

  test('bench never has more vCPUs than the host has cores', () => {
    expect(chooseCpus(DEFAULTS, ['demo'], 2)).toBe(4);
    expect(chooseCpus(DEFAULTS, ['bench', 'realloc'], 2)).toBe(2);
    expect(chooseCpus(DEFAULTS, ['bench', 'realloc'], 64)).toBe(4);
    expect(chooseCpus({ ...DEFAULTS, cpus: 3 }, ['demo'], 2)).toBe(3);
    expect(() => chooseCpus({ ...DEFAULTS, cpus: 3 }, ['bench', 'realloc'], 2)).toThrow('2 cores');
    // A program that happens to be called so is not one of the benchmarks.
    expect(chooseCpus({ ...DEFAULTS, exec: true }, ['bench'], 2)).toBe(4);
  });

  test('environment', () => {
    expect(parseEnv(['A=b=c', 'D='])).toEqual({ A: 'b=c', D: '' });
    expect(() => parseEnv(['nothing'])).toThrow('NAME=VALUE');
    expect(() => parseEnv(['1A=x'])).toThrow('NAME=VALUE');
  });

  test('the folder of the cache', () => {
    expect(cacheFolder({ HYPERFLUX_LAB_CACHE: '/c', XDG_CACHE_HOME: '/x' })).toBe('/c');
    expect(cacheFolder({ XDG_CACHE_HOME: '/x' })).toBe('/x/hyperflux/lab');
    expect(cacheFolder({ XDG_CACHE_HOME: 'relative' })).toMatch(/^\/.*\.cache\/hyperflux\/lab$/);
  });
});

describe('orders', () => {
  const orders = {
    ...{
      release: '6.1.0',
      timeout: 60,
      token: 'abc',
      kvm: true,
      kflux: false,
      kfluxOptions: '',
      files: true,
      shell: false,
    },
    ...{ command: ['printf', '%s|', "it's", '$HOME `x`', 'a\nb', ''], env: { WORD: "o'clock" } },
  };
  const text = (path: string): string => {
    const node = orderNodes(orders).find((n) => n.path === path);
    return node?.kind === 'file' ? node.data.toString() : '';
  };

  test('any word comes through a shell as it is', () => {
    const said = execFileSync('sh', ['-c', text('lab/command')], { encoding: 'utf8' });
    expect(said).toBe("it's|$HOME `x`|a\nb||");
    expect(execFileSync('sh', ['-c', `printf %s ${quote("'")}`], { encoding: 'utf8' })).toBe("'");
    expect(text('lab/command')).toContain("export WORD='o'\\''clock'");
  });

  test('settings are ones and noughts for the scripts', () => {
    expect(text('lab/settings').split('\n')).toEqual(
      expect.arrayContaining(["release='6.1.0'", 'kvm=1', 'kflux=0', 'files=1', 'shell=0']),
    );
  });
});

describe('ports', () => {
  const all = (filter: MarkFilter, chunks: readonly string[]): string =>
    Buffer.concat([
      ...chunks.map((chunk) => filter.push(Buffer.from(chunk, 'latin1'))),
      filter.rest(),
    ]).toString('latin1');

  test('what comes before the mark is passed on, however it is cut', () => {
    const stream = 'text\0end no\n\0\0end xy\0end xyz\nbehind';
    for (let size = 1; size <= stream.length; size++) {
      const filter = new MarkFilter('xyz');
      const chunks = stream.match(new RegExp(`[^]{1,${size}}`, 'g')) ?? [];
      expect(all(filter, chunks)).toBe('text\0end no\n\0\0end xy');
      expect(filter.done).toBe(true);
    }
  });

  test('nothing but a possible mark is held back, and in the end not even that', () => {
    const filter = new MarkFilter('xyz');
    expect(filter.push(Buffer.from('prompt> ')).toString()).toBe('prompt> ');
    expect(filter.push(Buffer.from('a\0en')).toString()).toBe('a');
    expect(filter.rest().toString()).toBe('\0en');
    expect(filter.done).toBe(false);
  });

  test('a port says whether it was whole', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'lab-port-'));
    try {
      const taken: string[] = [];
      const whole = await openPort(dir, 'out', 'xyz', (chunk) => void taken.push(chunk.toString()));
      connect(whole.path).end('all of it\0end xyz\n');
      expect(await whole.ended).toBe(true);
      expect(taken.join('')).toBe('all of it');
      const cut = await openPort(dir, 'err', 'xyz', () => undefined);
      connect(cut.path).end('a part');
      expect(await cut.ended).toBe(false);
    } finally {
      rmSync(dir, { recursive: true });
    }
  });
});

describe("the kernel's log", () => {
  const complaint = (line: string): boolean => findComplaints([line]).length === 1;

  test.each([
    '[    1.0] WARNING: CPU: 1 PID: 77 at kernel/sched/core.c:100 x+0x1/0x2',
    '[    1.0] BUG: KASAN: use-after-free in flux_park+0x1/0x2 [kflux]',
    '[    1.0] BUG: kernel NULL pointer dereference, address: 0000000000000000',
    '[    1.0] kernel BUG at kmod/vcpu.c:12!',
    '[    1.0] Oops: 0000 [#1] PREEMPT SMP NOPTI',
    '[    1.0] Kernel panic - not syncing: Fatal exception',
    '[    1.0] WARNING: possible circular locking dependency detected',
    '[    1.0] WARNING: suspicious RCU usage',
    '[    1.0] BUG: sleeping function called from invalid context at mm/x.c:1',
    '[    1.0] BUG: scheduling while atomic: node/77/0x00000002',
    '[    1.0] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks: { 1 }',
    '[    1.0] rcu: INFO: rcu_preempt self-detected stall on CPU',
    '[    1.0] watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [vcpu0:77]',
    '[    1.0] INFO: task vcpu0:77 blocked for more than 120 seconds.',
    '[    1.0] general protection fault, probably for non-canonical address 0x1: 0000 [#1]',
    '[    1.0] refcount_t: underflow; use-after-free.',
    '[    1.0] UBSAN: shift-out-of-bounds in kmod/core.c:1:2',
  ])('is a complaint: %s', (line) => {
    expect(complaint(line)).toBe(true);
  });

  test.each([
    '[    0.0] Linux version 6.1.0 (gcc) #1 SMP',
    '[    0.0] Kernel command line: console=ttyS0 oops=panic',
    '[    1.0] kflux: loading out-of-tree module taints kernel.',
    '[    1.0] kflux: module verification failed: signature and/or required key missing - tainting kernel',
    '[    1.0] Speculative Return Stack Overflow: WARNING: See https://kernel.org/doc for mitigation options.',
    '[    1.0] RCU Tasks Trace: Setting shift to 2 and lim to 1',
    '[    0.5] rcu: RCU CPU stall detection is on',
    '[    1.0] kflux: forced park of vCPU 1 of VM 2: deadline',
    '[    1.0] x86/fpu: Supporting XSAVE feature 0x002: SSE registers',
  ])('is none: %s', (line) => {
    expect(complaint(line)).toBe(false);
  });

  test('records become lines, their details do not', () => {
    const text = '6,1,1234567,-;hello world\n SUBSYSTEM=cpu\n4,2,12000005,-;two; parts\n';
    expect(readRecords(text)).toEqual(['[    1.234567] hello world', '[   12.000005] two; parts']);
  });

  test('what follows a complaint is shown up to its end', () => {
    const lines = ['a', 'WARNING: x', 'trace', '---[ end trace 0000 ]---', 'b'];
    expect(excerpt(lines, findComplaints(lines)[0])).toEqual(lines.slice(1, 4));
    expect(excerpt(['BUG: x', 'y', 'z'], { line: 0, text: '' }, 2)).toEqual(['BUG: x', 'y']);
  });
});

describe('QEMU', () => {
  const machine = {
    ...{ image: '/k', initrd: '/i', disks: ['/a,b.img', '/c.img'], cpus: 2, memoryMib: 512, shell: false },
    ...{ ports: { out: '/run/out' }, console: '/run/console', kernelOptions: ['kflux.x=1'] },
    ...({ tcg: 'multi', monitor: '/run/monitor', resetLog: '/run/resets' } as const),
  };

  test('disks are read-only, a comma in a path is no option', () => {
    const args = qemuArguments(machine, ['/fw']).join(' ');
    expect(args).toContain('-drive file=/a,,b.img,if=none,id=disk0,format=raw,readonly=on');
    expect(args).toContain('-smp 2 -m 512M');
    expect(args).toContain('tsc=reliable clocksource=tsc');
    expect(args).toContain('kflux.x=1');
    expect(args).toContain('virtserialport,chardev=out,name=out');
    expect(args).not.toContain('stdio');
    expect(qemuArguments({ ...machine, shell: true }, []).join(' ')).toContain('stdio,id=shell,signal=off');
  });

  test("vCPUs in threads of their own, or in one; resets are noted, and the machine's end can be looked at", () => {
    const args = qemuArguments(machine, []).join(' ');
    expect(args).toContain('-accel tcg,thread=multi');
    expect(args).toContain('-d cpu_reset -D /run/resets');
    expect(args).toContain('-action reboot=shutdown,shutdown=pause');
    expect(args).toContain('-mon chardev=monitor,mode=control');
    expect(qemuArguments({ ...machine, tcg: 'single' }, []).join(' ')).toContain('-accel tcg,thread=single');
  });
});

describe("the machine's end", () => {
  const folder = mkdtempSync(join(tmpdir(), 'lab-monitor-'));
  afterAll(() => rmSync(folder, { recursive: true }));
  const greeting = '{"QMP": {"version": {}, "capabilities": []}}\r\n';
  const event = (reason: string): string =>
    `${JSON.stringify({ event: 'SHUTDOWN', data: { guest: true, reason }, timestamp: {} })}\r\n`;

  /** QEMU's side: answers each command by what `answers` has for it. */
  async function end(reason: string, answer: object): Promise<{ reason: string; registers: string }> {
    const monitor = await openMonitor(folder);
    const qemu = connect(monitor.path);
    const asked: string[] = [];
    qemu.write(greeting);
    qemu.setEncoding('utf8').on('data', (text: string) => {
      for (const line of text.trim().split('\n')) {
        const { execute } = JSON.parse(line) as { execute: string };
        asked.push(execute);
        if (execute === 'qmp_capabilities') qemu.write(`{"return": {}}\r\n${event(reason)}`);
        else qemu.write(`${JSON.stringify(answer)}\r\n`);
      }
    });
    const stop = await monitor.stopped;
    expect(asked[0]).toBe('qmp_capabilities');
    expect(asked.length).toBe(reason === 'guest-reset' ? 2 : 1);
    monitor.close();
    qemu.destroy();
    return stop;
  }

  test('a machine that resets itself is shown with its registers', async () => {
    const text = '\r\nCPU#0\r\nRAX=1 RBX=2\r\nRIP=ff\r\nFPR0=0\r\nXMM01=0\r\nYMM00=0\r\n';
    expect(await end('guest-reset', { return: text })).toEqual({
      reason: 'guest-reset',
      registers: 'CPU#0\nRAX=1 RBX=2\nRIP=ff',
    });
    const refused = await end('guest-reset', { error: { class: 'GenericError', desc: 'no' } });
    expect(refused.registers).toContain('GenericError');
  });

  test('one that switches itself off is not asked', async () => {
    expect(await end('guest-shutdown', {})).toEqual({ reason: 'guest-shutdown', registers: '' });
  });

  test('the resets of the boot are no fault', () => {
    const boot = 'CPU Reset (CPU 0)\nRAX=0\nCPU Reset (CPU 1)\nRAX=0\n';
    expect(lastResets(boot)).toBe('');
    expect(lastResets(`${boot}Triple fault\n`)).toBe('Triple fault');
  });

  test('what is known of it is said', () => {
    const session = { resets: '', qemuEnd: 'signal SIGKILL', qemuError: '' };
    expect(whyItEnded(session)).toBe('QEMU ended, with signal SIGKILL');
    expect(whyItEnded({ ...session, qemuError: 'no memory\n' })).toContain('QEMU says: no memory');
    expect(whyItEnded({ ...session, stop: { reason: 'guest-reset', registers: '' } })).toContain(
      'reset itself',
    );
    expect(whyItEnded({ ...session, resets: 'Triple fault' })).toBe('a triple fault');
  });
});

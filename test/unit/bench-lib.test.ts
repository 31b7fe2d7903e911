import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { describeEnv, kvmFlavour, platform, type Places } from '../../bench/lib/env.ts';
import { makeProgress } from '../../bench/lib/progress.ts';
import { orderOf, rotate } from '../../bench/lib/rotate.ts';
import { reportSchema } from '../../bench/lib/schema.ts';

describe('rotate', () => {
  it('gives every row the same number of blocks, in an order that changes', async () => {
    const ran: string[] = [];
    const blocks = ['a', 'b', 'c'].map((name) => ({
      name,
      run: (round: number) => void ran.push(name + round),
    }));
    await rotate(blocks, { rounds: 6 });
    expect(ran.join(' ')).toBe('a0 b0 c0 b1 c1 a1 c2 a2 b2 c3 b3 a3 a4 c4 b4 b5 a5 c5');
  });

  it('puts every row first and behind each other row', () => {
    const firsts = new Set<number>();
    const pairs = new Set<string>();
    for (let round = 0; round < 6; round++) {
      const order = orderOf(3, round);
      expect([...order].sort()).toEqual([0, 1, 2]);
      firsts.add(order[0]);
      for (let i = 1; i < 3; i++) pairs.add(`${order[i - 1]}${order[i]}`);
    }
    expect(firsts.size).toBe(3);
    expect(pairs.size).toBe(6);
  });

  it('waits for a block, tells how far it is, and stops at the first error', async () => {
    const steps: string[] = [];
    const progress = (done: number, total: number): void => void steps.push(`${done}/${total}`);
    const slow = { name: 'slow', run: async () => void (await Promise.resolve()) };
    await rotate([slow, slow], { rounds: 1, progress });
    expect(steps).toEqual(['0/2', '1/2', '2/2']);
    const bad = { name: 'bad', run: () => Promise.reject(new Error('broken')) };
    await expect(rotate([bad, slow], { rounds: 1 })).rejects.toThrow('broken');
  });
});

describe('progress', () => {
  function collect(isTTY: boolean): {
    text: () => string;
    write: (s: string) => void;
    isTTY: boolean;
    columns: number;
  } {
    let all = '';
    return { text: () => all, write: (s) => void (all += s), isTTY, columns: 30 };
  }

  it('writes plain lines at tenths where there is no terminal', () => {
    const out = collect(false);
    const progress = makeProgress(out);
    progress.stage('loop');
    for (let i = 0; i <= 40; i++) progress.step(i, 40);
    progress.end();
    expect(out.text().split('\n')).toEqual([
      'loop ...',
      ...[1, 2, 3, 4, 5, 6, 7, 8, 9].map((t) => `loop: ${t}0 %`),
      '',
    ]);
  });

  it('keeps to one line on a terminal, cut to its width, and clears it', () => {
    const out = collect(true);
    let clock = 0;
    const progress = makeProgress(out, () => (clock += 1000));
    progress.stage('loop');
    progress.step(1, 4, 'with a detail that is much too long for it');
    progress.end();
    expect(out.text()).not.toContain('\n');
    const drawn = out.text().split('\r\x1b[K');
    expect(drawn[2]).toBe('loop  25 % with a detail that');
    expect(drawn.at(-1)).toBe('');
  });

  it('draws no more often than a person can read', () => {
    const out = collect(true);
    const progress = makeProgress(out, () => 5);
    progress.stage('loop');
    for (let i = 0; i < 1000; i++) progress.step(i, 1000);
    expect(out.text().split('\r').length).toBeLessThan(5);
  });
});

describe('environment', () => {
  let root: string;
  let places: Places;
  const put = (path: string, text: string): void => {
    const file = join(root, path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, text);
  };

  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'bench-env-'));
    places = { sys: join(root, 'sys'), proc: join(root, 'proc'), dev: join(root, 'dev'), repository: root };
  });
  afterEach(() => rmSync(root, { recursive: true }));

  it('names the KVM flavour only where there is a device', () => {
    expect(kvmFlavour(places)).toBe('none');
    put('sys/module/kvm_amd/version', '');
    expect(kvmFlavour(places)).toBe('none');
    put('dev/kvm', '');
    expect(kvmFlavour(places)).toBe('kvm_amd');
  });

  it('tells TCG, a virtual machine and bare metal apart', () => {
    put('proc/cpuinfo', 'model name\t: QEMU TCG CPU version 2.5+\nflags\t\t: fpu hypervisor\n');
    expect(platform(places)).toBe('TCG');
    put('proc/cpuinfo', 'model name\t: AMD EPYC\nflags\t\t: fpu hypervisor lahf_lm\n');
    expect(platform(places)).toBe('virtual machine');
    put('proc/cpuinfo', 'model name\t: AMD EPYC\nflags\t\t: fpu lahf_lm\n');
    expect(platform(places)).toBe('bare metal');
  });

  it('says null for what the host does not tell, and skips what does not affect the CPU', () => {
    put('sys/devices/system/cpu/vulnerabilities/l1tf', 'Not affected\n');
    put('sys/devices/system/cpu/vulnerabilities/spectre_v2', 'Mitigation: Retpolines\n');
    put('vmm/target/.rustc_info.json', '{"outputs":{"1":{"stdout":"rustc 1.95.0 (abc 2026-04-14)\\n"}}}');
    expect(describeEnv('hosted', places)).toMatchObject({
      mode: 'hosted',
      idle_driver: null,
      isolated_cores: 'none',
      mitigations: { spectre_v2: 'Mitigation: Retpolines' },
      rustc: '1.95.0',
      commit: null,
    });
  });

  it('fits the schema and tells neither host name nor path on this machine', () => {
    const env = describeEnv('hosted');
    expect(reportSchema.shape.env.safeParse(env).success).toBe(true);
    const told = JSON.stringify(env);
    expect(told).not.toContain(process.cwd());
    if (hostname().length > 3) expect(told).not.toContain(hostname());
  });
});

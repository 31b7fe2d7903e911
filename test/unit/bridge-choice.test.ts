/** Who moves the cores: what is chosen when the daemon starts, and what it says about it. */
import { describe, expect, test } from 'vitest';
import type { Situation } from '../../arbiter/control/bridge.ts';
import { choose } from '../../arbiter/control/bridge.ts';

const there = { usable: true, why: 'kFlux 0.1.0 with ABI 1.0 is loaded' };
const absent = {
  usable: false,
  why: 'the kernel module kflux is not loaded',
  hint: 'Load it: sudo hyperflux kmod load',
};
const situation = (fields: Partial<Situation>): Situation => ({
  ...{ wish: 'auto', present: 'affinity', vms: [], usable: there, kvm: '' },
  ...fields,
});

describe('the choice of a bridge', () => {
  test('auto takes kFlux where it can be used', () => {
    expect(choose(situation({}))).toEqual({ kind: 'kflux', why: there.why, against: false });
  });

  test('auto takes the affinity bridge elsewhere, and says why', () => {
    expect(choose(situation({ usable: absent }))).toEqual({
      ...{ kind: 'affinity', why: `kFlux cannot be used: ${absent.why}`, against: false },
    });
  });

  test('auto takes the affinity bridge where VMs cannot run in KVM', () => {
    const { kind, why } = choose(situation({ kvm: 'there is no /dev/kvm' }));
    expect(kind).toBe('affinity');
    expect(why).toContain('no /dev/kvm');
  });

  test('affinity can be asked for where kFlux is', () => {
    expect(choose(situation({ wish: 'affinity', present: 'kflux' })).kind).toBe('affinity');
  });

  test('kFlux that is asked for and cannot be had is an error with what to do', () => {
    expect(choose(situation({ wish: 'kflux', kvm: 'there is no /dev/kvm' })).kind).toBe('kflux');
    const refused = (): unknown => choose(situation({ wish: 'kflux', usable: absent }));
    expect(refused).toThrow(/module kflux is not loaded/);
    try {
      refused();
    } catch (error) {
      expect(error).toMatchObject({ code: 'failed', hint: absent.hint });
    }
  });

  test.each(['kflux', 'affinity'] as const)('while VMs live on a table, %s stays', (present) => {
    const other = present === 'kflux' ? 'affinity' : 'kflux';
    for (const usable of [there, absent]) {
      for (const wish of ['auto', present] as const) {
        const kept = choose(situation({ wish, present, vms: ['web'], usable }));
        expect(kept).toMatchObject({ kind: present, against: false });
        expect(kept.why).toContain('web');
      }
      const kept = choose(situation({ wish: other, present, vms: ['web', 'bulk'], usable }));
      expect(kept).toMatchObject({ kind: present, against: true });
      expect(kept.why).toMatch(new RegExp(`2 VMs .*--bridge ${other} has to wait`));
    }
  });
});

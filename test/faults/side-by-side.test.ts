/** Both bridges in one process and on one core, in turns: what a measurement that compares them does. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, test } from 'vitest';
import { VCPU_PARKED, W_GUEST_VCPU_DONE_LO, W_VCPU_WORD } from '../../arbiter/abi/layout.gen.ts';
import { coreOwner, vcpuState } from '../../arbiter/abi/words.ts';
import { kfluxUsable } from '../../arbiter/kmod/usable.ts';
import { kvmTrouble } from '../../arbiter/vm/host.ts';
import { Rig, type RigVm } from '../../bench/lib/rig.ts';
import { getAffinity, OP_GRANT, OP_MOVE, OP_PARK } from '../../native/index.ts';

const { usable, why: absent } = kfluxUsable();
const why = usable ? kvmTrouble() : absent;
if (why !== '') console.log(`rigs of both bridges: not run: ${why}`);

async function until(rig: Rig, what: string, holds: () => boolean): Promise<void> {
  for (let tries = 0; tries < 60_000; tries++) {
    if (holds()) return;
    rig.bridge.poll();
    await sleep(1);
  }
  throw new Error(`it did not happen: ${what}`);
}

describe.skipIf(why !== '')('rigs of both bridges', { timeout: 600_000 }, () => {
  const rigs: Rig[] = [];
  afterEach(async () => {
    for (const rig of rigs.splice(0)) await rig.close();
  });

  test('use a core in turns, and neither minds the other', async () => {
    const [driver, core] = getAffinity(0);
    const worlds: { rig: Rig; pair: RigVm[] }[] = [];
    for (const bridge of ['affinity', 'kflux'] as const) {
      const rig = new Rig(driver, [core], { bridge });
      rigs.push(rig);
      expect(rig.bridge.kind).toBe(bridge);
      const spin = (name: string): Promise<RigVm> => rig.start({ name, cmdline: 'probe mode=spin' });
      worlds.push({ rig, pair: [await spin('one'), await spin('two')] });
    }
    for (let round = 0; round < 20; round++) {
      const { rig, pair } = worlds[round % 2];
      const done = (vm: RigVm): number => rig.guest(vm, W_GUEST_VCPU_DONE_LO);
      const parked = (vm: RigVm): boolean => vcpuState(rig.vcpu(vm, W_VCPU_WORD)) === VCPU_PARKED;
      const [one, two] = round % 4 < 2 ? pair : [...pair].reverse();
      let before = done(one);
      expect(rig.command(OP_GRANT, core, 0, rig.handle(one))).toBe(0);
      await until(rig, 'the first one works', () => done(one) !== before);
      before = done(two);
      expect(rig.command(OP_MOVE, core, rig.handle(one), rig.handle(two))).toBe(0);
      await until(rig, 'the second one works', () => done(two) !== before);
      expect(rig.command(OP_PARK, core, rig.handle(two), 0)).toBe(0);
      await until(rig, 'both are parked', () => parked(one) && parked(two));
      expect(coreOwner(rig.owner(core))).toBe(0);
    }
  });
});

/**
 * Processes that die at the worst moment, and guests that do not play by the rules,
 * while a core is on its way from one VM to another. Real KVM guests, the real bridges.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, test } from 'vitest';
import {
  HELD_FORCED,
  OFF_GUEST_VCPU_DONE_LO,
  VCPUS_OFFSET,
  VCPU_PARKED,
  VCPU_RUNNING,
  W_GUEST_VCPU_DONE_LO,
  W_SUMMARY_INTEGRITY_ERRORS,
  W_VCPU_HELD,
  W_VCPU_WORD,
  W_VM_FORCED,
  W_VM_FORCED_DESCHEDULED,
  HOT_BYTES,
} from '../../arbiter/abi/layout.gen.ts';
import { coreOwner, coreSuccessor, summaryOffset, vcpuState } from '../../arbiter/abi/words.ts';
import { kfluxUsable } from '../../arbiter/kmod/usable.ts';
import { kvmTrouble } from '../../arbiter/vm/host.ts';
import { getAffinity, OP_GRANT, OP_MOVE } from '../../native/index.ts';
import { Rig, type RigOptions, type RigVm } from '../../bench/lib/rig.ts';
import { VmClient } from './vm-client.ts';

const cores = getAffinity(0);
const why = kvmTrouble() !== '' ? `no KVM: ${kvmTrouble()}` : cores.length < 2 ? 'it needs two cores' : '';
if (why !== '') console.log(`faults in mid-move: not run: ${why}`);

/** A bound for a lab that is slow, and nothing that is measured. */
const LAB_MS = 600_000;

/** Waits for something that must come, with the bridge's kicks going on. */
async function until(rig: Rig | undefined, what: string, condition: () => boolean): Promise<void> {
  for (let tries = 0; tries < 60_000; tries++) {
    if (condition()) return;
    rig?.bridge.poll();
    await sleep(1);
  }
  throw new Error(`it did not happen: ${what}`);
}

const kflux = kfluxUsable();
if (why === '' && !kflux.usable) console.log(`faults in mid-move over kFlux: not run: ${kflux.why}`);
const bridges: RigOptions['bridge'][] = kflux.usable ? ['affinity', 'kflux'] : ['affinity'];

describe.skipIf(why !== '').each(bridges)('faults in mid-move (KVM, %s)', { timeout: LAB_MS }, (bridge) => {
  const [driver, core] = cores;
  let rig: Rig | undefined;
  const open = (): Rig => (rig = new Rig(driver, [core], { bridge }));
  afterEach(async () => {
    await rig?.close();
    rig = undefined;
  });

  const spinning = (r: Rig, name: string): Promise<RigVm> => r.start({ name, cmdline: 'probe mode=spin' });
  const progress = async (r: Rig, vm: RigVm): Promise<void> => {
    const before = r.guest(vm, W_GUEST_VCPU_DONE_LO);
    await until(r, `${vm.name} makes progress`, () => r.guest(vm, W_GUEST_VCPU_DONE_LO) !== before);
  };
  const state = (r: Rig, vm: RigVm): number => vcpuState(r.vcpu(vm, W_VCPU_WORD));
  const errors = (r: Rig, vm: RigVm): number =>
    r.pages[(vm.slot * HOT_BYTES + summaryOffset(vm.slot)) / 4 + W_SUMMARY_INTEGRITY_ERRORS];

  test.each([
    ['that leaves', 0],
    ['that is to get the core', 1],
  ])('the VMM %s is killed: the core goes on, the third VM is unharmed', async (_which, victim) => {
    const r = open();
    const witness = await spinning(r, 'witness');
    for (let round = 0; round < 10; round++) {
      const pair = [await spinning(r, `from-${round}`), await spinning(r, `to-${round}`)];
      r.setHeir(core, 0);
      expect(r.command(OP_GRANT, core, 0, r.handle(pair[0]))).toBe(0);
      await progress(r, pair[0]);
      // The successor of the move may die; then the core falls idle. The leaver's heir is the witness.
      r.setHeir(core, r.handle(witness));
      expect(r.command(OP_MOVE, core, r.handle(pair[0]), r.handle(pair[1]))).toBe(0);
      for (let spin = 0; spin < round * 2000; spin++) r.owner(core);
      await r.kill(pair[victim]);
      const survivor = pair[1 - victim];
      // kFlux moves the cores of the dead on by itself, a moment after they died.
      const dead = r.handle(pair[victim]);
      await until(r, 'the move is over', () => {
        const word = r.owner(core);
        return coreSuccessor(word) === 0 && coreOwner(word) !== dead;
      });
      const owner = coreOwner(r.owner(core));
      expect([0, r.handle(survivor), r.handle(witness)]).toContain(owner);
      // Whoever has it runs; if nobody has it, it can be granted.
      if (owner === 0) expect(r.command(OP_GRANT, core, 0, r.handle(witness))).toBe(0);
      await progress(r, owner === r.handle(survivor) ? survivor : witness);
      expect(errors(r, witness) + errors(r, survivor)).toBe(0);
      await r.kill(survivor);
      await until(r, 'the core has gone on', () => coreOwner(r.owner(core)) !== r.handle(survivor));
      const now = coreOwner(r.owner(core));
      if (now === 0) expect(r.command(OP_GRANT, core, 0, r.handle(witness))).toBe(0);
      await progress(r, witness);
      // Off the core again, for the next round.
      const parking = await spinning(r, `parking-${round}`);
      expect(r.command(OP_MOVE, core, r.handle(witness), r.handle(parking))).toBe(0);
      await until(r, 'the witness is parked', () => state(r, witness) === VCPU_PARKED);
      r.setHeir(core, 0);
      await r.kill(parking);
      await until(r, 'the core is idle', () => coreOwner(r.owner(core)) === 0);
    }
  });

  test('the arbiter is killed in mid-move: both VMs go on under the ordinary scheduler', async () => {
    for (let round = 0; round < 5; round++) {
      const mover = spawn(process.execPath, [new URL('mover.ts', import.meta.url).pathname, bridge!], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const [line] = (await once(mover.stdout, 'data')) as [Buffer];
      const vms = JSON.parse(line.toString()) as { name: string; pid: number; socket: string }[];
      try {
        await sleep(30 + round * 7);
        mover.kill('SIGKILL');
        await once(mover, 'exit');
        for (const vm of vms) {
          const client = new VmClient(vm.socket);
          await until(undefined, `${vm.name} is unmanaged`, () => client.ask('status').managed === false);
          const page = client.page();
          const at = (VCPUS_OFFSET + OFF_GUEST_VCPU_DONE_LO) / 4;
          const before = Atomics.load(page, at);
          await until(undefined, `${vm.name} makes progress`, () => Atomics.load(page, at) !== before);
          client.close();
        }
      } finally {
        mover.kill('SIGKILL');
        for (const vm of vms) process.kill(vm.pid, 'SIGKILL');
      }
    }
  });

  test('a guest that never parks is forced at the deadline, counted, and resumed later', async () => {
    const r = open();
    const stubborn = await r.start({ name: 'stubborn', cmdline: 'probe mode=stubborn' });
    const neighbour = await spinning(r, 'neighbour');
    expect(r.command(OP_GRANT, core, 0, r.handle(stubborn))).toBe(0);
    await progress(r, stubborn);
    expect(r.command(OP_MOVE, core, r.handle(stubborn), r.handle(neighbour))).toBe(0);
    await until(r, 'the neighbour runs', () => state(r, neighbour) === VCPU_RUNNING);
    await progress(r, neighbour);
    const forced = (): number =>
      r.vmWord(stubborn, W_VM_FORCED) + r.vmWord(stubborn, W_VM_FORCED_DESCHEDULED);
    await until(r, 'what it did is held', () => r.vcpu(stubborn, W_VCPU_HELD) === HELD_FORCED);
    expect(r.vmWord(neighbour, W_VM_FORCED)).toBe(0);
    // The affinity bridge's deadline thread counts at once; with kFlux the VM does, when its vCPU is back.
    if (bridge === 'affinity') expect(forced()).toBe(1);
    // What was forced goes on where it was.
    expect(r.command(OP_MOVE, core, r.handle(neighbour), r.handle(stubborn))).toBe(0);
    await progress(r, stubborn);
    await until(r, 'the force is counted', () => forced() === 1);
    expect(errors(r, neighbour)).toBe(0);
  });

  test('a guest that writes nonsense into its page loses the core like any other', async () => {
    const r = open();
    const liar = await r.start({ name: 'liar', cmdline: 'probe mode=liar' });
    const neighbour = await spinning(r, 'neighbour');
    for (let round = 0; round < 5; round++) {
      await until(r, 'the liar is parked', () => state(r, liar) === VCPU_PARKED);
      expect(r.command(OP_GRANT, core, 0, r.handle(liar))).toBe(0);
      await sleep(5);
      expect(r.command(OP_MOVE, core, r.handle(liar), r.handle(neighbour))).toBe(0);
      await until(r, 'the neighbour runs', () => state(r, neighbour) === VCPU_RUNNING);
      await progress(r, neighbour);
      expect(r.command(OP_MOVE, core, r.handle(neighbour), r.handle(liar))).toBe(0);
      await until(r, 'the liar runs', () => state(r, liar) === VCPU_RUNNING);
      const parking = await spinning(r, `parking-${round}`);
      expect(r.command(OP_MOVE, core, r.handle(liar), r.handle(parking))).toBe(0);
      await until(r, 'the core has moved', () => coreOwner(r.owner(core)) === r.handle(parking));
      await r.kill(parking);
    }
    expect(errors(r, neighbour)).toBe(0);
  });

  test('a guest that crashes is poisoned, and the core is free again', async () => {
    const r = open();
    const crash = await r.start({ name: 'crash', cmdline: 'probe mode=crash address=64' });
    const neighbour = await spinning(r, 'neighbour');
    r.setHeir(core, r.handle(neighbour));
    expect(r.command(OP_GRANT, core, 0, r.handle(crash))).toBe(0);
    await until(r, 'the heir has the core', () => coreOwner(r.owner(core)) === r.handle(neighbour));
    await progress(r, neighbour);
    const client = new VmClient(`${r.dir}/crash.sock`);
    expect(client.ask('status')).toMatchObject({
      state: 'poisoned',
      error: expect.stringMatching(/rip|RIP/) as string,
    });
    client.close();
  });
});

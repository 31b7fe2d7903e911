/**
 * How long a lock makes no progress because the vCPU of its holder was parked.
 *
 * A VM with two vCPUs on two cores: two uThreads contend for one lock, and whoever has
 * it stamps it all the time. One of the two cores is moved to another VM; if the
 * holder ran there, the other vCPU takes the held context over, and the gap between
 * the two stamps around the park is what it has cost the lock. On a machine
 * of two cores this process shares one of them with the vCPU that takes over, so it
 * sleeps while that works; what it takes from it is part of the figure.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import {
  VCPU_PARKED,
  W_GUEST_VCPU_TAKEN,
  W_VCPU_T_SEEN_LO,
  W_VCPU_WORD,
} from '../../arbiter/abi/layout.gen.ts';
import { vcpuState } from '../../arbiter/abi/words.ts';
import { FLAG_KICK_NOW, OP_GRANT, OP_MOVE } from '../../native/index.ts';
import { Samples } from '../lib/stats.ts';
import type { Progress } from '../lib/progress.ts';
import { Records } from '../lib/records.ts';
import { Rig, type RigVm } from '../lib/rig.ts';
import { RowError } from './row.ts';

const ROUNDS_PER_SAMPLE = 6;
/** A word that nobody writes, to sleep on. */
const never = new Int32Array(new SharedArrayBuffer(4));

export interface Stranded {
  readonly samples: Samples;
  /** Moves that hit the holder, of all. */
  readonly rounds: number;
}

async function parked(rig: Rig, vm: RigVm, vcpu: number): Promise<void> {
  for (let i = 0; vcpuState(rig.vcpu(vm, W_VCPU_WORD, vcpu)) !== VCPU_PARKED; i++) {
    if (i > 2000) throw new RowError(`vCPU ${vcpu} of ${vm.name} did not park; ${rig.describe(vm)}`);
    rig.bridge.poll();
    await sleep(1);
  }
}

/**
 * `driverCore` is the core that the driver shares with the VM's first vCPU, `core` the one
 * that is moved. Collects until `wanted` samples are there or six times as many moves are done.
 */
export async function stranded(
  driverCore: number,
  core: number,
  wanted: number,
  progress: Progress,
): Promise<Stranded> {
  const rig = new Rig(driverCore, [driverCore, core]);
  const samples = new Samples(wanted);
  let rounds = 0;
  try {
    const cmdline = 'probe mode=lock uthreads=2 hold_ns=20000 gap_ns=3000';
    const locks = await rig.start({ name: 'lock', vcpus: 2, cmdline, idleSpinNs: 50_000_000 });
    const other = await rig.start({ name: 'taker', cmdline: 'probe mode=spin' });
    const gaps = new Records(locks.controlPage);
    const must = (result: number, what: string): void => {
      if (result !== 0) throw new RowError(`${what} was refused: ${result}; ${rig.describe(locks)}`);
    };
    must(rig.command(OP_GRANT, driverCore, 0, rig.handle(locks, 0)), 'the first grant');
    must(rig.command(OP_GRANT, core, 0, rig.handle(locks, 1)), 'the second grant');
    await sleep(50);
    while (samples.length < wanted && rounds < wanted * ROUNDS_PER_SAMPLE) {
      gaps.read(() => undefined);
      const taken = rig.guest(locks, W_GUEST_VCPU_TAKEN, 0);
      must(rig.command(OP_MOVE, core, rig.handle(locks, 1), rig.handle(other), FLAG_KICK_NOW), 'a move away');
      // At once and without the event loop: the vCPU that takes over needs this core.
      Atomics.wait(never, 0, 0, 2);
      await parked(rig, locks, 1);
      // Only if the vCPU was in the middle of something that the other one took over.
      if (rig.guest(locks, W_GUEST_VCPU_TAKEN, 0) !== taken) {
        // The gap that the park fell into: the holder's last stamp came before its vCPU was seen out of the
        // guest, the next one after. Other gaps have other causes, this process's own work among them.
        const seen = rig.vcpu(locks, W_VCPU_T_SEEN_LO, 1);
        gaps.read((ticks, end) => {
          if (rig.us(end, seen) <= 0 && rig.us((end - ticks) | 0, seen) >= 0)
            samples.push((ticks * 1000) / rig.khz);
        });
      }
      must(rig.command(OP_MOVE, core, rig.handle(other), rig.handle(locks, 1)), 'a move back');
      rounds++;
      progress.step(samples.length, wanted);
      await parked(rig, other, 0);
      await sleep(1);
    }
    return { samples, rounds };
  } finally {
    await rig.close();
  }
}

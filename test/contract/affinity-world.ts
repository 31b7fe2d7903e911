/**
 * The affinity bridge with real threads: each VM is a process of
 * vmm/handoff/examples/puppet.rs, whose vCPUs wait for cores, hold them and leave
 * them as Fluxion's do, without a guest.
 */
import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { VM_STARTING, W_VM_STATE } from '../../arbiter/abi/layout.gen.ts';
import { affinityBridge } from '../../arbiter/bridge/affinity.ts';
import { slotOf, vcpuOf, vmBase } from '../../arbiter/bridge/words.ts';
import type { ContractWorld } from './world.ts';
import { stateOf } from './world.ts';

const puppet = ['release', 'debug']
  .map((profile) => fileURLToPath(new URL(`../../vmm/target/${profile}/examples/puppet`, import.meta.url)))
  .find((path) => existsSync(path));

/** Why the affinity bridge cannot be tested here; empty: it can. */
export async function cannot(): Promise<string> {
  if (puppet === undefined) return 'the puppet is not built: cd vmm && cargo build --release --examples';
  try {
    const { getAffinity } = await import('../../native/index.ts');
    if (getAffinity(0).length < 2) return 'it needs two cores';
  } catch (error) {
    return `the addon: ${(error as Error).message}`;
  }
  return '';
}

export async function affinityWorld(): Promise<ContractWorld> {
  const native = await import('../../native/index.ts');
  const fd = native.createTable('hyperflux-contract');
  const { TABLE_BYTES } = await import('../../arbiter/abi/layout.gen.ts');
  const buffer = native.mapShared(fd, TABLE_BYTES);
  const { khz } = native.calibrateTsc();
  native.initTable(buffer, khz, native.chooseStampShift(khz));
  const table = new Int32Array(buffer);
  const bridge = affinityBridge(native.AffinityBridge.open(buffer), null);
  const cores = native.getAffinity(0).slice(0, 2);
  bridge.claim(process.pid, cores[0], cores);
  const children: ChildProcess[] = [];

  const tell = (handle: number, words: string): void => {
    children[slotOf(handle)].stdin!.write(`${words.replace('V', String(vcpuOf(handle)))}\n`);
  };
  const world: ContractWorld = {
    bridge,
    table,
    cores,
    unmanagedCore: 255,
    async vm(vcpus) {
      const slot = children.length;
      Atomics.store(table, vmBase(slot) + W_VM_STATE, VM_STARTING);
      const child = spawn(puppet!, [String(slot), String(vcpus)], { stdio: ['pipe', 'pipe', 'inherit', fd] });
      child.stdin!.on('error', () => {});
      children.push(child);
      const lines = createInterface(child.stdout!);
      const [line] = (await once(lines, 'line')) as [string];
      if (line !== 'ready') throw new Error(`the puppet said ${line}`);
      return slot;
    },
    async manner(handle, manner) {
      tell(handle, `mode V ${manner === 'obeys' ? 'spin' : 'stubborn'}`);
      // The puppet reads its commands in a thread of its own and does not answer.
      await sleep(20);
    },
    async yield(handle) {
      tell(handle, 'yield V');
    },
    async until(handle, state) {
      for (let tries = 0; tries < 5000; tries++) {
        if (stateOf(world, handle) === state) return;
        bridge.poll();
        await sleep(1);
      }
      throw new Error(`vCPU ${handle} stays in state ${stateOf(world, handle)}, not ${state}`);
    },
    async kill(slot) {
      const child = children[slot];
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill('SIGKILL');
      await once(child, 'exit');
    },
    async close() {
      for (let slot = 0; slot < children.length; slot++) await world.kill(slot);
      native.closeFd(fd);
    },
  };
  return world;
}

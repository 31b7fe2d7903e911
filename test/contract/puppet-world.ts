/**
 * The real bridges with real threads: each VM is a process of
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
import {
  TABLE_BYTES,
  VM_STARTING,
  W_CORE_WORD_HI,
  W_TABLE_DEADLINE_US,
  W_TABLE_LEASE_MS,
  W_VM_STATE,
} from '../../arbiter/abi/layout.gen.ts';
import type { NativeFace } from '../../arbiter/bridge/native.ts';
import { nativeBridge } from '../../arbiter/bridge/native.ts';
import { coreBase, slotOf, vcpuOf, vmBase } from '../../arbiter/bridge/words.ts';
import type { ContractWorld } from './world.ts';

const puppet = ['release', 'debug']
  .map((profile) => fileURLToPath(new URL(`../../vmm/target/${profile}/examples/puppet`, import.meta.url)))
  .find((path) => existsSync(path));

/** Why real bridges cannot be tested here; empty: they can. */
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

/** What differs between the bridges, when a world of puppets is made. */
export interface Stage {
  /** The two managed cores, of those that this process may use. */
  choose(allowed: readonly number[]): number[];
  /** Called with the table filled in and the bridge open, before the claim. */
  prepare(table: ArrayBuffer, bridge: NativeFace): void;
  /** Descriptors that a VM's process inherits after the table's, closed here once it has them. */
  descriptors(slot: number, vcpus: number): number[];
  args: readonly string[];
  /** A second bridge, made what the first is. */
  prepareSecond(bridge: NativeFace): void;
  nearWrap(table: Int32Array, core: number): void;
  close(): void;
}

export const affinityStage = (): Stage => ({
  choose: (allowed) => allowed.slice(0, 2),
  prepare: () => {},
  descriptors: () => [],
  args: [],
  prepareSecond: () => {},
  nearWrap: (table, core) => void Atomics.store(table, coreBase(core) + W_CORE_WORD_HI, -3),
  close: () => {},
});

export async function puppetWorld(stage: Stage): Promise<ContractWorld> {
  const native = await import('../../native/index.ts');
  const fd = native.createTable('hyperflux-contract');
  const buffer = native.mapShared(fd, TABLE_BYTES);
  const { khz } = native.calibrateTsc();
  native.initTable(buffer, khz, native.chooseStampShift(khz));
  const table = new Int32Array(buffer);
  // Who is stubborn stays so until the test says otherwise, and nobody beats while a test waits.
  table[W_TABLE_DEADLINE_US] = 10_000_000;
  table[W_TABLE_LEASE_MS] = 60_000;
  const bridge = nativeBridge(native.NativeBridge.open(buffer), null);
  stage.prepare(buffer, bridge);
  const cores = stage.choose(native.getAffinity(0));
  bridge.claim(process.pid, cores[0], cores);
  const bridges = [bridge];
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
      const descriptors = stage.descriptors(slot, vcpus);
      const child = spawn(puppet!, [String(slot), String(vcpus), ...stage.args], {
        stdio: ['pipe', 'pipe', 'inherit', fd, ...descriptors],
      });
      descriptors.forEach(native.closeFd);
      child.stdin!.on('error', () => {});
      children.push(child);
      const lines = createInterface(child.stdout!);
      const [line] = (await Promise.race([once(lines, 'line'), once(lines, 'close')])) as [string?];
      if (line !== 'ready') throw new Error(`the puppet said ${line ?? 'nothing'}`);
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
    async settled(what, holds) {
      for (let tries = 0; tries < 5000; tries++) {
        if (holds()) return;
        bridge.poll();
        await sleep(1);
      }
      throw new Error(`it did not happen: ${what}`);
    },
    async kill(slot) {
      const child = children[slot];
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill('SIGKILL');
      await once(child, 'exit');
    },
    async second() {
      const other = nativeBridge(native.NativeBridge.open(buffer), null);
      stage.prepareSecond(other);
      bridges.push(other);
      return other;
    },
    nearWrap: (core) => stage.nearWrap(table, core),
    async close() {
      for (let slot = 0; slot < children.length; slot++) await world.kill(slot);
      for (const each of bridges) {
        try {
          each.release();
        } catch {
          // The lease is another's by now.
        }
      }
      stage.close();
      native.closeFd(fd);
    },
  };
  return world;
}

/**
 * The built-in policy `chaos`: random moves, for testing guests. Every so often one
 * core, whichever, goes to one VM, whichever, or to nobody: a guest that survives it
 * survives being asked, kicked, parked and granted at any moment. The idea is
 * scx_chaos's.
 *
 * The moves are legal: nobody gets more than its maximum, or loses guaranteed cores
 * that it uses. Idle cores go to somebody with work, so that guests get on. The same
 * seed makes the same choices in the same world.
 */
import { z } from 'zod';
import type { Figures, Wishes } from '../api.ts';
import {
  CORE_MOVING,
  HEAD_CORES,
  HEAD_HOT,
  HEAD_NOW,
  MAX_VMS,
  NO_VM,
  POLICY_API,
  smallArray,
} from '../api.ts';
import { definePolicy, type Hot } from '../define.ts';
import { us, whole } from '../kit/params.ts';
import { WHY_CHAOS, WHY_IDLE_CORE } from '../reasons.ts';

const params = z.strictObject({
  every_us: us(100, 'how often something random happens'),
  seed: whole(1, 0x7fffffff, 1, 'the same seed, the same choices'),
});

function bind(view: Figures, out: Wishes): Hot<z.output<typeof params>> {
  const { head, hot, vmMin, vmMax, vmCores, vmWants, coreVm, coreFlags, coreHeir } = view;
  const { target, why, heir } = out;
  const have = new Int32Array(MAX_VMS);
  const words = smallArray(3);
  const STATE = 0;
  const EVERY = 1;
  const LAST = 2;

  /** A number from 0 to below - 1: xorshift. */
  function pick(below: number): number {
    let x = words[STATE];
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    words[STATE] = x;
    return (x >>> 0) % below;
  }

  function may(vm: number, k: number): boolean {
    if ((coreFlags[k] & CORE_MOVING) !== 0 || target[k] === vm) return false;
    const owner = target[k];
    if (owner !== NO_VM) {
      const uses = vmMin[owner] < vmWants[owner] ? vmMin[owner] : vmWants[owner];
      if (have[owner] <= uses) return false;
    }
    return vm === NO_VM || have[vm] < vmMax[vm];
  }

  function give(vm: number, k: number, reason: number): void {
    if (target[k] !== NO_VM) have[target[k]]--;
    if (vm !== NO_VM) have[vm]++;
    target[k] = vm;
    why[k] = reason;
  }

  /** Whoever has work; one in four times also whoever has a core. */
  function anybody(): number {
    const count = head[HEAD_HOT];
    if (count > 0 && pick(4) !== 0) return hot[pick(count)];
    return coreVm[pick(head[HEAD_CORES])];
  }

  function disturb(): void {
    const k = pick(head[HEAD_CORES]);
    const vm = pick(8) === 0 ? NO_VM : anybody();
    if (may(vm, k)) give(vm, k, WHY_CHAOS);
    heir[pick(head[HEAD_CORES])] = anybody();
  }

  function feed(k: number): void {
    const vm = hot[pick(head[HEAD_HOT])];
    if (vmWants[vm] > have[vm] && may(vm, k)) give(vm, k, WHY_IDLE_CORE);
  }

  return {
    decide(): void {
      const cores = head[HEAD_CORES];
      const count = head[HEAD_HOT];
      const now = head[HEAD_NOW];
      for (let k = 0; k < cores; k++) {
        if (coreVm[k] !== NO_VM) have[coreVm[k]] = vmCores[coreVm[k]];
        heir[k] = coreHeir[k];
      }
      for (let i = 0; i < count; i++) have[hot[i]] = vmCores[hot[i]];
      if (cores === 0) return;
      if ((now - words[LAST]) >>> 0 >= words[EVERY]) {
        words[LAST] = now;
        disturb();
      }
      if (count === 0) return;
      for (let k = 0; k < cores; k++) if (coreVm[k] === NO_VM && target[k] === NO_VM) feed(k);
    },
    configure({ every_us, seed }, stampsPerUs): void {
      words[EVERY] = every_us * stampsPerUs;
      words[STATE] = seed;
    },
  };
}

export const chaos = definePolicy({
  api: POLICY_API,
  name: 'chaos',
  version: '1.0.0',
  summary: 'random legal moves, for testing guests',
  params,
  bind,
});

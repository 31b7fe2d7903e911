/**
 * The built-in policy `fair-share`: core time by weight, and no core idle while
 * somebody can use it.
 *
 * The rule is that of weighted fair queueing, as in Linux's CFS: each VM has a
 * virtual time that runs while it has cores, the faster the more it has and the less
 * it weighs; whoever is furthest behind goes first. A VM that wants less than its
 * share is never far ahead, so what it leaves is shared by the others. A VM that
 * comes back from having nothing to do starts with the rest of them: idling saves
 * nothing up. Classes do not count here; guarantees do.
 */
import { z } from 'zod';
import type { Figures, Wishes } from '../api.ts';
import { AGE_MAX, HEAD_CORES, HEAD_HOT, HEAD_NOW, MAX_VMS, NO_VM, POLICY_API, smallArray } from '../api.ts';
import { definePolicy, type Hot } from '../define.ts';
import { makeClaims, type Rules } from '../kit/claims.ts';
import { us } from '../kit/params.ts';
import { WHY_GUARANTEE, WHY_IDLE_CORE, WHY_WEIGHT } from '../reasons.ts';

const params = z.strictObject({
  slice_us: us(1000, 'a core is taken from a VM that is ahead by this much core time at a weight of 100'),
  tenure_us: us(50, 'a core is not taken from a VM that has had it for less'),
});

const GUARANTEE = 2;
const SHARE = 1;
/** So far apart virtual times are shown to the rules, in stamps. */
const FAR = 0x1fffffff;

function bind(view: Figures, out: Wishes): Hot<z.output<typeof params>> {
  const { head, hot, vmMin, vmMax, vmWeight, vmWants, coreVm, coreAge } = view;
  const claims = makeClaims(view, out);
  const { have } = claims;
  /** Core time over weight, in stamps at a weight of 100. */
  const virtual = new Float64Array(MAX_VMS);
  /** The least of those who want something; it never goes back. */
  const floor = new Float64Array(8);
  /** How far ahead of that a VM is. */
  const ahead = new Int32Array(MAX_VMS);
  /** Whether it wanted something in the last turn. */
  const wanted = new Int32Array(MAX_VMS);
  const times = smallArray(3);
  const SLICE = 0;
  const TENURE = 1;
  const LAST = 2;

  function charge(): void {
    const now = head[HEAD_NOW];
    const passed = (now - times[LAST]) | 0;
    const cores = head[HEAD_CORES];
    times[LAST] = now;
    for (let k = 0; k < cores; k++) {
      const vm = coreVm[k];
      if (vm === NO_VM) continue;
      const held = passed >= 0 && passed < coreAge[k] ? passed : coreAge[k];
      virtual[vm] += (held * 100) / vmWeight[vm];
    }
  }

  /** Those who have wanted something all along say where the floor is. */
  function look(vm: number): void {
    if (vmWants[vm] === 0) wanted[vm] = 0;
    else if (wanted[vm] !== 0 && virtual[vm] < floor[1]) floor[1] = virtual[vm];
  }

  /** Whoever comes begins there. */
  function measure(vm: number): void {
    if (vmWants[vm] !== 0 && wanted[vm] === 0) {
      if (virtual[vm] < floor[0]) virtual[vm] = floor[0];
      wanted[vm] = 1;
    }
    const lead = virtual[vm] - floor[0];
    ahead[vm] = lead < FAR ? lead : FAR;
  }

  function measureAll(): void {
    const count = head[HEAD_HOT];
    const cores = head[HEAD_CORES];
    floor[1] = Infinity;
    for (let k = 0; k < cores; k++) if (coreVm[k] !== NO_VM) look(coreVm[k]);
    for (let i = 0; i < count; i++) look(hot[i]);
    if (floor[1] !== Infinity && floor[1] > floor[0]) floor[0] = floor[1];
    for (let k = 0; k < cores; k++) if (coreVm[k] !== NO_VM) measure(coreVm[k]);
    for (let i = 0; i < count; i++) measure(hot[i]);
  }

  const rules: Rules = {
    level(vm, cores): number {
      if (vmWants[vm] <= cores || cores >= vmMax[vm]) return 0;
      return cores < vmMin[vm] ? GUARANTEE : SHARE;
    },
    urgency: (vm) => -ahead[vm] | 0,
    readiness(k, victim, vm, level): number {
      if (level === GUARANTEE) return ahead[victim] + FAR;
      if (coreAge[k] < times[TENURE] || have[victim] <= vmMin[victim]) return -1;
      const lead = ahead[victim] - ahead[vm];
      // A lead that does not grow needs nobody's core: whole shares settle.
      const grows = have[victim] * vmWeight[vm] > have[vm] * vmWeight[victim];
      return lead >= times[SLICE] && grows ? lead : -1;
    },
    reason: (_vm, level, taken) => (level === GUARANTEE ? WHY_GUARANTEE : taken ? WHY_WEIGHT : WHY_IDLE_CORE),
  };

  return {
    decide(): void {
      charge();
      measureAll();
      claims.begin();
      claims.serve(rules);
    },
    configure({ slice_us, tenure_us }, stampsPerUs): void {
      times[SLICE] = slice_us * stampsPerUs;
      times[TENURE] = tenure_us * stampsPerUs;
    },
    /** How far ahead each VM is, by slot, in stamps; the floor itself means nothing to anybody else. */
    save: () => Int32Array.from(virtual, (time) => Math.min(Math.max(time - floor[0], 0), AGE_MAX)),
    restore(state): void {
      if (!(state instanceof Int32Array) || state.length !== MAX_VMS)
        throw new RangeError(`a word for each of ${MAX_VMS} slots is needed`);
      virtual.set(state);
      floor[0] = 0;
      times[LAST] = head[HEAD_NOW];
    },
  };
}

export const fairShare = definePolicy({
  api: POLICY_API,
  name: 'fair-share',
  version: '1.0.0',
  summary: 'core time by weight; nothing idles while somebody can use it',
  params,
  bind,
});

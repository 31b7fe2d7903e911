/**
 * The built-in policy `ias-lite`: the core allocation rules that Caladan publishes
 * (Fried and others, OSDI '20; the "ias" scheduler of github.com/shenango/caladan),
 * without what needs hardware counters or siblings: memory bandwidth control and
 * hyperthread control. Named for what it is.
 *
 * Its rules: work that has waited for qdelay, or a VM with work and no core, is
 * congestion. Best-effort VMs never take from latency-critical ones, which always may
 * take from best-effort ones. Equals take only where the other's burst (cores beyond
 * its guarantee) is larger by two; a best-effort VM that has had a core for 2 ms loses
 * it to one that has none. Latency-critical VMs without a core are served first and in
 * the order in which they came, then whoever has the smallest burst. A core where the
 * VM ran within the last 100 us goes before others. A VM that was just given a core is
 * not congested again before it could have used it.
 */
import { z } from 'zod';
import type { Figures, Wishes } from '../api.ts';
import { CLASS_LC, HEAD_NOW, MAX_CORES, MAX_VMS, POLICY_API, smallArray, VM_BOOTING } from '../api.ts';
import { definePolicy, type Hot } from '../define.ts';
import { makeClaims, type Rules } from '../kit/claims.ts';
import { us } from '../kit/params.ts';
import { WHY_BOOT, WHY_CONGESTED, WHY_GUARANTEE, WHY_IDLE_CORE, WHY_STARVED } from '../reasons.ts';

const params = z.strictObject({
  qdelay_us: us(10, 'work that has waited this long is congestion'),
  quanta_us: us(2000, 'a best-effort VM with a core for this long loses it to one without'),
  locality_us: us(100, "for so long a VM's caches are worth coming back to"),
  waking_us: us(10, 'for so long after it was given a core a VM is not congested'),
});

const GUARANTEE = 5;
const LC_STARVED = 4;
const LC_CONGESTED = 3;
const BE_STARVED = 2;
const BE_CONGESTED = 1;

const T_QDELAY = 0;
const T_QUANTA = 1;
const T_LOCALITY = 2;
const T_WAKING = 3;

function bind(view: Figures, out: Wishes): Hot<z.output<typeof params>> {
  const { head, vmClass, vmMin, vmMax, vmWants, vmDelay, vmAway, vmFlags, coreAge, coreLast } = view;
  const claims = makeClaims(view, out);
  const { have } = claims;
  const times = smallArray(4);
  /** When the VM was given a core, and whether it ever was. */
  const givenAt = new Int32Array(MAX_VMS);
  const given = new Int32Array(MAX_VMS);

  const burstOf = (vm: number): number => have[vm] - vmMin[vm];

  const rules: Rules = {
    level(vm, cores): number {
      if (vmWants[vm] <= cores || cores >= vmMax[vm]) return 0;
      if (cores < vmMin[vm]) return GUARANTEE;
      const lc = vmClass[vm] === CLASS_LC;
      if (cores === 0) return lc ? LC_STARVED : BE_STARVED;
      if (vmDelay[vm] < times[T_QDELAY]) return 0;
      if (given[vm] !== 0 && (head[HEAD_NOW] - givenAt[vm]) >>> 0 < times[T_WAKING]) return 0;
      return lc ? LC_CONGESTED : BE_CONGESTED;
    },
    urgency: (vm) => (have[vm] === 0 ? vmAway[vm] : MAX_CORES - burstOf(vm)),
    readiness(k, victim, vm, level): number {
      const local = coreLast[k] === vm && coreAge[k] < times[T_LOCALITY] ? times[T_LOCALITY] - coreAge[k] : 0;
      if (level === GUARANTEE) return local;
      if (burstOf(victim) <= 0) return -1;
      const rank = vmClass[vm] - vmClass[victim];
      if (rank > 0) return local;
      if (rank < 0) return -1;
      if (burstOf(victim) > burstOf(vm) + 1) return local;
      const old = vmClass[vm] !== CLASS_LC && have[vm] === 0 && coreAge[k] >= times[T_QUANTA];
      return old ? local : -1;
    },
    reason(vm, level, taken): number {
      givenAt[vm] = head[HEAD_NOW];
      given[vm] = 1;
      if (level === GUARANTEE) return WHY_GUARANTEE;
      if ((vmFlags[vm] & VM_BOOTING) !== 0) return WHY_BOOT;
      if (level === LC_STARVED || level === BE_STARVED) return WHY_STARVED;
      return taken ? WHY_CONGESTED : WHY_IDLE_CORE;
    },
  };

  return {
    decide(): void {
      claims.begin();
      claims.serve(rules);
    },
    configure({ qdelay_us, quanta_us, locality_us, waking_us }, stampsPerUs): void {
      times[T_QDELAY] = qdelay_us * stampsPerUs;
      times[T_QUANTA] = quanta_us * stampsPerUs;
      times[T_LOCALITY] = locality_us * stampsPerUs;
      times[T_WAKING] = waking_us * stampsPerUs;
    },
  };
}

export const iasLite = definePolicy({
  api: POLICY_API,
  name: 'ias-lite',
  version: '1.0.0',
  summary: "Caladan's published core allocation rules, without its bandwidth and hyperthread control",
  params,
  bind,
});

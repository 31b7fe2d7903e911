/**
 * The built-in policy `proactive`: announced need comes before measured need.
 *
 * A caller announces that a VM needs n cores for a time (`hyperflux hint`). From then
 * on the VM is given cores until it has n, before its work is there, which takes the
 * slow part, making somebody else leave, out of its way. A core that it yields during
 * that time is kept idle for it: granting an idle core is the fastest grant there is.
 * Only guarantees go before announcements, best-effort VMs take nothing from
 * latency-critical ones, and nobody gives up what was announced for himself.
 * Everything else is as in `delay`, reacting to queueing delay.
 */
import { z } from 'zod';
import type { Figures, Wishes } from '../api.ts';
import {
  CLASS_LC,
  CORE_IDLE,
  HEAD_CHANGES,
  HEAD_CORES,
  HEAD_NOW,
  MAX_VMS,
  NO_VM,
  POLICY_API,
  smallArray,
  VM_BOOTING,
} from '../api.ts';
import { definePolicy, type Hot } from '../define.ts';
import { makeClaims, type Rules } from '../kit/claims.ts';
import { makeEquals } from '../kit/equals.ts';
import { us } from '../kit/params.ts';
import { WHY_BOOT, WHY_DELAY, WHY_GUARANTEE, WHY_HINT, WHY_IDLE_CORE, WHY_STARVED } from '../reasons.ts';

const params = z.strictObject({
  threshold_us: us(10, 'work that has waited this long claims a further core'),
  tenure_us: us(25, 'a core is not taken from a VM that has had it for less'),
  quantum_us: us(2000, 'a VM without a core takes one from its own class after this long'),
});

const GUARANTEE = 7;
const LC_HINT = 6;
const BE_HINT = 5;
const LC_STARVED = 4;
const LC_DELAY = 3;
const BE_STARVED = 2;
const BE_DELAY = 1;

const T_THRESHOLD = 0;
const T_TENURE = 1;
const T_QUANTUM = 2;

function bind(view: Figures, out: Wishes): Hot<z.output<typeof params>> {
  const { head, vmClass, vmMin, vmMax, vmWants, vmDelay, vmAway, vmFlags, vmHint, vmHintUntil } = view;
  const { coreFlags, coreAge } = view;
  const { target, heir } = out;
  const claims = makeClaims(view, out, LC_STARVED);
  const { have, more, also, kept } = claims;
  const equal = makeEquals(view, have);
  const times = smallArray(3);
  /** Cores that are announced for the VM now. */
  const announced = new Int32Array(MAX_VMS);
  /** The announcement, by its end, that was honoured in full once: from then on the VM has what it uses. */
  const honoured = new Int32Array(MAX_VMS);
  const seen = smallArray(2);
  const CHANGES = 0;
  const LOOKED = 1;

  /** Finds those with announcements, when something was announced or configured. */
  function findHints(): void {
    if (seen[LOOKED] !== 0 && seen[CHANGES] === head[HEAD_CHANGES]) return;
    seen[LOOKED] = 1;
    seen[CHANGES] = head[HEAD_CHANGES];
    let count = 0;
    for (let vm = 0; vm < MAX_VMS; vm++) {
      announced[vm] = 0;
      if (vmHint[vm] > 0 && vmMax[vm] > 0) more[count++] = vm;
    }
    also[0] = count;
  }

  /** What is announced at this moment, and how many idle cores have to be kept for it. */
  function readHints(): void {
    const now = head[HEAD_NOW];
    let open = 0;
    for (let i = 0; i < also[0]; i++) {
      const vm = more[i];
      const most = vmHint[vm] < vmMax[vm] ? vmHint[vm] : vmMax[vm];
      announced[vm] = ((vmHintUntil[vm] - now) | 0) > 0 ? most : 0;
      if (have[vm] < announced[vm]) open += announced[vm] - have[vm];
      else if (announced[vm] > 0) honoured[vm] = vmHintUntil[vm];
    }
    kept[0] = open;
  }

  function hinted(vm: number, cores: number): boolean {
    if (cores >= announced[vm]) return false;
    // It has yielded what it was given: that is kept for it until there is work.
    return vmWants[vm] > cores || honoured[vm] !== vmHintUntil[vm];
  }

  /** What a VM yields of announced cores is kept for it: nobody inherits them. */
  function keepYields(): void {
    const cores = head[HEAD_CORES];
    for (let k = 0; k < cores; k++) {
      const vm = target[k];
      if (vm !== NO_VM && have[vm] <= announced[vm]) heir[k] = NO_VM;
    }
  }

  const rules: Rules = {
    level(vm, cores): number {
      const lc = vmClass[vm] === CLASS_LC;
      const wants = vmWants[vm] > cores && cores < vmMax[vm];
      if (wants && cores < vmMin[vm]) return GUARANTEE;
      if (hinted(vm, cores)) return lc ? LC_HINT : BE_HINT;
      if (!wants) return 0;
      if (cores === 0) return lc ? LC_STARVED : BE_STARVED;
      if (vmDelay[vm] >= times[T_THRESHOLD]) return lc ? LC_DELAY : BE_DELAY;
      return 0;
    },
    urgency: (vm) => (have[vm] === 0 ? vmAway[vm] : vmDelay[vm]),
    readiness(k, victim, vm, level): number {
      const rank = vmClass[vm] - vmClass[victim];
      const higher = rank > 0 ? 1 << 16 : 0;
      if (level === GUARANTEE) return higher + have[victim] - vmMin[victim];
      if (rank < 0 || have[victim] <= announced[victim] || have[victim] <= vmMin[victim]) return -1;
      if ((coreFlags[k] & CORE_IDLE) !== 0 && vmWants[victim] < have[victim]) return 1 << 20;
      if (coreAge[k] < times[T_TENURE]) return -1;
      const burst = have[victim] - vmMin[victim];
      if (rank > 0 || level >= BE_HINT) return higher + burst;
      return equal(k, victim, vm, times[T_QUANTUM]);
    },
    reason(vm, level, taken): number {
      if (level === GUARANTEE) return WHY_GUARANTEE;
      if (level >= BE_HINT) return WHY_HINT;
      if ((vmFlags[vm] & VM_BOOTING) !== 0) return WHY_BOOT;
      if (level === LC_STARVED || level === BE_STARVED) return WHY_STARVED;
      return taken ? WHY_DELAY : WHY_IDLE_CORE;
    },
  };

  return {
    decide(): void {
      findHints();
      claims.begin();
      readHints();
      claims.serve(rules);
      if (also[0] !== 0) keepYields();
    },
    configure({ threshold_us, tenure_us, quantum_us }, stampsPerUs): void {
      times[T_THRESHOLD] = threshold_us * stampsPerUs;
      times[T_TENURE] = tenure_us * stampsPerUs;
      times[T_QUANTUM] = quantum_us * stampsPerUs;
    },
  };
}

export const proactive = definePolicy({
  api: POLICY_API,
  name: 'proactive',
  version: '1.0.0',
  summary: 'announced need first: cores are there before the work; the rest as in delay',
  params,
  bind,
});

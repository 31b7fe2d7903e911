import { describe, expect, test } from 'vitest';
import type { View } from '../../arbiter/policy/api.ts';
import {
  CLASS_BE,
  CLASS_LC,
  CORE_IDLE,
  CORE_MOVING,
  HEAD_CORES,
  HEAD_HOT,
  HEAD_NOW,
  NO_VM,
  plainView,
  VM_BOOTING,
  VM_FORCED_HELD,
} from '../../arbiter/policy/api.ts';
import { delay } from '../../arbiter/policy/builtin/delay.ts';
import {
  WHY_BOOT,
  WHY_DELAY,
  WHY_GUARANTEE,
  WHY_IDLE_CORE,
  WHY_SHARE,
  WHY_STARVED,
} from '../../arbiter/policy/reasons.ts';

interface Vm {
  lc?: boolean;
  min?: number;
  max?: number;
  wants?: number;
  delay?: number;
  away?: number;
  flags?: number;
}
interface Core {
  vm?: number;
  age?: number;
  flags?: number;
  last?: number;
  heir?: number;
}

/** One stamp is a microsecond here. */
function world(vms: Vm[], cores: Core[], params: Record<string, number> = {}) {
  const view: View = plainView();
  const decider = delay.bind(view);
  decider.configure(delay.params.parse(params), 1);
  view.head[HEAD_NOW] = 1_000_000;
  cores.forEach((core, k) => {
    view.coreVm[k] = core.vm ?? NO_VM;
    view.coreAge[k] = core.age ?? 10_000;
    view.coreFlags[k] = core.flags ?? 0;
    view.coreLast[k] = core.last ?? NO_VM;
    view.coreHeir[k] = core.heir ?? NO_VM;
    if (core.vm !== undefined) view.vmCores[core.vm]++;
  });
  view.head[HEAD_CORES] = cores.length;
  vms.forEach((vm, slot) => {
    view.vmClass[slot] = vm.lc ? CLASS_LC : CLASS_BE;
    view.vmMin[slot] = vm.min ?? 0;
    view.vmMax[slot] = vm.max ?? cores.length;
    view.vmWants[slot] = Math.min(vm.wants ?? 0, view.vmMax[slot]);
    view.vmDelay[slot] = vm.delay ?? 0;
    view.vmAway[slot] = vm.away ?? 0;
    view.vmFlags[slot] = vm.flags ?? 0;
    view.hot[view.head[HEAD_HOT]++] = slot;
  });
  const decide = () => {
    for (let k = 0; k < cores.length; k++) {
      view.target[k] = view.coreVm[k];
      view.heir[k] = NO_VM;
    }
    decider.decide();
    return {
      target: [...view.target.subarray(0, cores.length)],
      why: [...view.why.subarray(0, cores.length)],
      heir: [...view.heir.subarray(0, cores.length)],
    };
  };
  return { view, decider, decide };
}

describe('delay: who gets an idle core', () => {
  test('a VM with work and no core, at once and whatever its class', () => {
    const { decide } = world([{ wants: 1 }], [{}]);
    expect(decide()).toMatchObject({ target: [0], why: [WHY_STARVED] });
  });

  test('nobody, if nobody wants one', () => {
    expect(world([{ wants: 0 }], [{}, {}]).decide().target).toEqual([NO_VM, NO_VM]);
  });

  test('a further one only after the threshold', () => {
    const under = world([{ wants: 2, delay: 9 }], [{ vm: 0 }, {}]);
    expect(under.decide().target).toEqual([0, NO_VM]);
    const over = world([{ wants: 2, delay: 10 }], [{ vm: 0 }, {}]);
    expect(over.decide()).toMatchObject({ target: [0, 0], why: [0, WHY_IDLE_CORE] });
  });

  test('latency-critical before best-effort', () => {
    const { decide } = world(
      [
        { wants: 1, delay: 900 },
        { lc: true, wants: 1, delay: 1 },
      ],
      [{}],
    );
    expect(decide().target).toEqual([1]);
  });

  test('of VMs that have some, the longest delay first', () => {
    const { decide } = world(
      [
        { wants: 2, delay: 20 },
        { wants: 2, delay: 30 },
      ],
      [{ vm: 0 }, { vm: 1 }, {}],
    );
    expect(decide().target).toEqual([0, 1, 1]);
  });

  test('of VMs that have none, the longest without, whatever they say of their delay', () => {
    const { decide } = world(
      [
        { wants: 1, delay: 0x3fffffff, away: 40 },
        { wants: 1, delay: 0, away: 50 },
      ],
      [{}],
    );
    expect(decide().target).toEqual([1]);
  });

  test('the core that it had before, if that is idle', () => {
    const { decide } = world([{ wants: 1 }], [{}, { last: 0 }]);
    expect(decide().target).toEqual([NO_VM, 0]);
  });

  test('never more than its maximum', () => {
    const { decide } = world([{ wants: 9, max: 1, delay: 99 }], [{}, {}]);
    expect(decide().target.filter((vm) => vm === 0)).toHaveLength(1);
  });

  test('several VMs in one turn', () => {
    const { decide } = world([{ wants: 1 }, { wants: 1 }, { lc: true, wants: 1 }], [{}, {}, {}]);
    expect(decide().target.sort()).toEqual([0, 1, 2]);
  });

  test('a guest that still boots gets one core', () => {
    const { decide } = world([{ wants: 1, flags: VM_BOOTING }], [{}]);
    expect(decide()).toMatchObject({ target: [0], why: [WHY_BOOT] });
  });
});

describe('delay: who has to give', () => {
  test('best-effort gives to latency-critical that has no core', () => {
    const { decide } = world([{ wants: 1 }, { lc: true, wants: 1, delay: 1 }], [{ vm: 0 }]);
    expect(decide()).toMatchObject({ target: [1], why: [WHY_STARVED] });
  });

  test('and to one whose delay is over the threshold', () => {
    const { decide } = world([{ wants: 1 }, { lc: true, wants: 2, delay: 50 }], [{ vm: 0 }, { vm: 1 }]);
    expect(decide()).toMatchObject({ target: [1, 1], why: [WHY_DELAY, 0] });
  });

  test('but not what it is guaranteed', () => {
    const { decide } = world(
      [
        { wants: 1, min: 1 },
        { lc: true, wants: 1, delay: 500 },
      ],
      [{ vm: 0 }],
    );
    expect(decide().target).toEqual([0]);
  });

  test('nor what it has had for less than its tenure', () => {
    const { view, decide } = world([{ wants: 1 }, { lc: true, wants: 1 }], [{ vm: 0, age: 24 }]);
    expect(decide().target).toEqual([0]);
    view.coreAge[0] = 25;
    expect(decide().target).toEqual([1]);
  });

  test('a guarantee does not wait for a tenure', () => {
    const { decide } = world([{ wants: 1 }, { lc: true, min: 1, wants: 1 }], [{ vm: 0, age: 1 }]);
    expect(decide()).toMatchObject({ target: [1], why: [WHY_GUARANTEE] });
  });

  test('a best-effort guarantee is honoured by latency-critical VMs above theirs', () => {
    const { decide } = world(
      [
        { min: 1, wants: 1 },
        { lc: true, wants: 2, delay: 99 },
      ],
      [{ vm: 1 }, { vm: 1 }],
    );
    expect(decide().target.filter((vm) => vm === 0)).toHaveLength(1);
  });

  test('best-effort never takes from latency-critical otherwise', () => {
    const { decide } = world(
      [
        { wants: 1, delay: 9999 },
        { lc: true, wants: 1 },
      ],
      [{ vm: 1 }],
    );
    expect(decide().target).toEqual([1]);
  });

  test('not even a core that the other only spins on', () => {
    const { decide } = world(
      [
        { wants: 1, delay: 9999 },
        { lc: true, wants: 0 },
      ],
      [{ vm: 1, flags: CORE_IDLE }],
    );
    expect(decide().target).toEqual([1]);
  });

  test('a core that is spun on goes before one that is used', () => {
    const { decide } = world(
      [{ wants: 1 }, { wants: 0 }, { lc: true, wants: 1 }],
      [{ vm: 0 }, { vm: 1, flags: CORE_IDLE, age: 1 }],
    );
    expect(decide().target).toEqual([0, 2]);
  });

  test('equals share: who has two more than the other gives one', () => {
    const { decide } = world(
      [{ wants: 3 }, { wants: 3, delay: 50 }],
      [{ vm: 0 }, { vm: 0 }, { vm: 0 }, { vm: 1 }],
    );
    const result = decide();
    expect(result.target.filter((vm) => vm === 1)).toHaveLength(2);
    expect(result.why).toContain(WHY_SHARE);
  });

  test('equals take turns: after its quantum the only core goes round', () => {
    const { view, decide } = world([{ wants: 1 }, { wants: 1 }], [{ vm: 0, age: 1999 }]);
    expect(decide().target).toEqual([0]);
    view.coreAge[0] = 2000;
    expect(decide()).toMatchObject({ target: [1], why: [WHY_SHARE] });
  });

  test('one core in a step, so that a short burst does not take everything', () => {
    const { view, decide } = world(
      [{ wants: 3 }, { lc: true, wants: 4, delay: 50 }],
      [{ vm: 0 }, { vm: 0 }, { vm: 0 }, { vm: 1 }],
    );
    expect(decide().target.filter((vm) => vm === 1)).toHaveLength(2);
    view.head[HEAD_NOW] += 5;
    expect(decide().target.filter((vm) => vm === 1)).toHaveLength(1);
    view.head[HEAD_NOW] += 5;
    expect(decide().target.filter((vm) => vm === 1)).toHaveLength(2);
  });

  test('a core on the move is let alone', () => {
    const { decide } = world(
      [{ wants: 1 }, { lc: true, wants: 1, delay: 99 }],
      [{ vm: 0, flags: CORE_MOVING }],
    );
    expect(decide().target).toEqual([0]);
  });

  test('a VM that uses all it has gives nothing up by itself', () => {
    const { decide } = world([{ wants: 2 }, { lc: true, wants: 0 }], [{ vm: 0 }, { vm: 0 }, { vm: 1 }]);
    expect(decide().target).toEqual([0, 0, 1]);
  });
});

describe('delay: heirs', () => {
  test('whoever could use another core inherits', () => {
    const { decide } = world([{ wants: 1 }, { lc: true, wants: 1 }], [{ vm: 1 }]);
    expect(decide().heir).toEqual([0]);
  });

  test('not the VM itself, whose queues are empty when it yields', () => {
    expect(world([{ wants: 2, delay: 5 }], [{ vm: 0 }]).decide().heir).toEqual([NO_VM]);
  });

  test('unless one of its vCPUs is stuck in a forced park', () => {
    const { decide } = world([{ wants: 2, delay: 5, flags: VM_FORCED_HELD }], [{ vm: 0 }, { vm: 1 }]);
    expect(decide().heir[0]).toBe(0);
  });

  test('latency-critical before best-effort', () => {
    const { decide } = world(
      [{ wants: 1 }, { lc: true, wants: 2, delay: 5 }, { lc: true, wants: 1 }],
      [{ vm: 1 }, { vm: 2 }],
    );
    expect(decide().heir).toEqual([0, 1]);
  });

  test('an heir stays if nobody has a better right', () => {
    const { view, decide } = world(
      [
        { wants: 1, away: 10 },
        { wants: 1, away: 90 },
        { lc: true, wants: 1 },
      ],
      [{ vm: 2, age: 1, heir: 0 }],
    );
    expect(decide().heir).toEqual([0]);
    view.coreHeir[0] = NO_VM;
    expect(decide().heir).toEqual([1]);
  });

  test('more cores than wanted share one heir', () => {
    const { decide } = world([{ wants: 1 }, { lc: true, wants: 2, min: 2 }], [{ vm: 1 }, { vm: 1 }]);
    expect(decide().heir).toEqual([0, 0]);
  });
});

describe('delay: parameters', () => {
  test('defaults are filled in', () => {
    expect(delay.params.parse({})).toEqual({
      threshold_us: 10,
      tenure_us: 25,
      quantum_us: 2000,
      step_us: 10,
    });
  });

  test('unknown and impossible ones are refused', () => {
    expect(delay.params.safeParse({ treshold_us: 5 }).success).toBe(false);
    expect(delay.params.safeParse({ threshold_us: -1 }).success).toBe(false);
    expect(delay.params.safeParse({ threshold_us: 'soon' }).success).toBe(false);
  });
});

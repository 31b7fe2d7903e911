import { describe, expect, test } from 'vitest';
import {
  CLASS_LC,
  CORE_NONE,
  CORE_OFFLINE,
  HANDLE_IDLE,
  HELD_FORCED,
  HELD_HELD,
  MAX_VCPUS,
  SUMMARY_TIMER,
  TVCPU_BYTES,
  VCPU_BLOCKED,
  VCPU_BYTES,
  VCPU_CEDING,
  VCPU_PARKED,
  VCPU_RUNNING,
  VCPU_UNMANAGED,
  VM_DEAD,
  W_CORE_FLAGS,
  W_CORE_HEIR,
  W_CORE_WORD_HI,
  W_SUMMARY_FLAGS,
  W_SUMMARY_NEXT_TIMER,
  W_SUMMARY_SEQ,
  W_TABLE_EPOCH,
  W_VCPU_HELD,
  W_VCPU_T_PARKED_HI,
  W_VCPU_T_PARKED_LO,
  W_VCPU_WORD,
  W_VM_STATE,
} from '../../arbiter/abi/layout.gen.ts';
import { CMD_OP, CMD_RESULT, CMD_TO, OP_GRANT, R_OFFLINE } from '../../arbiter/bridge/bridge.ts';
import {
  coreBase,
  guestVcpuBase,
  summaryBase,
  tableVcpuBase,
  vcpuWord,
  vmBase,
} from '../../arbiter/bridge/words.ts';
import { N_ACTIVE, N_STALE, VCPU_STRIDE } from '../../arbiter/loop/state.ts';
import { readRecords } from '../../arbiter/observe/explain.ts';
import { detachVm } from '../../arbiter/loop/vms.ts';
import type { Policy } from '../../arbiter/policy/api.ts';
import { AGE_MAX, MAX_VMS } from '../../arbiter/policy/api.ts';
import { delay, delayParams } from '../../arbiter/policy/builtin/delay.ts';
import { World } from './world.ts';

const LC = { vmClass: CLASS_LC };

describe('loop: cores follow work', () => {
  test('a best-effort VM with work gets the idle core', () => {
    const w = new World();
    w.vm(3);
    w.run(5);
    expect(w.owner(1)).toBe(-1);
    w.queue(3, 0, 1);
    w.run(2);
    expect(w.owner(1)).toBe(3);
  });

  test('a request for a latency-critical VM moves the core, and the yield gives it back through the heir', () => {
    const w = new World();
    w.vm(0, LC);
    w.vm(1);
    w.queue(1, 0, 5);
    w.run(100);
    expect(w.owner(1)).toBe(1);
    w.running(1, w.ownerVcpu(1));
    w.ring(0, 1);
    w.run(2);
    expect(w.successor(1)).not.toBe(0);
    w.leave(1);
    expect(w.owner(1)).toBe(0);
    w.run(3);
    expect(w.heir(1)).toBe(1);
    // The guest takes the request, finishes it and yields: no turn of the loop is needed.
    w.ring(0, 0);
    const turns = w.counter('turns');
    w.leave(1);
    expect(w.owner(1)).toBe(1);
    expect(w.counter('turns')).toBe(turns);
  });

  test('a guest that only changes figures gets nothing', () => {
    const w = new World();
    w.vm(0);
    for (let i = 0; i < 20; i++) {
      w.queue(0, 0, 0);
      w.run(1);
    }
    expect(w.counter('commands')).toBe(0);
  });

  test('a wish for a core on the move waits and is carried out when the move ends', () => {
    const w = new World();
    w.vm(0, LC);
    w.vm(1);
    w.vm(2, { ...LC, min: 1 });
    w.queue(1, 0, 1);
    w.run(100);
    w.ring(0, 1);
    w.run(2);
    const low = w.low(1);
    w.ring(2, 1);
    w.run(3);
    expect(w.low(1)).toBe(low);
    w.leave(1);
    expect(w.owner(1)).toBe(0);
    w.run(2);
    expect(w.successor(1)).toBe(w.handle(2, 0));
  });

  test('a policy that insists on a core on the move has its wish recorded as pending, once', () => {
    const insists: Policy = {
      ...delay,
      bind: (view) => ({
        decide() {
          view.target[0] = 2;
        },
        configure() {},
      }),
    };
    const w = new World([1], insists);
    w.vm(1);
    w.vm(2);
    w.bridge.batch.set([1, 1, 0, w.handle(1, 0)]);
    w.bridge.submit(1);
    w.run(2);
    expect(w.successor(1)).toBe(w.handle(2, 0));
    w.table[coreBase(1)] = w.handle(1, 0) | (w.handle(1, 1) << 16);
    for (let i = 0; i < 5; i++) {
      w.queue(1, 0, 1);
      w.run(1);
    }
    const edits = readRecords(w.stats, 100).map((record) => record.edit);
    expect(edits.filter((edit) => edit === 'pending')).toHaveLength(1);
  });

  test('arriving work does not claim a second core for what the first will serve', () => {
    const w = new World([1, 2]);
    w.vm(0, LC);
    w.ring(0, 1);
    w.run(300);
    expect([w.owner(1), w.owner(2)].filter((vm) => vm === 0)).toHaveLength(1);
  });

  test('a VM that is busy and behind gets a second one', () => {
    const w = new World([1, 2]);
    w.vm(0, LC);
    w.ring(0, 1);
    w.run(3);
    w.running(0, w.owner(1) === 0 ? w.ownerVcpu(1) : w.ownerVcpu(2));
    w.run(30);
    expect([w.owner(1), w.owner(2)]).toEqual([0, 0]);
  });

  test('a timer counts when it is due, not before', () => {
    const w = new World();
    w.vm(0);
    const at = summaryBase(0);
    w.arena[at + W_SUMMARY_FLAGS] |= SUMMARY_TIMER;
    w.arena[at + W_SUMMARY_NEXT_TIMER] = w.stamp(-50);
    w.arena[at + W_SUMMARY_SEQ]++;
    w.run(40);
    expect(w.owner(1)).toBe(-1);
    w.run(20);
    expect(w.owner(1)).toBe(0);
  });

  test('a timer that was put off, or taken off, does not count', () => {
    const w = new World();
    w.vm(0);
    const at = summaryBase(0);
    const show = (agoUs: number, flags: number): void => {
      w.arena[at + W_SUMMARY_FLAGS] = (w.arena[at + W_SUMMARY_FLAGS] & ~SUMMARY_TIMER) | flags;
      w.arena[at + W_SUMMARY_NEXT_TIMER] = w.stamp(agoUs);
      w.arena[at + W_SUMMARY_SEQ]++;
    };
    show(-50, SUMMARY_TIMER);
    w.run(40);
    show(-50, SUMMARY_TIMER);
    w.run(40);
    expect(w.owner(1)).toBe(-1);
    show(-5, 0);
    w.run(40);
    expect(w.owner(1)).toBe(-1);
    // A quarter of the range ahead is as far as a guest shows one.
    w.arena[at + W_SUMMARY_FLAGS] |= SUMMARY_TIMER;
    w.arena[at + W_SUMMARY_NEXT_TIMER] = (w.stamp() + 2 ** 30) | 0;
    w.arena[at + W_SUMMARY_SEQ]++;
    w.run(100);
    expect(w.owner(1)).toBe(-1);
  });

  test('a guest that has not booted gets a core', () => {
    const w = new World();
    w.vm(0, { booted: false });
    w.run(2);
    expect(w.owner(1)).toBe(0);
  });

  test('an idle turn does nothing: no decision, no command', () => {
    const w = new World();
    for (let slot = 0; slot < 10; slot++) w.vm(slot);
    w.run(5);
    const decisions = w.counter('decisions');
    w.run(100);
    expect(w.counter('decisions')).toBe(decisions);
  });
});

describe('loop: which vCPU', () => {
  test('the one that was forced, then the one that is held, then the longest queue', () => {
    for (const [vcpu, prepare] of [
      [2, (w: World) => (w.context(0, 1, HELD_HELD), w.context(0, 2, HELD_FORCED))],
      [1, (w: World) => w.context(0, 1, HELD_HELD)],
      [3, (w: World) => w.queue(0, 3, 9)],
    ] as const) {
      const w = new World();
      w.vm(0, { vcpus: 4 });
      w.queue(0, 0, 1);
      prepare(w);
      w.run(2);
      expect(w.ownerVcpu(1)).toBe(vcpu);
    }
  });

  test('an interrupted uThread counts as waiting since its vCPU was parked', () => {
    const w = new World();
    w.vm(0);
    const at = tableVcpuBase(0, 1);
    const parked = w.time - 300_000;
    w.table[at + W_VCPU_T_PARKED_LO] = (parked % 2 ** 32) | 0;
    w.table[at + W_VCPU_T_PARKED_HI] = Math.floor(parked / 2 ** 32);
    w.context(0, 1, HELD_HELD);
    w.run(1);
    expect(w.stats.view.vmDelay[0]).toBeGreaterThanOrEqual((300 * 1000) / 64);
    expect(w.ownerVcpu(1)).toBe(1);
  });
});

describe('loop: between core and sleep', () => {
  test.each([
    ['is still running there', VCPU_RUNNING, 0],
    ['is on its way to sleep', VCPU_CEDING, CORE_NONE],
    ['is blocked in the host', VCPU_BLOCKED, CORE_NONE],
    ["is nobody's yet", VCPU_UNMANAGED, CORE_NONE],
  ])('a vCPU that has lost its core and %s is looked at again', (_what, state, core) => {
    const w = new World([1]);
    w.vm(0, { vcpus: 1 });
    const at = tableVcpuBase(0, 0);
    w.table[at + W_VCPU_WORD] = vcpuWord(state, core);
    w.run(10);
    expect(w.owner(1)).toBe(-1);
    // Nothing in the guest's page says that it was interrupted.
    w.table[at + W_VCPU_HELD] = HELD_HELD;
    w.table[at + W_VCPU_WORD] = vcpuWord(VCPU_PARKED, CORE_NONE);
    w.run(2);
    expect(w.owner(1)).toBe(0);
  });

  test('a core that is offline is left alone, and used again when it is back', () => {
    const w = new World([1, 2]);
    w.table[coreBase(1) + W_CORE_FLAGS] = CORE_OFFLINE;
    w.vm(0, { vcpus: 2 });
    w.queue(0, 0, 2);
    w.queue(0, 1, 2);
    w.run(200);
    expect([w.owner(1), w.owner(2)]).toEqual([-1, 0]);
    expect(w.counter('failed')).toBe(0);
    w.table[coreBase(1) + W_CORE_FLAGS] = 0;
    w.running(0, w.ownerVcpu(2));
    w.run(200);
    expect([w.owner(1), w.owner(2)]).toEqual([0, 0]);
  });

  test('a command that comes too late for a core does not cost its VM anything', () => {
    const w = new World([1]);
    w.vm(0, { vcpus: 1 });
    w.bridge.batch[CMD_OP] = OP_GRANT;
    w.bridge.batch[CMD_TO] = w.handle(0, 0);
    w.bridge.batch[CMD_RESULT] = R_OFFLINE;
    w.turn.settle(1);
    expect(w.counter('offline')).toBe(1);
    w.queue(0, 0, 1);
    w.run(10);
    expect(w.owner(1)).toBe(0);
  });
});

describe('loop: limits', () => {
  test('grants and heirs together never exceed the maximum', () => {
    const cores = [1, 2, 3, 4];
    const w = new World(cores);
    w.vm(0, { vcpus: 4, max: 2 });
    w.vm(1, { ...LC, vcpus: 4 });
    w.ring(1, 9);
    w.queue(0, 0, 9);
    w.queue(0, 1, 9);
    for (let i = 0; i < 400; i++) {
      w.run(3);
      for (const core of cores) {
        if (w.owner(core) === 1) w.running(1, w.ownerVcpu(core));
        if (w.owner(core) === 0) w.running(0, w.ownerVcpu(core));
      }
      // Everybody yields at random, all at once now and then, with no turn between.
      for (const core of cores) if ((i * 7 + core * 3) % 5 < 2) w.leave(core);
      w.check();
      expect(cores.filter((core) => w.owner(core) === 0).length).toBeLessThanOrEqual(2);
    }
  });

  test('a policy that throws changes nothing and is counted', () => {
    const bad: Policy = {
      name: 'bad',
      version: '0',
      params: delayParams,
      bind: () => ({
        decide() {
          throw new Error('no');
        },
        configure() {},
      }),
    };
    const w = new World([1], bad);
    w.vm(0);
    w.queue(0, 0, 1);
    w.run(5);
    expect(w.owner(1)).toBe(-1);
    expect(w.counter('policy_faults')).toBeGreaterThan(0);
  });

  test('a policy that writes nonsense is held by the guard', () => {
    const wild: Policy = {
      ...delay,
      bind: (view) => ({
        decide() {
          view.target[0] = 12345678;
          view.heir[0] = -77;
        },
        configure() {},
      }),
    };
    const w = new World([1], wild);
    w.vm(0);
    w.queue(0, 0, 1);
    w.run(5);
    expect(w.owner(1)).toBe(-1);
    expect(w.heir(1)).toBe(-1);
    expect(w.counter('commands')).toBe(0);
    expect(w.counter('edits')).toBeGreaterThan(0);
    expect(readRecords(w.stats, 10).map((record) => record.edit)).toContain('unknown-vm');
  });
});

describe('loop: a guest that lies', () => {
  /** Writes `word` into everything that a guest can write. */
  function scribble(w: World, slot: number, word: (i: number) => number): void {
    const seq = summaryBase(slot);
    for (let i = 1; i < 16; i++) w.arena[seq + i] = word(i);
    for (let v = 0; v < MAX_VCPUS; v++) {
      const at = guestVcpuBase(slot, v);
      for (let i = 0; i < VCPU_STRIDE; i++) w.arena[at + i] = word(i + v);
    }
    w.arena[seq]++;
  }

  test('strides are those of the contract', () => {
    expect(VCPU_STRIDE * 4).toBe(VCPU_BYTES);
    expect(VCPU_STRIDE * 4).toBe(TVCPU_BYTES);
  });

  test.each([
    ['all ones', () => -1],
    ['most negative', () => -0x80000000],
    ['most positive', () => 0x7fffffff],
    ['noise', (i: number) => Math.imul(i + 1, 0x9e3779b1)],
  ])('%s: it hurts nobody but itself', (_name, word) => {
    const cores = [1, 2, 3];
    const w = new World(cores);
    const honest = w.vm(0, { ...LC, vcpus: 2, min: 1 });
    const liar = w.vm(1, { vcpus: 4, max: 2 });
    for (let i = 0; i < 300; i++) {
      scribble(w, liar, (n) => word(n + i));
      w.ring(honest, 1);
      w.run(2);
      for (const core of cores) if (w.successor(core) !== 0) w.leave(core);
      w.check();
      expect(cores.filter((core) => w.owner(core) === liar).length).toBeLessThanOrEqual(2);
      const { vmDelay, vmWants } = w.stats.view;
      expect(vmDelay[liar]).toBeGreaterThanOrEqual(0);
      expect(vmDelay[liar]).toBeLessThanOrEqual(AGE_MAX);
      expect(vmWants[liar]).toBeLessThanOrEqual(2);
    }
    expect(cores.some((core) => w.owner(core) === honest)).toBe(true);
    expect(w.counter('invalid')).toBe(0);
  });
});

test('loop: VMs of one class take turns, whatever one of them says of its delay', () => {
  const w = new World([1], delay, { quantum_us: 50 });
  const turns = [0, 0, 0];
  for (const slot of [0, 1]) w.vm(slot, { vcpus: 1 });
  // Never boots, so it says nothing of itself at all.
  w.vm(2, { vcpus: 1, booted: false });
  for (let i = 0; i < 3000; i++) {
    w.queue(0, 0, 1, 10_000);
    w.queue(1, 0, 1, 60);
    w.run(1);
    if (w.successor(1) !== 0) w.leave(1);
    if (w.owner(1) >= 0) turns[w.owner(1)]++;
  }
  for (const share of turns) expect(share).toBeGreaterThan(800);
});

describe('loop: stamps and generations wrap', () => {
  test('a delay that spans the wrap of stamps is a small number', () => {
    const w = new World();
    w.time = 2 ** 31 * 64 - 20_000;
    w.vm(0, { max: 1 });
    w.queue(0, 0, 1);
    w.run(40);
    expect(w.stats.view.vmDelay[0]).toBeGreaterThan(500);
    expect(w.stats.view.vmDelay[0]).toBeLessThan(1000);
  });

  test('work that waits longer than stamps reach stays old', () => {
    const w = new World([]);
    w.vm(0);
    w.queue(0, 0, 1);
    const tenSeconds = 10e6;
    w.run(80 * tenSeconds, tenSeconds);
    expect(w.stats.view.vmDelay[0]).toBe(AGE_MAX);
  });

  test('core generations near the wrap', () => {
    const w = new World();
    w.table[coreBase(1) + W_CORE_WORD_HI] = -2;
    w.vm(0, LC);
    w.vm(1);
    w.queue(1, 0, 3);
    w.run(100);
    for (let i = 0; i < 6; i++) {
      w.ring(0, 1);
      w.run(40);
      w.leave(1);
      expect(w.owner(1)).toBe(0);
      w.ring(0, 0);
      w.run(40);
      w.leave(1);
      expect(w.owner(1)).toBe(1);
      w.run(40);
    }
    expect(w.table[coreBase(1) + W_CORE_WORD_HI]).toBeGreaterThan(0);
  });
});

describe('loop: VMs come and go', () => {
  test('detaching keeps the others', () => {
    const w = new World();
    for (const slot of [5, 6, 7]) w.vm(slot);
    detachVm(w.mem, w.state, 5);
    expect(w.state.n[N_ACTIVE]).toBe(2);
    w.queue(7, 0, 1);
    w.run(2);
    expect(w.owner(1)).toBe(7);
  });

  test('a VM that dies loses its core to the heir, and the loop asks nothing of it any more', () => {
    const w = new World();
    w.vm(0, LC);
    w.vm(1);
    w.ring(0, 1);
    w.run(5);
    w.queue(1, 0, 1);
    w.run(5);
    w.bridge.reap(0);
    expect(w.owner(1)).toBe(1);
    detachVm(w.mem, w.state, 0);
    w.run(5);
    expect(w.counter('failed')).toBe(0);
  });

  test('a VM that is dead but not detached yet is left alone', () => {
    const w = new World();
    w.vm(0);
    w.table[vmBase(0) + W_VM_STATE] = VM_DEAD;
    w.queue(0, 0, 1);
    w.run(20);
    expect(w.counter('commands')).toBe(0);
  });

  test('slots from the first to the last', () => {
    const w = new World();
    w.vm(0);
    w.vm(MAX_VMS - 1, { ...LC });
    w.queue(MAX_VMS - 1, 1, 1);
    w.run(2);
    expect(w.owner(1)).toBe(MAX_VMS - 1);
    expect(w.ownerVcpu(1)).toBe(1);
  });

  test('every VM of a full table is looked at', () => {
    const w = new World([1, 2]);
    for (let slot = 0; slot < MAX_VMS; slot++) w.vm(slot, { max: 1 });
    w.run(2);
    for (const slot of [0, 1, 2, 3, 510, 1021, 1022, 1023]) {
      w.queue(slot, 0, 1);
      w.run(30);
      expect([w.owner(1), w.owner(2)]).toContain(slot);
      w.queue(slot, 0, 0);
      for (const core of [1, 2]) w.leave(core);
      w.run(2);
    }
  });
});

test('loop: when the lease is lost it does nothing more', () => {
  const w = new World();
  w.vm(0);
  w.table[W_TABLE_EPOCH]++;
  w.queue(0, 0, 1);
  w.run(3);
  expect(w.state.n[N_STALE]).toBe(1);
  const turns = w.counter('turns');
  w.run(3);
  expect(w.counter('turns')).toBe(turns);
  expect(w.low(1)).toBe(0);
});

test('loop: an idle successor leaves the heir out', () => {
  const w = new World();
  w.vm(0);
  w.vm(1);
  w.queue(0, 0, 1);
  w.queue(1, 0, 1);
  w.run(5);
  w.table[coreBase(1)] |= HANDLE_IDLE << 16;
  w.leave(1);
  expect(w.owner(1)).toBe(-1);
  expect(w.table[coreBase(1) + W_CORE_HEIR]).not.toBe(0);
});

test('loop: over a random world no vCPU is on two cores and nobody exceeds a limit', () => {
  for (let seed = 1; seed <= 20; seed++) {
    let state = seed * 48271;
    const pick = (below: number): number => (state = (Math.imul(state, 1103515245) + 12345) >>> 0) % below;
    const cores = Array.from({ length: 1 + pick(6) }, (_, i) => i + 1);
    const w = new World(cores, delay, { tenure_us: 3, quantum_us: 20 });
    const max = Array.from({ length: 4 }, (_, slot) => {
      const vcpus = 1 + pick(5);
      const most = Math.min(1 + pick(vcpus), cores.length);
      w.vm(slot, { vcpus, max: most, min: pick(2), vmClass: pick(2) });
      return most;
    });
    for (let step = 0; step < 500; step++) {
      const slot = pick(4);
      const what = pick(6);
      if (what === 0) w.queue(slot, pick(5), pick(4), pick(30));
      else if (what === 1) w.ring(slot, pick(3), pick(30));
      else if (what === 2) w.guestState(slot, pick(5), pick(5));
      else w.leave(cores[pick(cores.length)]);
      w.run(1 + pick(3));
      w.check();
      for (let vm = 0; vm < 4; vm++) {
        const held = cores.filter((core) => w.owner(core) === vm).length;
        expect(held, `seed ${seed} step ${step}: VM ${vm}`).toBeLessThanOrEqual(max[vm]);
        expect(w.stats.view.vmCores[vm]).toBeGreaterThanOrEqual(0);
      }
    }
    expect(w.counter('invalid')).toBe(0);
    expect(w.counter('moves') + w.counter('grants')).toBeGreaterThan(0);
  }
});

import { describe, expect, test } from 'vitest';
import {
  CLASS_LC,
  SUMMARY_TIMER,
  W_HOST_VCPU_PREEMPT,
  W_SUMMARY_FLAGS,
  W_SUMMARY_NEXT_TIMER,
  W_SUMMARY_SEQ,
  W_TABLE_EPOCH,
  W_VCPU_PREEMPT,
} from '../../arbiter/abi/layout.gen.ts';
import { CMD_OP, OP_PREEMPT } from '../../arbiter/bridge/bridge.ts';
import { hostVcpuBase, summaryBase, tableVcpuBase } from '../../arbiter/bridge/words.ts';
import { N_SLICED, N_STALE } from '../../arbiter/loop/state.ts';
import { configureVm, detachVm } from '../../arbiter/loop/vms.ts';
import { World } from './world.ts';

const QUANTUM = 100;

/** A VM in slot 3 whose only vCPU has the core, running its uThread number `first`. */
function sliced(options: object = {}, first = 41): World {
  const w = new World();
  w.vm(3, { vcpus: 1, quantumUs: QUANTUM, ...options });
  w.queue(3, 0, 1);
  w.run(2);
  expect(w.owner(1)).toBe(3);
  w.switches(3, 0, first);
  w.running(3, 0);
  w.queue(3, 0, 0);
  w.run(1);
  return w;
}

const told = (w: World): number => w.table[tableVcpuBase(3, 0) + W_VCPU_PREEMPT];
const preempts = (w: World): number => w.counter('preempts');

describe('time slices', () => {
  test('a uThread that has had its quantum gives way to one that has waited for as long', () => {
    const w = sliced();
    w.queue(3, 0, 2);
    w.run(QUANTUM - 5);
    expect(preempts(w)).toBe(0);
    w.run(10);
    expect(preempts(w)).toBe(1);
    expect(told(w)).toBe(41);
    expect(w.arena[hostVcpuBase(3, 0) + W_HOST_VCPU_PREEMPT]).toBe(41);
    expect(w.owner(1)).toBe(3);
    // It has: the next one has a slice of its own before it.
    expect(w.switches(3, 0)).toBe(42);
    w.queue(3, 0, 2, QUANTUM);
    w.run(QUANTUM - 5);
    expect(preempts(w)).toBe(1);
    w.run(10);
    expect(preempts(w)).toBe(2);
    expect(told(w)).toBe(42);
  });

  test('nobody is preempted who has nobody to give way to', () => {
    const w = sliced();
    w.run(20 * QUANTUM);
    expect(preempts(w)).toBe(0);
    // Somebody comes late: it is that one's wait that counts now.
    w.queue(3, 0, 1);
    w.run(QUANTUM - 5);
    expect(preempts(w)).toBe(0);
    w.run(10);
    expect(preempts(w)).toBe(1);
  });

  test('uThreads that switch by themselves are left alone', () => {
    const w = sliced();
    for (let i = 0; i < 30; i++) {
      w.switches(3, 0);
      w.queue(3, 0, 2, 10 * QUANTUM);
      w.run(QUANTUM - 5);
    }
    expect(preempts(w)).toBe(0);
  });

  test('a request in the ring and a timer that is overdue wait as well', () => {
    const w = sliced();
    w.run(2 * QUANTUM);
    w.ring(3, 1);
    w.run(QUANTUM - 5);
    expect(preempts(w)).toBe(0);
    w.run(10);
    expect(preempts(w)).toBe(1);

    const t = sliced();
    t.run(2 * QUANTUM);
    t.arena[summaryBase(3) + W_SUMMARY_FLAGS] |= SUMMARY_TIMER;
    t.arena[summaryBase(3) + W_SUMMARY_NEXT_TIMER] = t.stamp(-QUANTUM);
    t.arena[summaryBase(3) + W_SUMMARY_SEQ]++;
    t.run(2 * QUANTUM - 5);
    expect(preempts(t)).toBe(0);
    t.run(10);
    expect(preempts(t)).toBe(1);
  });

  test('what was lost is said again, less and less often', () => {
    const w = sliced();
    w.queue(3, 0, 1);
    const at: number[] = [];
    for (let us = 0; us < 200 * QUANTUM; us++) {
      const before = preempts(w);
      w.run(1);
      if (preempts(w) !== before) at.push(us / QUANTUM);
    }
    const gaps = at.slice(1).map((time, i) => Math.round(time - at[i]));
    expect(gaps).toEqual([1, 2, 4, 8, 16, 32, 64, 64]);
    expect(told(w)).toBe(41);
  });

  test('minutes of running alone do not hide that the slice is over', () => {
    const w = sliced();
    w.run(2 * QUANTUM);
    // More than half the range of stamps: half a range later "since when" would lie ahead.
    w.time += 2 ** 31 * 64 + 1e9;
    w.run(1);
    w.queue(3, 0, 1);
    w.run(QUANTUM + 5);
    expect(preempts(w)).toBe(1);
    // One that waits for longer than stamps can tell waits.
    w.switches(3, 0);
    w.queue(3, 0, 1, 2 ** 31 * 0.064 + 1e6);
    w.run(QUANTUM + 5);
    expect(preempts(w)).toBe(2);
  });

  test('the count of switches may wrap', () => {
    const w = sliced({}, -1);
    w.queue(3, 0, 1);
    w.run(QUANTUM + 5);
    expect([preempts(w), told(w)]).toEqual([1, -1]);
    w.switches(3, 0);
    w.run(QUANTUM + 5);
    expect([preempts(w), told(w)]).toEqual([2, 0]);
  });

  test('a core on the move is not preempted, and who comes to it has a slice of its own', () => {
    const w = sliced();
    w.vm(0, { vmClass: CLASS_LC });
    w.queue(3, 0, 1);
    w.run(QUANTUM - 20);
    w.ring(0, 1);
    w.run(1);
    expect(w.successor(1)).not.toBe(0);
    w.run(5 * QUANTUM);
    expect(preempts(w)).toBe(0);
    w.leave(1);
    expect(w.owner(1)).toBe(0);
    w.run(5);
    w.ring(0, 0);
    w.leave(1);
    w.run(2);
    expect(w.owner(1)).toBe(3);
    w.queue(3, 0, 1, 9 * QUANTUM);
    w.run(QUANTUM - 10);
    expect(preempts(w)).toBe(0);
    w.run(20);
    expect(preempts(w)).toBe(1);
  });

  test('a VM without a quantum has none, whatever waits; with the last one the looks end', () => {
    const w = sliced({ quantumUs: 0 });
    expect(w.state.n[N_SLICED]).toBe(0);
    w.queue(3, 0, 4);
    w.run(1000);
    expect(preempts(w)).toBe(0);
    w.vm(5, { quantumUs: 50 });
    expect(w.state.n[N_SLICED]).toBe(1);
    configureVm(w.mem, w.state, 5);
    expect(w.state.n[N_SLICED]).toBe(1);
    detachVm(w.mem, w.state, 5);
    expect(w.state.n[N_SLICED]).toBe(0);
    expect(w.state.vmQuantum[5]).toBe(0);
  });

  test('a quantum is held to sense', () => {
    const w = new World();
    w.vm(0, { quantumUs: 1 });
    w.vm(1, { quantumUs: 0x7fffffff });
    w.vm(2, { quantumUs: -1 });
    const second = 1e9 / 64;
    expect([...w.state.vmQuantum.slice(0, 3)]).toEqual([16, second, second]);
  });

  test('a refusal is counted by its reason; a lost lease ends the loop', () => {
    const w = sliced();
    w.queue(3, 0, 1);
    // The owner leaves between the look and the command: then it is not its core any more.
    const submit = w.bridge.submit.bind(w.bridge);
    const leaving = (count: number): number => {
      if (w.bridge.batch[CMD_OP] === OP_PREEMPT) w.leave(1);
      return submit(count);
    };
    (w.bridge as { submit: (count: number) => number }).submit = leaving;
    w.run(QUANTUM + 5);
    expect([preempts(w), w.counter('owner_changed'), w.counter('failed')]).toEqual([0, 1, 1]);
    (w.bridge as { submit: (count: number) => number }).submit = submit;
    w.run(3);
    expect(w.owner(1)).toBe(3);
    w.table[W_TABLE_EPOCH]++;
    w.run(QUANTUM + 5);
    expect(w.state.n[N_STALE]).toBe(1);
  });
});

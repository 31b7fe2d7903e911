/** The contract of a bridge: what the loop may rely on, whoever carries the commands out. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  HANDLE_IDLE,
  HOW_FORCED,
  HOW_TAKEN,
  VCPU_DEAD,
  VCPU_GRANTING,
  VCPU_PARKED,
  VCPU_RUNNING,
  W_CORE_HEIR,
  W_CORE_WORD_HI,
  W_CORE_WORD_LO,
  W_TABLE_EPOCH,
  W_TABLE_HEARTBEAT,
  W_VCPU_FORCE,
  W_VCPU_HOW,
  W_VCPU_PARK_REQ,
  W_VCPU_PREEMPT,
} from '../../arbiter/abi/layout.gen.ts';
import {
  CMD_CORE,
  CMD_FROM,
  CMD_OP,
  CMD_RESULT,
  CMD_TO,
  CMD_WORDS,
  OP_FORCE,
  OP_GRANT,
  OP_HEIR,
  OP_MOVE,
  OP_PARK,
  OP_PREEMPT,
  R_AGAIN,
  R_ALREADY,
  R_BUSY,
  R_DEAD,
  R_INVALID,
  R_STALE,
} from '../../arbiter/bridge/bridge.ts';
import {
  coreBase,
  coreLow,
  HANDLES,
  makeHandle,
  ownerOf,
  slotOf,
  successorOf,
  tableVcpuBase,
  vcpuOf,
} from '../../arbiter/bridge/words.ts';
import type { ContractWorld } from './world.ts';
import { stateOf, until } from './world.ts';

type Command = [op: number, core: number, from: number, to: number];

export function bridgeContract(name: string, make: () => Promise<ContractWorld>): void {
  describe(`bridge contract: ${name}`, () => {
    let w: ContractWorld;
    let core: number;
    let other: number;

    beforeEach(async () => {
      w = await make();
      [core, other] = w.cores;
    });
    afterEach(() => w.close());

    function batch(...commands: Command[]): number[] {
      commands.forEach(([op, c, from, to], i) => {
        const at = i * CMD_WORDS;
        w.bridge.batch.fill(0, at, at + CMD_WORDS);
        w.bridge.batch[at + CMD_OP] = op;
        w.bridge.batch[at + CMD_CORE] = c;
        w.bridge.batch[at + CMD_FROM] = from;
        w.bridge.batch[at + CMD_TO] = to;
      });
      const failed = w.bridge.submit(commands.length);
      const results = commands.map((_, i) => w.bridge.batch[i * CMD_WORDS + CMD_RESULT]);
      expect(failed).toBe(results.filter((result) => result < 0).length);
      return results;
    }
    const one = (...command: Command): number => batch(command)[0];
    const low = (c: number): number => Atomics.load(w.table, coreBase(c) + W_CORE_WORD_LO);
    const generation = (c: number): number => Atomics.load(w.table, coreBase(c) + W_CORE_WORD_HI);
    const heir = (c: number): number => Atomics.load(w.table, coreBase(c) + W_CORE_HEIR);
    const owner = (c: number): number => ownerOf(low(c));
    const word = (handle: number, at: number): number =>
      Atomics.load(w.table, tableVcpuBase(slotOf(handle), vcpuOf(handle)) + at);

    /** One VM of two vCPUs, the first of which runs on the core. */
    async function running(): Promise<[number, number]> {
      const slot = await w.vm(2);
      const [a, b] = [makeHandle(slot, 0), makeHandle(slot, 1)];
      expect(one(OP_GRANT, core, 0, a)).toBe(0);
      await until(w, a, VCPU_RUNNING);
      return [a, b];
    }

    test('a grant gives an idle core to a parked vCPU', async () => {
      const [a] = await running();
      expect(low(core)).toBe(coreLow(a, 0));
    });

    test('a move hands the core over when its owner has left', async () => {
      const [a, b] = await running();
      await w.manner(a, 'stubborn');
      expect(one(OP_MOVE, core, a, b)).toBe(0);
      expect(low(core)).toBe(coreLow(a, b) | 0);
      expect(stateOf(w, b)).toBe(VCPU_GRANTING);
      await w.manner(a, 'obeys');
      await until(w, a, VCPU_PARKED);
      await until(w, b, VCPU_RUNNING);
      expect(low(core)).toBe(coreLow(b, 0));
    });

    test('a preemption tells who runs the core, and moves nothing', async () => {
      const [a, b] = await running();
      const before = [low(core), generation(core), word(a, W_VCPU_PARK_REQ)];
      // A count like any other, although it is no handle: it may be anything.
      for (const switches of [1, -2, 0x7fffffff]) {
        expect(one(OP_PREEMPT, core, a, switches)).toBe(0);
        expect(word(a, W_VCPU_PREEMPT)).toBe(switches);
      }
      expect([low(core), generation(core), word(a, W_VCPU_PARK_REQ)]).toEqual(before);
      expect(stateOf(w, a)).toBe(VCPU_RUNNING);
      expect(one(OP_PREEMPT, core, b, 7)).toBe(R_AGAIN);
      expect(one(OP_PREEMPT, other, a, 7)).toBe(R_AGAIN);
      expect(one(OP_PREEMPT, core, 0, 7)).toBe(R_INVALID);
      expect(one(OP_PREEMPT, w.unmanagedCore, a, 7)).toBe(R_INVALID);
      await w.manner(a, 'stubborn');
      expect(one(OP_MOVE, core, a, b)).toBe(0);
      expect(one(OP_PREEMPT, core, a, 7)).toBe(R_ALREADY);
      expect([word(a, W_VCPU_PREEMPT), word(b, W_VCPU_PREEMPT)]).toEqual([0x7fffffff, 0]);
      await w.manner(a, 'obeys');
      await until(w, b, VCPU_RUNNING);
    });

    test('a park leaves the core idle, even if it has an heir', async () => {
      const [a, b] = await running();
      expect(one(OP_HEIR, core, 0, b)).toBe(0);
      expect(one(OP_PARK, core, a, 0)).toBe(0);
      await until(w, a, VCPU_PARKED);
      expect(low(core)).toBe(0);
      expect(stateOf(w, b)).toBe(VCPU_PARKED);
    });

    test('each change of hands raises the generation', async () => {
      const slot = await w.vm(1);
      const a = makeHandle(slot, 0);
      const before = generation(core);
      one(OP_GRANT, core, 0, a);
      await until(w, a, VCPU_RUNNING);
      expect((generation(core) - before) | 0).toBe(1);
      one(OP_PARK, core, a, 0);
      await until(w, a, VCPU_PARKED);
      expect((generation(core) - before) | 0).toBe(3);
    });

    test('a yield gives the core to the heir, with no command', async () => {
      const [a, b] = await running();
      expect(one(OP_HEIR, core, 0, b)).toBe(0);
      expect(heir(core)).toBe(b);
      await w.yield(a);
      await until(w, b, VCPU_RUNNING);
      expect(owner(core)).toBe(b);
      await until(w, a, VCPU_PARKED);
    });

    test('a yield without an heir leaves the core idle', async () => {
      const [a] = await running();
      await w.yield(a);
      await until(w, a, VCPU_PARKED);
      expect(low(core)).toBe(0);
    });

    test('an heir that has a core elsewhere does not inherit', async () => {
      const [a, b] = await running();
      one(OP_HEIR, core, 0, b);
      one(OP_GRANT, other, 0, b);
      await until(w, b, VCPU_RUNNING);
      await w.yield(a);
      await until(w, a, VCPU_PARKED);
      expect(low(core)).toBe(0);
      expect(owner(other)).toBe(b);
    });

    test('an heir can be taken back', async () => {
      const [a, b] = await running();
      expect(batch([OP_HEIR, core, 0, b], [OP_HEIR, core, 0, 0])).toEqual([0, 0]);
      expect(heir(core)).toBe(0);
      await w.yield(a);
      await until(w, a, VCPU_PARKED);
      expect(stateOf(w, b)).toBe(VCPU_PARKED);
    });

    test('a move whose owner has yielded already still gives the core to its successor', async () => {
      const [a, b] = await running();
      await w.yield(a);
      await until(w, a, VCPU_PARKED);
      expect(one(OP_MOVE, core, a, b)).toBe(0);
      await until(w, b, VCPU_RUNNING);
      expect(low(core)).toBe(coreLow(b, 0));
    });

    test('a park whose owner has yielded already has nothing to do', async () => {
      const [a] = await running();
      await w.yield(a);
      await until(w, a, VCPU_PARKED);
      expect(one(OP_PARK, core, a, 0)).toBe(0);
      expect(low(core)).toBe(0);
    });

    test('busy: a target that is not parked is refused, and nothing changes', async () => {
      const [a, b] = await running();
      one(OP_GRANT, other, 0, b);
      await until(w, b, VCPU_RUNNING);
      expect(one(OP_MOVE, core, a, b)).toBe(R_BUSY);
      expect(one(OP_GRANT, other, 0, a)).toBe(R_BUSY);
      expect([owner(core), owner(other)]).toEqual([a, b]);
    });

    test('wrong owner: the target stays parked', async () => {
      const [a, b] = await running();
      const third = makeHandle(await w.vm(2), 0);
      expect(one(OP_MOVE, core, third, b)).toBe(R_AGAIN);
      expect(one(OP_PARK, core, b, 0)).toBe(R_AGAIN);
      expect(one(OP_GRANT, core, 0, b)).toBe(R_AGAIN);
      expect(stateOf(w, b)).toBe(VCPU_PARKED);
      expect(low(core)).toBe(coreLow(a, 0));
    });

    test('request in flight: a second one is refused, and its target stays parked', async () => {
      const [a, b] = await running();
      const third = makeHandle(await w.vm(1), 0);
      await w.manner(a, 'stubborn');
      expect(one(OP_MOVE, core, a, b)).toBe(0);
      expect(one(OP_MOVE, core, a, third)).toBe(R_ALREADY);
      expect(one(OP_PARK, core, a, 0)).toBe(R_ALREADY);
      expect(stateOf(w, third)).toBe(VCPU_PARKED);
      expect(successorOf(low(core))).toBe(b);
      await w.manner(a, 'obeys');
      await until(w, b, VCPU_RUNNING);
    });

    test('poll counts what is in flight', async () => {
      const [a, b] = await running();
      expect(w.bridge.poll()).toBe(0);
      await w.manner(a, 'stubborn');
      one(OP_MOVE, core, a, b);
      expect(w.bridge.poll()).toBe(1);
      await w.manner(a, 'obeys');
      await until(w, b, VCPU_RUNNING);
      expect(w.bridge.poll()).toBe(0);
    });

    test('a batch is carried out in order, and one failure does not stop the rest', async () => {
      const [a, b] = await running();
      expect(
        batch([OP_GRANT, core, 0, b], [OP_GRANT, other, 0, b], [OP_HEIR, other, 0, a], [99, core, a, b]),
      ).toEqual([R_AGAIN, 0, 0, R_INVALID]);
      await until(w, b, VCPU_RUNNING);
      expect(owner(other)).toBe(b);
    });

    test.each([0, HANDLES + 1, HANDLE_IDLE, -1, 0x7fffffff])(
      'a handle that is none (%i) is refused',
      async (handle) => {
        const [a] = await running();
        expect(one(OP_GRANT, other, 0, handle)).toBe(R_INVALID);
        expect(one(OP_MOVE, core, a, handle)).toBe(R_INVALID);
        expect(one(OP_PARK, core, handle, 0)).toBe(R_INVALID);
        expect(owner(core)).toBe(a);
      },
    );

    test('moving a core to its own owner is refused', async () => {
      const [a] = await running();
      expect(one(OP_MOVE, core, a, a)).toBe(R_INVALID);
    });

    test('cores that are not managed, or do not exist, are refused', async () => {
      const [, b] = await running();
      for (const bad of [w.unmanagedCore, 256, -1, 0x7fffffff])
        expect(one(OP_GRANT, bad, 0, b)).toBe(R_INVALID);
      expect(stateOf(w, b)).toBe(VCPU_PARKED);
    });

    test('a stale epoch: nothing is carried out', async () => {
      const [a, b] = await running();
      Atomics.add(w.table, W_TABLE_EPOCH, 1);
      expect(batch([OP_MOVE, core, a, b], [OP_HEIR, core, 0, b])).toEqual([R_STALE, R_STALE]);
      expect(low(core)).toBe(coreLow(a, 0));
      expect(heir(core)).toBe(0);
    });

    test('another arbiter claims: the first one is stale, and what it submits changes nothing', async () => {
      const [a, b] = await running();
      const second = await w.second();
      const before = Atomics.load(w.table, W_TABLE_EPOCH);
      const epoch = second.claim(process.pid, 0, w.cores);
      expect(epoch).not.toBe(before);
      expect(low(core)).toBe(0);
      expect(batch([OP_MOVE, core, a, b], [OP_GRANT, core, 0, b], [OP_HEIR, core, 0, b])).toEqual([
        ...[R_STALE, R_STALE, R_STALE],
      ]);
      expect(low(core)).toBe(0);
      expect(heir(core)).toBe(0);
      // The lease is the second one's to give back, and the first cannot do it for it.
      try {
        w.bridge.release();
      } catch (error) {
        expect(error).toMatchObject({ code: 'ESTALE' });
      }
      expect(Atomics.load(w.table, W_TABLE_EPOCH)).toBe(epoch);
      second.release();
      expect(Atomics.load(w.table, W_TABLE_EPOCH)).not.toBe(epoch);
    });

    test('force: of a park in flight only, and only where the bridge can', async () => {
      const [a, b] = await running();
      const third = makeHandle(await w.vm(1), 0);
      await w.manner(a, 'stubborn');
      if (w.bridge.kind === 'sim') {
        expect(one(OP_MOVE, core, a, b)).toBe(0);
        expect(one(OP_FORCE, core, a, 0)).toBe(R_INVALID);
        expect(low(core)).toBe(coreLow(a, b) | 0);
        await w.manner(a, 'obeys');
        await until(w, b, VCPU_RUNNING);
        return;
      }
      // Nothing is in flight, on the core or with this owner.
      expect(one(OP_FORCE, core, a, 0)).toBe(R_AGAIN);
      expect(one(OP_MOVE, core, a, b)).toBe(0);
      expect(one(OP_FORCE, core, third, 0)).toBe(R_AGAIN);
      expect(one(OP_FORCE, other, a, 0)).toBe(R_AGAIN);
      expect(word(a, W_VCPU_FORCE)).not.toBe(word(a, W_VCPU_PARK_REQ));
      expect(low(core)).toBe(coreLow(a, b) | 0);
      expect(one(OP_FORCE, core, a, 0)).toBe(0);
      expect(word(a, W_VCPU_FORCE)).toBe(word(a, W_VCPU_PARK_REQ));
      // Over kFlux it is in no guest that could be left, so the core goes on without it, a quarter of a deadline later.
      await until(w, b, VCPU_RUNNING);
      expect(low(core)).toBe(coreLow(b, 0));
      await w.manner(a, 'obeys');
      await until(w, a, VCPU_PARKED);
      expect(word(a, W_VCPU_HOW)).toBe(w.bridge.kind === 'kflux' ? HOW_TAKEN : HOW_FORCED);
      expect(one(OP_FORCE, core, b, 0)).toBe(R_AGAIN);
    });

    test('a claim makes a new epoch and frees every core', async () => {
      await running();
      const before = Atomics.load(w.table, W_TABLE_EPOCH);
      const epoch = w.bridge.claim(process.pid, 0, w.cores);
      expect(epoch).not.toBe(before);
      expect(Atomics.load(w.table, W_TABLE_EPOCH)).toBe(epoch);
      expect(low(core)).toBe(0);
    });

    test('the heartbeat changes', async () => {
      const before = Atomics.load(w.table, W_TABLE_HEARTBEAT);
      // Stamps are coarser than two calls in a row.
      while (Atomics.load(w.table, W_TABLE_HEARTBEAT) === before) w.bridge.beat();
    });

    test('a dead VM: its cores go to the heir or fall idle, and it gets no more', async () => {
      const [a] = await running();
      const slot = await w.vm(2);
      const [c, d] = [makeHandle(slot, 0), makeHandle(slot, 1)];
      one(OP_GRANT, other, 0, c);
      await until(w, c, VCPU_RUNNING);
      one(OP_HEIR, other, 0, makeHandle(0, 1));
      one(OP_HEIR, core, 0, d);
      await w.kill(slot);
      expect(w.bridge.reap(slot)).toBe(1);
      // kFlux buries the dead itself, as soon as it hears of them.
      await until(w, c, VCPU_DEAD);
      await until(w, makeHandle(0, 1), VCPU_RUNNING);
      expect(owner(other)).toBe(makeHandle(0, 1));
      await w.settled('the dead is no heir', () => heir(core) === 0);
      expect(one(OP_MOVE, core, a, d)).toBe(R_DEAD);
      await w.yield(a);
      await until(w, a, VCPU_PARKED);
      expect(one(OP_GRANT, core, 0, c)).toBe(R_DEAD);
    });

    test('a successor that dies in mid-move: the core falls idle when its owner leaves', async () => {
      const [a] = await running();
      const slot = await w.vm(1);
      await w.manner(a, 'stubborn');
      expect(one(OP_MOVE, core, a, makeHandle(slot, 0))).toBe(0);
      await w.kill(slot);
      w.bridge.reap(slot);
      await w.settled('the dead is no successor', () => successorOf(low(core)) === HANDLE_IDLE);
      expect(owner(core)).toBe(a);
      await w.manner(a, 'obeys');
      await until(w, a, VCPU_PARKED);
      expect(low(core)).toBe(0);
    });

    test('an owner that dies in mid-move: the successor has the core', async () => {
      const [a] = await running();
      const slot = await w.vm(1);
      const c = makeHandle(slot, 0);
      await w.manner(a, 'stubborn');
      expect(one(OP_MOVE, core, a, c)).toBe(0);
      await w.kill(0);
      w.bridge.reap(0);
      await until(w, c, VCPU_RUNNING);
      expect(low(core)).toBe(coreLow(c, 0));
    });

    test('generations wrap', async ({ skip }) => {
      w.nearWrap(core);
      if (generation(core) >= 0 || generation(core) < -64)
        skip(`the core begins at generation ${generation(core)}, too far from the wrap`);
      const [a, b] = await running();
      let [from, to] = [a, b];
      for (let i = 0; i < 4 || generation(core) <= 0; i++) {
        expect(one(OP_MOVE, core, from, to)).toBe(0);
        await until(w, to, VCPU_RUNNING);
        await until(w, from, VCPU_PARKED);
        expect(owner(core)).toBe(to);
        [from, to] = [to, from];
      }
      expect(generation(core)).toBeGreaterThan(0);
    });

    test('many moves back and forth lose nobody', async () => {
      const [a, b] = await running();
      let [from, to] = [a, b];
      for (let i = 0; i < 200; i++) {
        expect(one(OP_MOVE, core, from, to)).toBe(0);
        await until(w, to, VCPU_RUNNING);
        await until(w, from, VCPU_PARKED);
        [from, to] = [to, from];
      }
      expect(low(core)).toBe(coreLow(from, 0));
    });
  });
}

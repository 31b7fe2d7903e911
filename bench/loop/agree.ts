/**
 * Whether both loops come to the same decisions. A figure for a twin that does less
 * would be worth nothing, so this runs before anything is measured, and as a unit
 * test: random worlds, legal and hostile, and after each turn every figure that the
 * loops derived and every command that they wrote has to be the same.
 */
import {
  CLASS_BE,
  CLASS_LC,
  CORE_OFFLINE,
  HANDLE_IDLE,
  HELD_FORCED,
  HELD_HELD,
  HELD_NONE,
  MAX_CORES,
  MAX_VCPUS,
  MAX_VMS,
  SUMMARY_BOOTED,
  SUMMARY_TIMER,
  VM_DEAD,
  VM_LIVE,
  W_CORE_FLAGS,
  W_CORE_HEIR,
  W_CORE_WORD_HI,
  W_CORE_WORD_LO,
  W_GUEST_VCPU_OLDEST,
  W_GUEST_VCPU_RUNQ_LEN,
  W_GUEST_VCPU_STATE,
  W_SUMMARY_FLAGS,
  W_SUMMARY_NEXT_TIMER,
  W_SUMMARY_SEQ,
  W_VCPU_HELD,
  W_VCPU_PINNED,
  W_VCPU_T_PARKED_HI,
  W_VCPU_T_PARKED_LO,
  W_VCPU_WORD,
  W_VM_RING_DEPTH,
  W_VM_RING_OLDEST,
  W_VM_STATE,
} from '../../arbiter/abi/layout.gen.ts';
import { CMD_WORDS } from '../../arbiter/bridge/bridge.ts';
import {
  coreBase,
  coreLow,
  guestVcpuBase,
  makeHandle,
  summaryBase,
  tableVcpuBase,
  vcpuWord,
  vmBase,
} from '../../arbiter/bridge/words.ts';
import { HEAD_HOT, HEAD_NOW } from '../../arbiter/policy/api.ts';
import type { Stage } from './stage.ts';

export interface Agreement {
  turns: number;
  /** Commands that both loops wrote. */
  commands: number;
  /** The first thing in which they differed; undefined: nothing. */
  difference?: string;
}

/** Small, seeded, good enough: mulberry32. */
function makeRandom(seed: number): (below: number) => number {
  let s = seed | 0;
  return (below) => {
    s = (s + 0x6d2b79f5) | 0;
    let t = Math.imul(s ^ (s >>> 15), 1 | s);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

/** `worlds` random worlds, `turns` turns in each. */
export function agree(stage: Stage, options: { worlds: number; turns: number; seed?: number }): Agreement {
  const random = makeRandom(options.seed ?? 1);
  const result: Agreement = { turns: 0, commands: 0 };
  stage.set('calls_per_turn', 0);
  stage.set('changing', 0);
  // The bridge refuses some commands, the same for both, and leaves the table alone: the second loop sees what the
  // first one saw.
  stage.set('refuse', 1);
  for (let w = 0; w < options.worlds && result.difference === undefined; w++) {
    const world = makeWorld(stage, random);
    for (let t = 0; t < options.turns && result.difference === undefined; t++) {
      world.change();
      const difference = oneTurn(stage, world, result);
      if (difference !== undefined) result.difference = `world ${w}, turn ${t}: ${difference}`;
    }
  }
  stage.clear([]);
  stage.set('refuse', 0);
  stage.freeClock();
  return result;
}

interface World {
  cores: readonly number[];
  slots: readonly number[];
  change(): void;
}

/** Which loop goes first changes, in case the first one leaves something behind. */
function oneTurn(stage: Stage, world: World, result: Agreement): string | undefined {
  const counts: number[] = [];
  const loops = [() => stage.turn.chunk(1), () => stage.twin.chunk(1)];
  const order = result.turns % 2 === 0 ? [0, 1] : [1, 0];
  for (const which of order) {
    const before = stage.get('commands');
    loops[which]();
    counts[which] = (stage.get('commands') - before) >>> 0;
  }
  result.turns++;
  result.commands += counts[0];
  return compare(stage, world, counts);
}

const BY_VM = ['vmClass', 'vmMin', 'vmMax', 'vmCores', 'vmWants', 'vmDelay', 'vmAway', 'vmFlags'] as const;
const BY_CORE = ['coreVm', 'coreFlags', 'coreAge', 'coreLast', 'coreHeir', 'target', 'why', 'heir'] as const;

function compare(stage: Stage, world: World, [js, c]: number[]): string | undefined {
  const { view, guard } = stage.state;
  const differ = (name: string, mine: Int32Array, theirs: Int32Array, at: number): string | undefined =>
    mine[at] === theirs[at]
      ? undefined
      : `${name}[${at}] is ${mine[at]} in TypeScript and ${theirs[at]} in C`;
  const head = stage.twinField('head');
  let found = differ('head', view.head, head, HEAD_NOW) ?? differ('head', view.head, head, HEAD_HOT);
  const hot = stage.twinField('hot');
  for (let i = 0; i < view.head[HEAD_HOT]; i++) found ??= differ('hot', view.hot, hot, i);
  for (const name of BY_VM) {
    const theirs = stage.twinField(name);
    for (const slot of world.slots) found ??= differ(name, view[name], theirs, slot);
  }
  for (const name of ['known', 'limit'] as const) {
    const theirs = stage.twinField(name);
    for (const slot of world.slots) found ??= differ(name, guard[name], theirs, slot);
  }
  for (const name of BY_CORE) {
    const theirs = stage.twinField(name);
    for (let k = 0; k < world.cores.length; k++) found ??= differ(name, view[name], theirs, k);
  }
  for (const name of ['allowed', 'edits'] as const) {
    const theirs = stage.twinField(name);
    for (let k = 0; k < world.cores.length; k++) found ??= differ(name, guard[name], theirs, k);
  }
  if (js !== c) found ??= `${js} commands in TypeScript and ${c} in C`;
  const batch = stage.twinBatch();
  for (let i = 0; i < js * CMD_WORDS; i++) found ??= differ('batch', stage.mem.bridge.batch, batch, i);
  return found;
}

function makeWorld(stage: Stage, random: (below: number) => number): World {
  const pick = <T>(items: readonly T[]): T => items[random(items.length)];
  const { arena, table } = stage;
  const cores = distinct(1 + random(12), MAX_CORES, random).sort((a, b) => a - b);
  const slots = distinct(1 + random(40), 64, random).map((slot) => (slot === 63 ? MAX_VMS - 1 : slot));
  const vcpusOf = new Map<number, number>();
  const params = {
    threshold_us: random(20),
    tenure_us: random(50),
    quantum_us: random(3000),
    step_us: random(30),
  };
  const pace = {
    moves_per_s: pick([0, 5, 1000]),
    vm_moves_per_s: pick([0, 2, 500]),
    back_us: pick([0, 100, 2000]),
  };
  // As it is by default in every other world: off.
  stage.configure(params, random(2) === 0 ? pace : undefined);
  stage.clear(cores);
  for (const slot of slots) {
    const vcpus = 1 + random(pick([2, 4, MAX_VCPUS]));
    vcpusOf.set(slot, vcpus);
    // Beyond what is allowed, too: a maximum of 0, a minimum above it.
    stage.vm(slot, { vcpus, vmClass: pick([CLASS_BE, CLASS_LC, 7]), min: random(4), max: random(vcpus + 3) });
    stage.attach(slot);
  }
  // Stamps wrap, and some worlds live through it.
  let high = random(1 << 20);
  let low = pick([random(2 ** 32), -random(100_000)]) >>> 0;
  const stamp = (agoUs: number): number =>
    Number(BigInt.asIntN(32, ((BigInt(high) << 32n) | BigInt(low)) >> BigInt(stage.shift))) -
    agoUs * stage.stampsPerUs;
  const handle = (): number => {
    const slot = pick(slots);
    return makeHandle(slot, random(vcpusOf.get(slot)!));
  };

  function changeVcpu(slot: number): void {
    const v = random(vcpusOf.get(slot)!);
    const guest = guestVcpuBase(slot, v);
    const host = tableVcpuBase(slot, v);
    const what = random(8);
    if (what < 3) {
      arena[guest + W_GUEST_VCPU_RUNQ_LEN] = pick([0, 0, 1, 2, 5, 70_000, -1]);
      arena[guest + W_GUEST_VCPU_OLDEST] = pick([stamp(random(30)), stamp(random(5000)), random(2 ** 32)]);
    } else if (what < 5) {
      arena[guest + W_GUEST_VCPU_STATE] = random(6);
    } else if (what < 6) {
      table[host + W_VCPU_WORD] = vcpuWord(random(8), pick(cores));
      table[host + W_VCPU_PINNED] = pick(cores);
    } else {
      table[host + W_VCPU_HELD] = pick([HELD_NONE, HELD_NONE, HELD_HELD, HELD_FORCED, 3]);
      table[host + W_VCPU_T_PARKED_LO] = low - random(100_000);
      table[host + W_VCPU_T_PARKED_HI] = high;
    }
    arena[summaryBase(slot) + W_SUMMARY_SEQ] += pick([0, 1, 1]);
  }

  function changeVm(slot: number): void {
    const vm = vmBase(slot);
    const summary = summaryBase(slot);
    const what = random(12);
    if (what < 4) {
      table[vm + W_VM_RING_DEPTH] = pick([0, 0, 1, 3, 5000, -1]);
      table[vm + W_VM_RING_OLDEST] = stamp(random(200));
    } else if (what < 7) {
      arena[summary + W_SUMMARY_FLAGS] = pick([0, SUMMARY_BOOTED, SUMMARY_BOOTED | SUMMARY_TIMER, -1]);
      arena[summary + W_SUMMARY_NEXT_TIMER] = stamp(random(100) - 50);
      arena[summary + W_SUMMARY_SEQ]++;
    } else if (what < 8) {
      table[vm + W_VM_STATE] = pick([VM_LIVE, VM_LIVE, VM_LIVE, VM_DEAD]);
      arena[summary + W_SUMMARY_SEQ]++;
    } else if (what < 9) {
      // Comes back with its limits read anew; the dense list changes its order.
      stage.detach(slot);
      table[vm + W_VM_STATE] = VM_LIVE;
      stage.attach(slot);
    }
  }

  function changeCore(): void {
    const at = coreBase(pick(cores));
    const owner = pick([0, handle(), handle(), 0xfff0]);
    const successor = owner === 0 ? 0 : pick([0, 0, 0, handle(), HANDLE_IDLE]);
    table[at + W_CORE_WORD_LO] = coreLow(owner, successor);
    table[at + W_CORE_WORD_HI] += random(3);
    table[at + W_CORE_HEIR] = pick([0, handle(), HANDLE_IDLE]);
    table[at + W_CORE_FLAGS] = pick([0, 0, 0, CORE_OFFLINE]);
  }

  return {
    cores,
    slots,
    change(): void {
      low += pick([0, 100, 3000, 50_000, 20_000_000]);
      if (low >= 2 ** 32) {
        low -= 2 ** 32;
        high++;
      }
      stage.fixClock(low, high);
      for (let n = random(6); n > 0; n--) changeVcpu(pick(slots));
      for (let n = random(3); n > 0; n--) changeVm(pick(slots));
      for (let n = random(2); n > 0; n--) changeCore();
    },
  };
}

/** So many different numbers below `below`. */
function distinct(count: number, below: number, random: (below: number) => number): number[] {
  const found = new Set<number>();
  while (found.size < count) found.add(random(below));
  return [...found];
}

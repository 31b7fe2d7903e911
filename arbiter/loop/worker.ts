/**
 * The loop's worker thread: pinned to the arbiter core, warm before it goes live,
 * then turning until it is told to stop or its lease is gone.
 */
import type { MessagePort } from 'node:worker_threads';
import { receiveMessageOnPort, workerData } from 'node:worker_threads';
import { Arena, Clock, NativeBridge, pinThread, Releaser, wrapShared } from '../../native/index.ts';
import { nativeBridge } from '../bridge/native.ts';
import { makeGuard } from '../guard/guard.ts';
import { configurePace, NO_PACE } from '../guard/pace.ts';
import { findPolicy } from '../policy/registry.ts';
import { makeIdle } from './idle.ts';
import type { FromLoop, LoopOptions, ToLoop } from './messages.ts';
import { CONTROL_WORD } from './messages.ts';
import type { LoopMemory } from './state.ts';
import { makeState, N_LOADS, N_NUDGE, N_STALE } from './state.ts';
import {
  resetStats,
  BRIDGE_AFFINITY,
  BRIDGE_KFLUX,
  S_BRIDGE,
  S_DEADLINE_FIFO,
  S_EPOCH,
  S_LIVE_TSC_HI,
  S_LIVE_TSC_LO,
  S_STAMP_SHIFT,
  S_STATE,
  S_TSC_KHZ,
  S_WARM_UP_US,
  STATE_LIVE,
  STATE_STALE,
  STATE_STOPPED,
  STATE_WARMING,
  statsOver,
} from './stats.ts';
import { makeTurn } from './turn.ts';
import { attachVm, configureVm, detachVm } from './vms.ts';
import { DEFAULT_WARM_UP, warmUp } from './warmup.ts';

/** Turns between two looks at the control word: a few hundred microseconds at most. */
const CHUNK = 256;

const { port, options } = workerData as { port: MessagePort; options: LoopOptions };
const control = new Int32Array(options.control);
const say = (message: FromLoop): void => port.postMessage(message);

pinThread(options.arbiterCore);
const policy = findPolicy(options.policy);
if (policy === undefined) throw new Error(`there is no policy ${options.policy}`);
const arena = Arena.wrap(options.arena);
const stats = statsOver(wrapShared(options.stats));
resetStats(stats);
stats.words[S_STATE] = STATE_WARMING;
stats.words[S_TSC_KHZ] = options.tscKhz;
stats.words[S_STAMP_SHIFT] = options.stampShift;

const mem: LoopMemory = {
  arena: new Int32Array(arena.buffer),
  // Shadow pages lie beneath it until the main thread has heard 'warm', the hand-off table's before it says 'live'.
  table: new Int32Array(wrapShared(options.table)),
  bridge: nativeBridge(NativeBridge.wrap(options.bridge), arena),
  clock: new Clock(options.stampShift),
  releaser: Releaser.wrap(options.releaser),
  stats,
  stampShift: options.stampShift,
  tscKhz: options.tscKhz,
};
const state = makeState(stats);
const decider = policy.bind(stats.view);
const stampsPerUs = options.tscKhz / 1000 / 2 ** options.stampShift;
decider.configure(policy.params.parse(options.params), stampsPerUs);
const turn = makeTurn(mem, state, decider, makeGuard(stats.view, state.guard));

const idle = makeIdle(
  mem,
  state,
  options.idleMaxUs,
  // A message ends the rest: its sender sets the word first.
  (ms) => void Atomics.wait(control, CONTROL_WORD, 0, ms),
  () => performance.now(),
);

/** Limits that are on take part in the warm-up, and are never reached in it. */
const WARM_PACE = { moves_per_s: 1e6, vm_moves_per_s: 1e6, back_us: 1 };
const paced = Object.values(options.pace).some((limit) => limit !== 0);
configurePace(state.guard.pace, paced ? WARM_PACE : NO_PACE, stampsPerUs);
const began = performance.now();
warmUp(mem, state, turn, { ...DEFAULT_WARM_UP, rounds: options.warmUpRounds });
configurePace(state.guard.pace, options.pace, stampsPerUs);
stats.words[S_WARM_UP_US] = Math.round((performance.now() - began) * 1000);
say({ op: 'warm', us: stats.words[S_WARM_UP_US] });

/** Returns false when the loop is to end. */
function obey(message: ToLoop): boolean {
  switch (message.op) {
    case 'live':
      stats.words[S_EPOCH] = message.epoch;
      stats.words[S_BRIDGE] = mem.bridge.kind === 'kflux' ? BRIDGE_KFLUX : BRIDGE_AFFINITY;
      stats.words[S_DEADLINE_FIFO] = message.deadlineFifo ? 1 : 0;
      turn.cores.manage(options.cores);
      mem.clock.now();
      stats.words[S_LIVE_TSC_LO] = mem.clock.words[0];
      stats.words[S_LIVE_TSC_HI] = mem.clock.words[1];
      stats.words[S_STATE] = STATE_LIVE;
      break;
    case 'attach':
      attachVm(mem, state, message.slot);
      break;
    case 'detach':
      detachVm(mem, state, message.slot);
      say({ op: 'detached', slot: message.slot });
      break;
    case 'configure':
      configureVm(mem, state, message.slot);
      state.n[N_NUDGE] = 1;
      break;
    case 'loads':
      state.n[N_LOADS] = message.count;
      break;
    case 'params':
      decider.configure(message.params, stampsPerUs);
      state.n[N_NUDGE] = 1;
      break;
    case 'stop':
      return false;
  }
  return true;
}

/** Cleared before the port is read: what comes later sets it again. */
function drain(): boolean {
  Atomics.store(control, CONTROL_WORD, 0);
  for (;;) {
    const received = receiveMessageOnPort(port);
    if (received === undefined) return true;
    if (!obey(received.message as ToLoop)) return false;
  }
}

// Not live yet: sleep until there is something to do. The main thread notifies after it set the word.
while (stats.words[S_STATE] === STATE_WARMING) {
  Atomics.wait(control, CONTROL_WORD, 0, 1000);
  if (!drain()) stats.words[S_STATE] = STATE_STOPPED;
}
while (stats.words[S_STATE] === STATE_LIVE) {
  turn.chunk(CHUNK);
  if (state.n[N_STALE] !== 0) stats.words[S_STATE] = STATE_STALE;
  else if (Atomics.load(control, CONTROL_WORD) !== 0 && !drain()) stats.words[S_STATE] = STATE_STOPPED;
  else if (idle.rest() !== 0) turn.rested();
}
say({ op: 'ended', stale: stats.words[S_STATE] === STATE_STALE });
port.close();

/**
 * The affinity bridge: cores are moved by sched_setaffinity and futex hand-off, with
 * no kernel module. The protocol is native (the Rust crate `handoff`, shared with
 * Fluxion); this only gives it the face that the loop knows.
 */
import type { AffinityBridge, Arena } from '../../native/index.ts';
import type { Bridge } from './bridge.ts';

export interface AffinityFace extends Bridge {
  /** The native bridge's number, for wrapping it in another thread. */
  readonly id: number;
  /** Starts the thread that keeps the forced-park deadline; true: at real-time priority. */
  startDeadlines(): boolean;
}

/**
 * `submit`, `poll` and `beat` are the native functions themselves, as own properties:
 * the loop calls them with nothing between. The arena is where park generations go;
 * without one (tests, shadows) parks are kicked instead of asked.
 */
export function affinityBridge(native: AffinityBridge, arena: Arena | null): AffinityFace {
  return {
    kind: 'affinity',
    id: native.id,
    batch: native.batch,
    capacity: native.capacity,
    submit: native.submit,
    poll: native.poll,
    beat: native.beat,
    claim: (pid, arbiterCore, managed) => native.claim(pid, arbiterCore, managed),
    release: () => native.release(),
    setPage: (slot, mapped) => native.setPage(slot, mapped ? arena : null),
    reap: (slot) => native.reap(slot),
    startDeadlines: () => native.startDeadlines(),
  };
}

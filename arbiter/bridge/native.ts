/**
 * The bridges that move real cores: by affinity, with no kernel module, or by kFlux.
 * The protocol is native (the Rust crate `handoff`, shared with Fluxion); this only
 * gives it the face that the loop knows, which is the same for both.
 */
import type { Arena, NativeBridge } from '../../native/index.ts';
import type { Bridge } from './bridge.ts';

export interface NativeFace extends Bridge {
  /** The native bridge's number, for wrapping it in another thread. */
  readonly id: number;
  /** From now on by kFlux; see NativeBridge. The loop's functions stay the same objects. */
  useKflux(): void;
  /** Starts the thread that keeps the forced-park deadline; true: at real-time priority. kFlux needs none. */
  startDeadlines(): boolean;
}

/**
 * `submit`, `poll` and `beat` are the native functions themselves, as own properties:
 * the loop calls them with nothing between. The arena is where park generations go;
 * without one (tests, shadows) parks are kicked instead of asked.
 */
export function nativeBridge(native: NativeBridge, arena: Arena | null): NativeFace {
  return {
    // The bridge can be switched, by another thread too.
    get kind() {
      return native.kind;
    },
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
    useKflux: () => native.useKflux(),
    startDeadlines: () => native.startDeadlines(),
  };
}

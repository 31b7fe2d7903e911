/**
 * Has a policy decide again what was recorded. It sees turn for turn what was seen
 * then. The recorded policy has to decide the same, bit for bit; of another one it is
 * told where it differs. What would have come of its decisions, a replay cannot know:
 * the next turn is the recorded one. That is what the simulator is for.
 */
import type { Decider, Policy } from '../policy/api.ts';
import { HEAD_CORES } from '../policy/api.ts';
import { reasonCode } from '../policy/reasons.ts';
import type { RecordingReader } from './file.ts';
import { stampsPerUs } from './file.ts';

export interface Difference {
  turn: number;
  /** Since the recording began. */
  us: number;
  core: number;
  /** VM slots; -1: nobody. */
  had: number;
  then: { target: number; why: string; heir: number };
  now: { target: number; why: string; heir: number };
}

export interface Replayed {
  turns: number;
  /** Turns in which the policy decided anew; keyframes only tell it how things stand. */
  compared: number;
  /** Turns lost while recording. */
  lost: number;
  seconds: number;
  /** Turns in which a wish, its reason or an heir differs. */
  differing: number;
  /** Of those, the ones in which a core would have gone to somebody else. */
  differingTargets: number;
  faults: number;
  /** The policy keeps no state, or its state was recorded: every turn counts. */
  exact: boolean;
  first: Difference[];
}

/** How many differences are kept. */
const FIRST = 20;

/** `params`: validated. */
export function replay(
  recording: RecordingReader,
  policy: Policy,
  params: Record<string, number>,
  progress: (turn: number) => void = () => {},
): Replayed {
  const { head, turns } = recording;
  const { view, decision } = turns;
  const perUs = stampsPerUs(head);
  const decider = policy.bind(view);
  decider.configure(params, perUs);
  const same = policy.name === head.policy;
  const result: Replayed = {
    ...{ turns: 0, compared: 0, lost: 0, seconds: 0, differing: 0, differingTargets: 0, faults: 0 },
    exact: true,
    first: [],
  };
  const compare = (turn: number): void => {
    const cores = view.head[HEAD_CORES];
    let differs = false;
    let targets = false;
    for (let k = 0; k < cores; k++) {
      const target = view.target[k] !== decision.target[k];
      if (!target && view.why[k] === decision.why[k] && view.heir[k] === decision.heir[k]) continue;
      differs = true;
      targets ||= target;
      if (result.first.length >= FIRST) continue;
      result.first.push({
        turn,
        us: turns.elapsed / perUs,
        core: head.cores[k] ?? k,
        had: view.coreVm[k],
        then: { target: decision.target[k], why: reasonCode(decision.why[k]), heir: decision.heir[k] },
        now: { target: view.target[k], why: reasonCode(view.why[k]), heir: view.heir[k] },
      });
    }
    if (differs) result.differing++;
    if (targets) result.differingTargets++;
  };
  result.turns = recording.forEach((turn) => {
    if (turn % 4096 === 0) progress(turn);
    // A keyframe has the state as it was after its turn, so that turn cannot be decided again.
    if (turns.keyframe) {
      if (same) result.exact &&= restore(decider, turns.state);
      return;
    }
    try {
      decider.decide();
    } catch {
      // As the loop does it: nothing changes.
      result.faults++;
      for (let k = 0; k < view.head[HEAD_CORES]; k++) {
        view.target[k] = view.coreVm[k];
        view.why[k] = 0;
        view.heir[k] = view.coreHeir[k];
      }
    }
    result.compared++;
    compare(turn);
  });
  result.seconds = turns.elapsed / perUs / 1e6;
  result.lost = recording.lost;
  return result;
}

/** Returns whether the policy is now as it was then. */
function restore({ state = [] }: Decider, recorded: readonly Int32Array[]): boolean {
  if (state.length !== recorded.length || state.some((array, i) => array.length !== recorded[i].length))
    return false;
  state.forEach((array, i) => array.set(recorded[i]));
  return state.length > 0;
}

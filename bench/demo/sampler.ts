/**
 * How long a core takes from the arbiter's decision to the first instruction of the
 * guest that gets it, sampled from outside.
 *
 * The bridge leaves the time of the decision in the hand-off table, with the vCPU
 * that is to get the core; the guest writes the time of its first instruction when it
 * comes back from its door, and the number of the grant that it belongs to. Grants
 * that an heir had without any decision must not count: the arbiter's records tell
 * how many decisions there were for a vCPU, and as long as its grants grow by as many,
 * each of them was decided. Several grants may pass between two looks: what is seen
 * is the latest of each vCPU, so the interval of the looks decides how many samples
 * there are, but not which ones.
 *
 * A vCPU that was parked host-side goes on in the middle of its application, where no
 * FluxOS code runs that could write down a time: such grants are not seen.
 */
import {
  W_GUEST_VCPU_RESUME_GEN,
  W_GUEST_VCPU_RESUME_HI,
  W_GUEST_VCPU_RESUME_LO,
  W_HOST_VCPU_GRANT_GEN,
  W_VCPU_GRANTS,
  W_VCPU_T_DECIDED_HI,
  W_VCPU_T_DECIDED_LO,
  W_VCPU_T_GRANTED_HI,
  W_VCPU_T_GRANTED_LO,
} from '../../arbiter/abi/layout.gen.ts';
import { OP_GRANT, OP_MOVE } from '../../arbiter/bridge/bridge.ts';
import {
  RECORDS,
  REC_OP,
  REC_RESULT,
  REC_SEQ,
  REC_TO,
  REC_TSC_HI,
  REC_TSC_LO,
  REC_WORDS,
  S_RECORDS,
} from '../../arbiter/loop/stats.ts';
import type { Stats } from '../../arbiter/loop/stats.ts';

/** One vCPU that is watched. */
export interface Watched {
  handle: number;
  /** Word index of its block in the hand-off table. */
  host: number;
  /** Its VM's control page, and word indices of its two halves there. */
  page: Int32Array;
  guestHalf: number;
  hostHalf: number;
}

export interface SamplerOutcome {
  /** Microseconds. */
  samples: Float64Array;
  /** Grants looked at that were left out, because one since the last look went to an heir. */
  inherited: number;
}

/** Two halves of a time stamp as a number: exact to 2^53, which a counter reaches after weeks. */
const ticks = (words: Int32Array, low: number, high = low + 1): number =>
  (words[high] >>> 0) * 4294967296 + (words[low] >>> 0);

/** A record's result is written after it, by the same turn of the loop: younger ones are left for the next look. */
const SETTLED_US = 200;

/** Counts the decisions for each vCPU, as the arbiter writes them down. */
function makeDecisions({ words, records }: Pick<Stats, 'words' | 'records'>): {
  /** Reads on as far as `before`, a TSC. False: some were written over before they were read. */
  read(before: number): boolean;
  of(handle: number): number;
} {
  const counts = new Map<number, number>();
  let next = Atomics.load(words, S_RECORDS);
  return {
    read(before): boolean {
      const end = Atomics.load(words, S_RECORDS);
      if (((end - next) | 0) > RECORDS / 2) {
        next = end;
        return false;
      }
      for (; next !== end; next = (next + 1) | 0) {
        const at = (next & (RECORDS - 1)) * REC_WORDS;
        if (ticks(records, at + REC_TSC_LO, at + REC_TSC_HI) > before) break;
        const op = records[at + REC_OP];
        const to = records[at + REC_TO];
        const good = (op === OP_GRANT || op === OP_MOVE) && records[at + REC_RESULT] === 0;
        if (Atomics.load(records, at + REC_SEQ) !== ((next + 1) | 0)) return false;
        if (good) counts.set(to, (counts.get(to) ?? 0) + 1);
      }
      return true;
    },
    of: (handle) => counts.get(handle) ?? 0,
  };
}

export interface Sampler {
  /** `now`: a TSC. */
  look(now: number): void;
  outcome(): SamplerOutcome;
}

export function makeSampler(
  table: Int32Array,
  stats: Pick<Stats, 'words' | 'records'>,
  watched: readonly Watched[],
  tscKhz: number,
): Sampler {
  const settled = (SETTLED_US * tscKhz) / 1000;
  const decisions = makeDecisions(stats);
  const samples: number[] = [];
  /** Grants until the last one that was looked at; and those among all until then that nobody had decided. */
  const seen = watched.map((w) => Atomics.load(table, w.host + W_VCPU_GRANTS));
  const undecided = [...seen];
  let inherited = 0;

  function lookAt({ page, host, guestHalf, hostHalf, handle }: Watched, index: number, before: number): void {
    const grants = Atomics.load(table, host + W_VCPU_GRANTS);
    if (grants === seen[index]) return;
    const generation = page[hostHalf + W_HOST_VCPU_GRANT_GEN];
    // Not there yet: the next look will find it, or a later grant.
    if (Atomics.load(page, guestHalf + W_GUEST_VCPU_RESUME_GEN) !== generation) return;
    const decided = ticks(table, host + W_VCPU_T_DECIDED_LO, host + W_VCPU_T_DECIDED_HI);
    const granted = ticks(table, host + W_VCPU_T_GRANTED_LO, host + W_VCPU_T_GRANTED_HI);
    const resumed = ticks(page, guestHalf + W_GUEST_VCPU_RESUME_LO, guestHalf + W_GUEST_VCPU_RESUME_HI);
    if (Atomics.load(table, host + W_VCPU_GRANTS) !== grants) return;
    // The guest's stamps are of the grant before, the decision is one for the next grant, or too young to be counted.
    if (resumed < granted || decided > granted || granted > before) return;
    const others = grants - decisions.of(handle);
    if (others === undecided[index]) samples.push(((resumed - decided) * 1000) / tscKhz);
    else inherited++;
    seen[index] = grants;
    undecided[index] = others;
  }

  return {
    look(now): void {
      const before = now - settled;
      if (!decisions.read(before)) {
        // Decisions were missed, so all grants until now count as not decided.
        watched.forEach(({ host, handle }, i) => {
          seen[i] = Atomics.load(table, host + W_VCPU_GRANTS);
          undecided[i] = seen[i] - decisions.of(handle);
        });
        return;
      }
      watched.forEach((w, i) => lookAt(w, i, before));
    },
    outcome: () => ({ samples: Float64Array.from(samples), inherited }),
  };
}

/**
 * How VMs of one rank share: whoever has two cores more than another, beyond what
 * each is guaranteed, gives one; and where nobody has that many, a VM without a core
 * gets one from somebody who has had it for a quantum. So equals take turns, and no
 * core goes back at once to where it came from.
 */
import type { Figures } from '../api.ts';

/** Returns how readily core k goes from `victim` to its equal `vm`; below 0: not. */
export function makeEquals(
  { vmMin, coreAge }: Figures,
  have: Int32Array,
): (k: number, victim: number, vm: number, quantum: number) => number {
  return (k, victim, vm, quantum) => {
    const burst = have[victim] - vmMin[victim];
    if (burst > have[vm] - vmMin[vm] + 1) return burst;
    return have[vm] === 0 && burst > 0 && coreAge[k] >= quantum ? burst : -1;
  };
}

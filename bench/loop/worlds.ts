/**
 * The worlds in which turns are measured. Each has a pattern that stands still, so
 * that any number of turns can be measured in it: what a turn asks for is not
 * carried out, and the next turn finds the same.
 */
import { CLASS_BE } from '../../arbiter/abi/layout.gen.ts';
import { classOf, type Stage } from './stage.ts';

export const SIZES = [1, 16, 128, 1024] as const;
export type Size = (typeof SIZES)[number];

export const KINDS = ['idle', 'busy', 'moving'] as const;
export type Kind = (typeof KINDS)[number];

/** What a reader has to know of each kind. */
export const KIND_TEXT: Record<Kind, string> = {
  idle: 'nothing changed: cores and summary lines are read',
  busy: 'an eighth of the VMs have work, and their figures have changed: delays, policy, guard, heirs; nothing to command',
  moving:
    'an eighth of the VMs got work, another eighth lost it: the same, and cores and heirs change in each turn',
};

/** So many cores are managed at most; as a machine of 1,024 VMs would have at least. */
const CORES = 16;
const VCPUS = 2;
/** How long the work of a VM that gets some has waited already: above the policy's threshold. */
const AGE_US = 20;

/** How many VMs change in each turn. */
export const changing = (kind: Kind, vms: number): number => (kind === 'idle' ? 0 : Math.max(1, vms >> 3));

/** How often a turn of this kind looks at the clock: at its start, and after a decision. */
export const clockCalls = (kind: Kind): number => (kind === 'idle' ? 1 : 2);

/** Sets the stage for both loops. Slots 0 to vms - 1 are used. */
export function setUp(stage: Stage, kind: Kind, vms: number): void {
  const cores = Array.from({ length: Math.min(vms, CORES) }, (_, k) => k);
  stage.set('calls_per_turn', 0);
  stage.set('changing', 0);
  stage.clear(cores);
  if (kind === 'moving') moving(stage, vms, cores);
  else settled(stage, vms, cores);
  for (let slot = 0; slot < vms; slot++) stage.attach(slot);
  stage.set('vms', vms);
  stage.set('cursor', 0);
  stage.set('rotate', kind === 'moving' ? 1 : 0);
  stage.set('age', Math.round(AGE_US * stage.stampsPerUs));
}

/** Every core belongs to a VM that is guaranteed it and uses it: others may want it and do not get it. */
function settled(stage: Stage, vms: number, cores: readonly number[]): void {
  for (let slot = 0; slot < vms; slot++) {
    const owner = slot < cores.length;
    stage.vm(slot, { vcpus: VCPUS, vmClass: classOf(slot), min: owner ? 1 : 0 });
    if (owner) stage.own(cores[slot], slot, 0);
  }
}

/** Best-effort VMs have all cores, two each; whichever latency-critical VM gets work takes one. */
function moving(stage: Stage, vms: number, cores: readonly number[]): void {
  for (let slot = 0; slot < vms; slot++) stage.vm(slot, { vcpus: VCPUS, vmClass: classOf(slot) });
  // A single VM has nobody to take a core from: it is granted the idle one.
  if (vms === 1) return;
  cores.forEach((core, k) => {
    const slot = (k >> 1) * 2;
    if (slot < vms) stage.own(core, slot, k & 1);
  });
}

/** For the way from flag to command: one idle core, and any VM that gets work is granted it. */
export function setUpSignal(stage: Stage, vms: number): void {
  stage.set('calls_per_turn', 0);
  stage.set('changing', 0);
  stage.clear([0]);
  for (let slot = 0; slot < vms; slot++) {
    stage.vm(slot, { vcpus: VCPUS, vmClass: CLASS_BE, max: 1 });
    stage.attach(slot);
  }
  stage.set('vms', vms);
}

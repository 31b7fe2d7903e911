// SPDX-License-Identifier: GPL-2.0
/**
 * What is checked: the features of the model one by one, because all of them together have more states than
 * fit; and for each property at least one deliberate mistake that must be found, so that a check that can find
 * nothing is noticed.
 */
export interface Variant {
  name: string;
  /** What a reader of the table wants to know. */
  about: string;
  features: readonly string[];
  /** An LTL property, checked with weak fairness; without it assertions, the monitor and deadlocks. */
  ltl?: string;
}

const deadline = ['PLAN', 'COMMANDS=2', 'TIMER', 'WORK', 'SEIZE'];
const lend = ['COMMANDS=2', 'WORK', 'BLOCK', 'SEIZE'];
const heir = ['COMMANDS=2', 'HEIR'];
const death = ['PLAN', 'COMMANDS=2', 'DEATH'];
const lease = ['COMMANDS=1', 'LEASE'];
const exports = ['PLAN', 'COMMANDS=3', 'EXPORT'];
const exportsLent = ['PLAN', 'COMMANDS=3', 'COARSE=3', 'EXPORT', 'WORK', 'BLOCK', 'SEIZE'];
const place = ['PLAN', 'COMMANDS=2', 'COARSE=2', 'PLACE'];
const offline = ['PLAN', 'COARSE=3', 'OFFLINE', 'SEIZE'];
const progress = ['PLAN', 'COMMANDS=2', 'COARSE=3', 'TIMER', 'WORK', 'SEIZE', 'PROGRESS'];

export const variants: readonly Variant[] = [
  {
    name: 'move',
    about: 'grant, move, park and yield without end; any vCPU on any core',
    features: ['PREEMPT'],
  },
  { name: 'heir', about: 'a yield to an heir crosses commands', features: heir },
  { name: 'force', about: 'kick, force and take at the deadline', features: deadline },
  { name: 'lend', about: 'threads that sleep in the host', features: lend },
  { name: 'death', about: 'a thread is killed, its VM ends', features: death },
  { name: 'lease', about: 'the lease ends, the next arbiter adopts the VMs', features: lease },
  { name: 'export', about: 'held contexts, a thief, one uThread', features: exports },
  { name: 'export-lent', about: 'the same with threads that sleep in the host', features: exportsLent },
  { name: 'place', about: 'affinities, signals that end a park', features: place },
  { name: 'offline', about: 'a core goes offline and comes back', features: offline },
  {
    name: 'requests-end',
    about: 'every request ends, with weak fairness',
    features: progress,
    ltl: 'every_request_ends',
  },
  {
    name: 'granted-run',
    about: 'who is given a core comes to know, with weak fairness',
    features: progress,
    ltl: 'the_granted_run',
  },
];

/** Each has one mistake, named by its last feature; `about` says what it breaks. */
export const mutants: readonly Variant[] = [
  {
    name: 'wake-before-state',
    about: 'a sleeping successor',
    features: ['PREEMPT', 'BUG_WAKE_BEFORE_STATE'],
  },
  {
    name: 'asleep-after-look',
    about: 'a sleeping successor',
    features: ['PREEMPT', 'BUG_ASLEEP_AFTER_LOOK'],
  },
  { name: 'look-before-clear', about: 'a lost kick', features: ['PREEMPT', 'BUG_LOOK_BEFORE_CLEAR'] },
  { name: 'heir-not-unclaimed', about: 'a lost vCPU', features: [...heir, 'BUG_HEIR_NOT_UNCLAIMED'] },
  {
    name: 'parked-early',
    about: 'a grant meets a vCPU that runs',
    features: [...deadline, 'BUG_PARKED_EARLY'],
  },
  { name: 'taken-asleep', about: 'a lost vCPU', features: [...deadline, 'BUG_TAKEN_ASLEEP'] },
  {
    name: 'force-without-generation',
    about: 'FluxOS parked before its deadline',
    features: [...deadline, 'BUG_FORCE_WITHOUT_GENERATION'],
  },
  {
    name: 'take-without-kick',
    about: 'a guest without a core',
    features: [...lend, 'BUG_TAKE_WITHOUT_KICK'],
  },
  { name: 'dead-successor', about: 'a lost core', features: [...death, 'BUG_DEAD_SUCCESSOR'] },
  {
    name: 'lease-without-wake',
    about: 'asleep after the lease',
    features: [...lease, 'BUG_LEASE_WITHOUT_WAKE'],
  },
  {
    name: 'core-not-freed',
    about: 'a core owned after the lease',
    features: [...lease, 'BUG_CORE_NOT_FREED'],
  },
  { name: 'entry-not-marked', about: 'a stranded uThread', features: [...exports, 'BUG_ENTRY_NOT_MARKED'] },
  {
    name: 'seized-not-marked',
    about: 'a stranded uThread',
    features: [...exportsLent, 'BUG_SEIZED_NOT_MARKED'],
  },
  {
    name: 'forced-not-marked',
    about: 'a uThread in FluxOS that nobody knows of',
    features: [...exportsLent, 'BUG_FORCED_NOT_MARKED'],
  },
  { name: 'taken-resumed', about: 'a uThread in two vCPUs', features: [...exports, 'BUG_TAKEN_RESUMED'] },
  {
    name: 'steal-without-cas',
    about: 'registers read while KVM runs them',
    features: [...exports, 'BUG_STEAL_WITHOUT_CAS'],
  },
  { name: 'place-once', about: 'a thread left on the wrong core', features: [...place, 'BUG_PLACE_ONCE'] },
  {
    name: 'offline-keeps-successor',
    about: 'a lost vCPU',
    features: [...offline, 'BUG_OFFLINE_KEEPS_SUCCESSOR'],
  },
  {
    name: 'no-deadline',
    about: 'a request that never ends',
    features: [...progress, 'NO_DEADLINE'],
    ltl: 'every_request_ends',
  },
  {
    name: 'wake-forgotten',
    about: 'a granted vCPU that sleeps on',
    features: [...progress, 'BUG_WAKE_FORGOTTEN'],
    ltl: 'the_granted_run',
  },
];

/**
 * Why a decision is what it is: one code for each cause, so that every record of
 * the loop can be explained later without keeping text in the loop.
 *
 * The first group is the policy's own, the second the guard's, the third says why
 * an allowed decision was not carried out (yet).
 */
export const WHY_NONE = 0;

export const WHY_GUARANTEE = 1;
export const WHY_STARVED = 2;
export const WHY_DELAY = 3;
export const WHY_BOOT = 4;
export const WHY_SHARE = 5;
export const WHY_IDLE_CORE = 6;
export const WHY_PARTITION = 7;
export const WHY_HINT = 8;
export const WHY_WEIGHT = 9;
export const WHY_SLO = 10;
export const WHY_BUSY = 11;
export const WHY_CONGESTED = 12;
export const WHY_PRIORITY = 13;
export const WHY_PLAN = 14;
export const WHY_CHAOS = 15;

export const WHY_UNKNOWN_VM = 16;
export const WHY_MAX_CORES = 17;
export const WHY_KEEPS_GUARANTEE = 18;
export const WHY_OVER_MAX = 19;
export const WHY_POLICY_FAULT = 20;
export const WHY_RESET = 21;
export const WHY_RATE = 22;
export const WHY_SETTLING = 23;

export const WHY_PENDING = 32;
export const WHY_NO_VCPU = 33;

/** What a person reads for each code. */
export const REASONS: Readonly<Record<number, { code: string; text: string }>> = {
  [WHY_NONE]: { code: 'none', text: 'nothing asked' },
  [WHY_GUARANTEE]: { code: 'guarantee', text: 'the VM has work and fewer cores than it is guaranteed' },
  [WHY_STARVED]: { code: 'starved', text: 'the VM has work and no core' },
  [WHY_DELAY]: { code: 'delay', text: 'the queueing delay is over the threshold' },
  [WHY_BOOT]: { code: 'boot', text: 'the guest has not booted yet and needs a core for it' },
  [WHY_SHARE]: { code: 'share', text: 'VMs of one class take turns' },
  [WHY_IDLE_CORE]: { code: 'idle-core', text: 'the core was idle and the VM can use it' },
  [WHY_PARTITION]: { code: 'partition', text: "the core belongs to the VM's part of the fixed partition" },
  [WHY_HINT]: { code: 'hint', text: 'the need was announced' },
  [WHY_WEIGHT]: { code: 'weight', text: 'the VM has had less than its weight gives it' },
  [WHY_SLO]: { code: 'slo', text: "the queueing delay is over the VM's own target" },
  [WHY_BUSY]: { code: 'busy', text: "the VM's cores were busier than the range allows" },
  [WHY_CONGESTED]: { code: 'congested', text: 'work waits longer than the delay at which a VM is congested' },
  [WHY_PRIORITY]: { code: 'priority', text: "the VM's class goes before the other's" },
  [WHY_PLAN]: { code: 'plan', text: "the policy's slow hook planned more cores for the VM" },
  [WHY_CHAOS]: { code: 'chaos', text: 'chance' },
  [WHY_UNKNOWN_VM]: { code: 'unknown-vm', text: 'guard: the policy named a VM that is not managed' },
  [WHY_MAX_CORES]: { code: 'max-cores', text: 'guard: the VM would have more cores than its maximum' },
  [WHY_KEEPS_GUARANTEE]: {
    code: 'keeps-guarantee',
    text: 'guard: the present owner uses the core and would fall below what it is guaranteed',
  },
  [WHY_OVER_MAX]: {
    code: 'over-max',
    text: 'guard: the VM holds more cores than its maximum and gives one up',
  },
  [WHY_POLICY_FAULT]: { code: 'policy-fault', text: 'guard: the policy threw; nothing moves in this turn' },
  [WHY_RESET]: {
    code: 'reset',
    text: 'guard: the decisions contradicted each other; nothing moves in this turn',
  },
  [WHY_RATE]: { code: 'rate', text: 'guard: so many cores may not be taken in such a short time' },
  [WHY_SETTLING]: {
    code: 'settling',
    text: 'guard: the core has only just come from there and does not go back yet',
  },
  [WHY_PENDING]: { code: 'pending', text: 'the core is changing hands; the decision waits for it' },
  [WHY_NO_VCPU]: { code: 'no-vcpu', text: 'the VM has no parked vCPU that could take the core' },
};

export const reasonCode = (why: number): string => REASONS[why]?.code ?? `reason-${why}`;
export const reasonText = (why: number): string => REASONS[why]?.text ?? `unknown reason ${why}`;

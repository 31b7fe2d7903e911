/** hyperfluxd's configuration: made by `hyperflux start` from its flags, checked here. */
import { z } from 'zod';
import { policyNames } from '../policy/registry.ts';

const core = z.number().int().min(0).max(1023);

export const daemonConfig = z.strictObject({
  run: z.string().min(1),
  arbiter_core: core.optional(),
  cores: z.array(core).min(1).optional(),
  policy: z
    .enum(policyNames() as [string, ...string[]], {
      error: `there are the policies ${policyNames().join(', ')}`,
    })
    .default('delay'),
  params: z.record(z.string(), z.number()).default({}),
  /** The rules of the policy `classes`: a TOML file. */
  rules: z.string().min(1).optional(),
  /** How often cores may be taken from VMs; 0: as often as the policy likes. */
  guard: z
    .strictObject({
      moves_per_s: z.number().int().min(0).max(1_000_000).default(0),
      vm_moves_per_s: z.number().int().min(0).max(1_000_000).default(0),
      back_us: z.number().int().min(0).max(1_000_000).default(0),
    })
    .prefault({}),
  /** How long the arbiter may be silent before it is replaced. */
  lease_ms: z.number().int().min(50).max(60_000).default(1000),
  /** A park that takes longer is forced. */
  deadline_us: z.number().int().min(100).max(10_000_000).default(10_000),
  /** How long a vCPU in FluxOS's own code may take to park before it is kicked. */
  kick_after_us: z.number().int().min(0).max(1_000_000).default(20),
  /** Who moves the cores. auto: kFlux where it can be used. */
  bridge: z.enum(['auto', 'kflux', 'affinity']).default('auto'),
  cpuset: z.enum(['auto', 'off']).default('auto'),
  /** Keep the cores out of deep idle states while the daemon runs. */
  pm_qos: z.boolean().default(false),
  /** What the loop does while nothing is active: spin, or rest for at most idle_max_us at a time. */
  idle: z.enum(['busy', 'adaptive']).default('busy'),
  idle_max_us: z.number().int().min(50).max(100_000).default(500),
  warm_up_rounds: z.number().int().min(0).max(1_000_000).default(30_000),
  start_timeout_ms: z.number().int().min(100).max(600_000).default(15_000),
  log_level: z.enum(['debug', 'info', 'warn', 'error']).default('info'),
});

export type DaemonConfig = z.output<typeof daemonConfig>;

/**
 * The control protocol between hyperfluxd and its clients: what can be asked and how
 * requests are checked. Answers carry the request's id and `ok`; a failure has code,
 * message and hint, and the code decides the command line's exit code.
 */
import { z } from 'zod';
import { ABI_MAJOR, MAX_VCPUS, NAME_BYTES } from '../abi/layout.gen.ts';

export const CONTROL_PROTOCOL = 1;
export const VERSION = '0.1.0';

export type ErrorCode =
  | 'usage'
  | 'request'
  | 'frame'
  | 'version'
  | 'permission'
  | 'not-running'
  | 'running'
  | 'not-found'
  | 'name-in-use'
  | 'pool'
  | 'image'
  | 'start-failed'
  | 'busy'
  | 'failed';

export class ControlError extends Error {
  readonly code: ErrorCode;
  readonly hint: string;

  constructor(code: ErrorCode, message: string, hint = '') {
    super(message);
    this.name = 'ControlError';
    this.code = code;
    this.hint = hint;
  }
}

/** Whatever was thrown, as what a client is told. */
export function toError(error: unknown): { code: string; message: string; hint: string } {
  const { code, message, hint } = error as { code?: unknown; message?: unknown; hint?: unknown };
  if (error instanceof z.ZodError) return { code: 'request', message: describeIssues(error), hint: '' };
  const text = typeof message === 'string' ? message : String(error);
  const permission = code === 'EACCES' || code === 'EPERM';
  return {
    code: permission
      ? 'permission'
      : error instanceof ControlError
        ? error.code
        : typeof code === 'string' && /^[a-z]/.test(code)
          ? code
          : 'failed',
    message: text,
    hint: typeof hint === 'string' ? hint : '',
  };
}

export function describeIssues(error: z.ZodError): string {
  return error.issues
    .map((issue) => {
      const where = issue.path.join('.');
      return where === '' ? issue.message : `${where}: ${issue.message}`;
    })
    .join('; ');
}

export const WORKLOADS = ['serve', 'batch', 'probe'] as const;

/** A name becomes a file name and stands in log lines, so it is held to harmless characters. */
export const vmName = z
  .string()
  .max(NAME_BYTES - 1)
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/, {
    error: `1 to ${NAME_BYTES - 1} letters, digits, '-', '_' or '.', the first a letter or digit`,
  });

const cores = z.number().int().min(0).max(MAX_VCPUS);
const argument = z
  .string()
  .regex(/^[A-Za-z_][A-Za-z0-9_.-]*=\S*$/, { error: 'arguments have the form key=value, without spaces' });

/**
 * Time slice of a VM's uThreads unless another one is asked for. Chosen, not measured: ten times Caladan's default
 * and a tenth of Go's, so that a kick and an entry of some 40 us are a few percent of a core that is contended.
 */
export const DEFAULT_QUANTUM_US = 1000;

export const runRequest = z.strictObject({
  name: vmName,
  workload: z.enum(WORKLOADS, { error: `unknown workload; there are ${WORKLOADS.join(', ')}` }),
  args: z.array(argument).max(64).default([]),
  class: z.enum(['lc', 'be']).default('be'),
  vcpus: z.number().int().min(1).max(MAX_VCPUS).default(1),
  min_cores: cores.default(0),
  max_cores: cores.min(1).optional(),
  mem_mib: z
    .number()
    .int()
    .min(16)
    .max(1 << 20)
    .default(64),
  image: z.string().min(1).max(4095).optional(),
  unmanaged: z.boolean().default(false),
  cpus: z
    .string()
    .regex(/^\d+(-\d+)?(,\d+(-\d+)?)*$/, { error: 'cores have the form 0-1,3' })
    .optional(),
  backend: z.enum(['auto', 'kvm', 'hosted']).default('auto'),
  quantum_us: z.number().int().min(0).max(1e6).default(DEFAULT_QUANTUM_US),
  idle_spin_ns: z.number().int().min(0).max(1e9).optional(),
  stats: z.boolean().default(false),
  /** For policies: its share against other VMs', and the queueing delay that it wants to stay under (0: it has none). */
  weight: z.number().int().min(1).max(10_000).default(100),
  slo_us: z.number().int().min(0).max(10_000_000).default(0),
});
export type RunRequest = z.output<typeof runRequest>;

const nothing = z.strictObject({});
const byName = z.strictObject({ name: vmName });
const word = z.number().int().min(0).max(0x7fffffff);

/** The fields of each request, beside id and op. */
export const requests = {
  status: nothing,
  ps: nothing,
  run: runRequest,
  stop: byName,
  'stop-all': nothing,
  shutdown: z.strictObject({ vms: z.boolean().default(true) }),
  load: z.strictObject({ name: vmName, pid: word.min(1), fd: word }),
  unload: byName,
  hint: z.strictObject({
    name: vmName,
    cores: cores,
    us: z.number().int().min(1).max(60_000_000).default(1_000_000),
  }),
  decisions: z.strictObject({ count: z.number().int().min(1).max(4000).default(100) }),
  stats: nothing,
} as const;
export type ControlOp = keyof typeof requests;
export const isOp = (op: unknown): op is ControlOp => typeof op === 'string' && Object.hasOwn(requests, op);

export const helloRequest = z.object({ protocol: z.number().int(), abi_major: z.number().int() });

/** Refuses a client of another version, naming both. */
export function checkHello(hello: z.output<typeof helloRequest>): void {
  if (hello.protocol === CONTROL_PROTOCOL && hello.abi_major === ABI_MAJOR) return;
  throw new ControlError(
    'version',
    `the client speaks control protocol ${hello.protocol} and ABI ${hello.abi_major}, the daemon ${CONTROL_PROTOCOL} and ${ABI_MAJOR}`,
    'Use the hyperflux command of the same version as the daemon, or restart the daemon: hyperflux stop --all --daemon && hyperflux start',
  );
}

export interface VmInfo {
  name: string;
  class: 'lc' | 'be';
  /** starting, running, dormant, unmanaged, poisoned, dead */
  state: string;
  managed: boolean;
  backend: string;
  pid: number;
  slot: number;
  vcpus: number;
  cores: number;
  min_cores: number;
  max_cores: number;
  /** Time slice of its uThreads while others wait; 0: none. */
  quantum_us: number;
  wants: number;
  delay_us: number;
  /** Core-microseconds. */
  granted_us: number;
  used_us: number;
  taken_us: number;
  forced: number;
  forced_descheduled: number;
  /** uThreads that were made to give way in application code, their time slice being over. */
  preempted: number;
  /** vCPUs that sleep in the host while they should run. Absent: only kFlux sees that. */
  blocked?: number;
  error: string;
}

export interface PoolInfo {
  arbiter_core: number;
  cores: number[];
  cpuset: string;
}

export interface StatusInfo {
  version: string;
  abi: string;
  pid: number;
  uptime_s: number;
  run_dir: string;
  /** kflux or affinity, and why. */
  bridge: string;
  bridge_why: string;
  policy: { name: string; params: Record<string, number> };
  pool: PoolInfo;
  arbiter: {
    pid: number;
    state: string;
    epoch: number;
    restarts: number;
    last_fault: string;
    warm_up_us: number;
    deadline_thread: string;
    /** Percent of the time since the loop went live. Absent: it is not live. */
    time?: { deciding: number; resting: number; spinning: number };
  };
  vms: { managed: number; all: number };
}

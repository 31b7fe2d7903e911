/**
 * A scenario: a host, its VMs and their load, as a person writes it down in TOML or
 * JSON. Errors name the file and the key.
 */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, isAbsolute, join } from 'node:path';
import { z } from 'zod';
import { ControlError } from '../control/protocol.ts';

const positive = z.number().positive();
const count = (from: number, to: number) => z.int().min(from).max(to);

export const MAX_CORES = 1024;
export const MAX_VMS = 10_000;
/** Microseconds that an idle vCPU looks for work, as Fluxion sets it. */
const IDLE_SPIN_US = 20;

const arrivals = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('poisson'), per_second: positive }),
  z.strictObject({ kind: z.literal('bursty'), per_second: positive, on_ms: positive, off_ms: positive }),
  z.strictObject({
    kind: z.literal('phases'),
    phases: z
      .array(z.strictObject({ ms: positive, per_second: z.number().min(0), fanout: count(1, 64).default(1) }))
      .min(1)
      .refine((phases) => phases.some(({ per_second }) => per_second > 0), 'no phase has arrivals'),
  }),
  z.strictObject({
    kind: z.literal('azure-2019'),
    invocations: z.string().min(1),
    durations: z.string().min(1).optional(),
    from_s: z.number().min(0).default(0),
    speed: positive.default(1),
  }),
  z.strictObject({
    kind: z.literal('azure-2021'),
    file: z.string().min(1),
    from_s: z.number().min(0).default(0),
    speed: positive.default(1),
  }),
]);

const service = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('constant'), us: positive }),
  z.strictObject({ kind: z.literal('exponential'), mean_us: positive }),
  z.strictObject({
    kind: z.literal('bimodal'),
    short_us: positive,
    long_us: positive,
    long_share: z.number().min(0).max(1),
  }),
]);

const group = z
  .strictObject({
    name: z.string().regex(/^[\w.-]{1,32}$/, 'must be 1 to 32 letters, digits, dots, dashes or underscores'),
    count: count(1, MAX_VMS).default(1),
    class: z.enum(['lc', 'be']),
    vcpus: count(1, 16).default(2),
    min_cores: count(0, 16).default(0),
    max_cores: count(1, 16).optional(),
    idle_spin_us: z.number().min(0).max(1e6).default(IDLE_SPIN_US),
    arrivals: arrivals.optional(),
    service: service.optional(),
    /** Each request is split into so many parallel uThreads. */
    fanout: count(1, 64).default(1),
    /** uThreads that compute for ever. */
    threads: count(0, 1024).default(0),
  })
  .superRefine((vms, context) => {
    const issue = (key: string, message: string): void =>
      context.addIssue({ code: 'custom', path: [key], message });
    const max = vms.max_cores ?? vms.vcpus;
    if (max > vms.vcpus) issue('max_cores', `must not be more than vcpus, which is ${vms.vcpus}`);
    if (vms.min_cores > max) issue('min_cores', `must not be more than max_cores, which is ${max}`);
    if (vms.arrivals === undefined && vms.threads === 0)
      issue('arrivals', 'missing: give arrivals, or threads for VMs that compute for ever');
    const kind = vms.arrivals?.kind;
    const known =
      kind === 'azure-2021' || (vms.arrivals?.kind === 'azure-2019' && vms.arrivals.durations !== undefined);
    if (kind !== undefined && !known && vms.service === undefined)
      issue('service', 'missing: how long does a request take?');
    if (kind === undefined && vms.service !== undefined) issue('service', 'means nothing without arrivals');
    if (kind === 'azure-2021' && vms.service !== undefined)
      issue('service', 'the trace has the durations: leave it out');
    if (kind === 'phases' && vms.fanout !== 1) issue('fanout', 'each phase has its own: leave it out here');
  });

const schema = z.strictObject({
  name: z.string().min(1).max(80).default('scenario'),
  seed: z.int().default(1),
  /** Of virtual time. */
  seconds: positive.max(86_400),
  cores: count(1, MAX_CORES),
  /** A report of bench realloc; what comes with HyperFlux if there is none. */
  machine: z.string().min(1).optional(),
  /** Who publishes requests when they are due: a core of its own, or the loop at the end of each turn. */
  release: z.enum(['own-core', 'loop']).default('own-core'),
  /** Every turn of the loop takes this long, instead of what it costs. */
  turn_us: positive.max(1e6).optional(),
  vms: z.array(group).min(1).max(100),
});

export type VmGroup = z.infer<typeof group>;
/** `folder`: where file names in it are relative to. */
export type Scenario = z.infer<typeof schema> & { folder: string };

const pathName = (path: readonly PropertyKey[]): string =>
  path.reduce<string>(
    (text, key) =>
      typeof key === 'number' ? `${text}[${key}]` : text === '' ? String(key) : `${text}.${String(key)}`,
    '',
  );

/** What zod found, one line for each key. */
function describe(issues: readonly z.core.$ZodIssue[]): string[] {
  return issues.map((issue) => {
    const at = issue.code === 'unrecognized_keys' ? [...issue.path, issue.keys[0]] : issue.path;
    const text =
      issue.code === 'unrecognized_keys'
        ? 'there is no such key'
        : issue.message.replace(/^Invalid input: /, '');
    return `${pathName(at) || 'the whole'}: ${text}`;
  });
}

export function parseScenario(value: unknown, origin: string, folder: string): Scenario {
  const parsed = schema.safeParse(value);
  const refuse = (lines: readonly string[]): never => {
    throw new ControlError(
      'usage',
      `${origin} is not a scenario:\n${lines.map((line) => `  ${line}`).join('\n')}`,
      'docs/simulator.md has every key, with examples.',
    );
  };
  if (!parsed.success) return refuse(describe(parsed.error.issues));
  const { vms, cores } = parsed.data;
  const wrong: string[] = [];
  const all = vms.reduce((sum, { count }) => sum + count, 0);
  if (all > MAX_VMS) wrong.push(`vms: ${all} VMs; the simulator takes ${MAX_VMS}`);
  vms.forEach(({ name }, i) => {
    if (vms.findIndex((other) => other.name === name) !== i)
      wrong.push(`vms[${i}].name: ${name} is there twice`);
  });
  const guaranteed = vms.reduce((sum, { count, min_cores }) => sum + count * min_cores, 0);
  if (guaranteed > cores)
    wrong.push(`vms: ${guaranteed} cores are guaranteed (min_cores), and there are ${cores}`);
  if (wrong.length > 0) refuse(wrong);
  return { ...parsed.data, folder };
}

/** Reads TOML, or JSON if the name ends so. */
export async function readScenario(path: string): Promise<Scenario> {
  if (!existsSync(path))
    throw new ControlError(
      'usage',
      `there is no file ${path}`,
      'docs/simulator.md has scenarios to begin with.',
    );
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    throw new ControlError('usage', `${path} cannot be read: ${(cause as Error).message}`);
  }
  let value: unknown;
  try {
    value = path.endsWith('.json') ? JSON.parse(text) : (await import('smol-toml')).parse(text);
  } catch (cause) {
    const what = path.endsWith('.json') ? 'JSON' : 'TOML';
    throw new ControlError('usage', `${path} is not ${what}: ${(cause as Error).message.trim()}`);
  }
  return parseScenario(value, path, dirname(path));
}

/** A file that a scenario names. */
export const inFolder = (scenario: Scenario, file: string): string =>
  isAbsolute(file) ? file : join(scenario.folder, file);

/**
 * `definePolicy`: the one form in which policies are written, those that come with
 * HyperFlux and everybody else's. What is wrong with a definition is said when the
 * file is loaded, and not in the loop.
 */
import { z } from 'zod';
import type { Figures, Policy, PolicyState, Wishes } from './api.ts';
import { POLICY_API } from './api.ts';
import type { Target, World } from './plan.ts';

/** The hot hook, with what belongs to it. `P`: the parameters, as the schema gives them. */
export interface Hot<P extends Record<string, number>> {
  /** Once for each turn that decides. It must not allocate, wait or throw. */
  decide(): void;
  /** Called before the first turn and whenever parameters change. Times are in stamps: multiply by `stampsPerUs`. */
  configure(params: P, stampsPerUs: number): void;
  /** See Decider.state. */
  readonly state?: readonly Int32Array[];
  save?(): PolicyState;
  restore?(state: PolicyState, version: number): void;
}

export interface Definition<P extends Record<string, number>> {
  /** The POLICY_API that the file was written for. */
  api: number;
  /** Lower-case letters, digits and hyphens. */
  name: string;
  /** Three numbers: 1.0.0. */
  version: string;
  /** One line: what it is for. */
  summary: string;
  /** Numbers with defaults; z.strictObject, so that a misspelt name is refused. */
  params?: z.ZodType<P>;
  /** Of the state that `save` gives: a new number where an old state means something else. */
  stateVersion?: number;
  /**
   * Called once, outside the loop: takes the arrays apart, makes its own, and returns the hot hook. That may be the
   * function alone if there are no parameters.
   */
  bind(view: Figures, out: Wishes): Hot<P> | (() => void);
  /** The slow hook, which plans with plain objects, outside the loop. Its targets are read as view.vmPlan. */
  plan?(world: World, params: P): readonly Target[];
}

export class PolicyError extends Error {
  readonly hint: string;

  constructor(message: string, hint: string) {
    super(message);
    this.name = 'PolicyError';
    this.hint = hint;
  }
}

const NAME = /^[a-z][a-z0-9-]{0,62}$/;
const VERSION = /^\d+\.\d+\.\d+$/;
const nothing = z.strictObject({});

export function definePolicy<P extends Record<string, number> = Record<string, never>>(
  definition: Definition<P>,
): Policy {
  check(definition);
  const { name, version, summary, stateVersion = 1 } = definition;
  const params = (definition.params ?? nothing) as z.ZodType<Record<string, number>>;
  return {
    ...{ name, version, summary, stateVersion, params },
    bind(view) {
      const hot = definition.bind(view, view) as unknown;
      if (typeof hot === 'function') return { decide: hot as () => void, configure() {} };
      const { decide, configure } = (hot ?? {}) as Partial<Hot<P>>;
      if (typeof decide === 'function' && typeof configure === 'function') return hot as Hot<P>;
      throw new PolicyError(
        `the policy ${name}: bind returned no hot hook`,
        'It returns a function, or an object with decide() and configure().',
      );
    },
    // A method of the definition, which may use `this`.
    ...(definition.plan === undefined ? {} : { plan: (world, given) => definition.plan!(world, given as P) }),
  };
}

function check<P extends Record<string, number>>(definition: Definition<P>): void {
  const { api, name, version, summary, stateVersion = 1 } = definition;
  const refuse = (what: string, hint: string): never => {
    const who = typeof name === 'string' && NAME.test(name) ? `the policy ${name}` : 'a policy';
    throw new PolicyError(`${who}: ${what}`, hint);
  };
  if (api !== POLICY_API)
    refuse(
      `it was written for policy API ${String(api)}, and this is ${POLICY_API}`,
      `See docs/policies.md for what changed, then write api: ${POLICY_API}.`,
    );
  if (typeof name !== 'string' || !NAME.test(name))
    refuse(
      `${JSON.stringify(name)} is no name`,
      'Lower-case letters, digits and hyphens, the first a letter.',
    );
  if (typeof version !== 'string' || !VERSION.test(version))
    refuse(`${JSON.stringify(version)} is no version`, 'Three numbers, for example 1.0.0.');
  if (typeof summary !== 'string' || summary === '' || summary.includes('\n'))
    refuse('it has no summary', 'One line that says what it is for.');
  if (!Number.isInteger(stateVersion) || stateVersion < 0)
    refuse(`${String(stateVersion)} is no version of a state`, 'A whole number that grows.');
  if (typeof definition.bind !== 'function')
    refuse('it has no bind', 'bind(view, out) returns what is done in each turn.');
  if (definition.params !== undefined) checkDefaults(definition.params, refuse);
}

/** Whoever starts it without a word about parameters must get something. */
function checkDefaults(params: z.ZodType, refuse: (what: string, hint: string) => never): void {
  const parsed = params.safeParse({});
  if (!parsed.success)
    refuse(
      `its parameters have no defaults: ${parsed.error.issues.map((i) => `${i.path.join('.')}: ${i.message}`).join('; ')}`,
      'Give each of them a .default().',
    );
  for (const [key, value] of Object.entries(parsed.data as object)) {
    if (typeof value !== 'number' || !Number.isFinite(value))
      refuse(`its parameter ${key} is no number by default`, 'Parameters are numbers: use z.number().');
  }
}

export interface ParamInfo {
  name: string;
  default: number;
  min?: number;
  max?: number;
  /** What .describe() says of it. */
  text: string;
}

/** The parameters as a person is shown them. */
export function paramsOf({ params }: Pick<Policy, 'params'>): ParamInfo[] {
  const schema = z.toJSONSchema(params, { io: 'input', unrepresentable: 'any' });
  const defaults = params.parse({});
  return Object.entries(schema.properties ?? {}).map(([name, property]) => {
    const { description = '', minimum, maximum } = property as z.core.JSONSchema.JSONSchema;
    return {
      ...{ name, default: defaults[name], text: description },
      ...(minimum === undefined ? {} : { min: minimum }),
      ...(maximum === undefined ? {} : { max: maximum }),
    };
  });
}

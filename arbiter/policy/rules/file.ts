/**
 * The rules of `classes`, read from TOML and turned into the policy's numbers.
 *
 *   [[class]]
 *   name = "web"
 *   vms = ["web-*", "api"]     names of VMs, * for anything; all, if it is left out
 *   only = "lc"                of those the latency-critical ones, or "be"
 *   priority = 5               0 to 5; a core never goes up
 *   delay_us = 10              work that has waited this long claims a further core
 *   max_cores = 4              of each of its VMs
 *   cores = 16                 of all of them together
 *
 * A VM belongs to the first class that it fits; those that fit none are the rest,
 * with a class's defaults. smol-toml reads it: maintained, without dependencies, all
 * of TOML 1.0, and its errors say where.
 */
import { parse, TomlError } from 'smol-toml';
import { MAX_GROUPS } from '../api.ts';
import { paramOf, RULE_FIELDS, ruleFields, type RuleField } from '../builtin/classes.ts';

export class RulesError extends Error {
  readonly hint: string;

  constructor(path: string, line: number, message: string, hint = '') {
    super(`${path}:${line}: ${message}`);
    this.name = 'RulesError';
    this.hint = hint;
  }
}

export interface Rule {
  name: string;
  /** None: every name fits. */
  vms: RegExp[];
  only?: 'lc' | 'be';
}

export interface RuleSet {
  rules: Rule[];
  /** For the policy: what each class, numbered from 1, is given. */
  params: Record<string, number>;
}

const KEYS = ['name', 'vms', 'only', ...ruleFields];
const HINT = 'docs/policies.md describes the file.';

/** Reads the rules. `path` stands in errors only. */
export function readRules(text: string, path: string): RuleSet {
  const where = lines(text);
  const fail = (line: number, message: string): never => {
    throw new RulesError(path, line, message, HINT);
  };
  let file: Record<string, unknown>;
  try {
    file = parse(text);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const [what] = error.message.replace(/^Invalid TOML document: /, '').split('\n');
    return fail(error.line, `column ${error.column}: ${what}`);
  }
  for (const key of Object.keys(file))
    if (key !== 'class') fail(where.top(key), `there is no ${key} here; rules are [[class]] tables`);
  const tables = (file.class ?? []) as unknown;
  if (!Array.isArray(tables))
    return fail(where.top('class'), 'a rule begins with [[class]], in double brackets');
  if (tables.length >= MAX_GROUPS)
    fail(
      where.table(MAX_GROUPS - 1),
      `there are ${tables.length} classes, and ${MAX_GROUPS - 1} are possible`,
    );
  const set: RuleSet = { rules: [], params: {} };
  tables.forEach((table: Record<string, unknown>, i) => {
    const complain = (key: string, message: string): never => fail(where.key(i, key), message);
    set.rules.push(readRule(table, complain));
    for (const field of ruleFields) {
      const value = table[field];
      if (value !== undefined) set.params[paramOf(i + 1, field)] = number(field, value, complain);
    }
    const { name } = set.rules[i];
    if (set.rules.findIndex((rule) => rule.name === name) < i)
      complain('name', `there is a class ${name} above`);
  });
  return set;
}

type Complain = (key: string, message: string) => never;

function readRule(table: Record<string, unknown>, complain: Complain): Rule {
  for (const key of Object.keys(table)) {
    if (!KEYS.includes(key)) complain(key, `a class has no ${key}; it has ${KEYS.join(', ')}`);
  }
  const { name, vms = [], only } = table;
  if (typeof name !== 'string' || name === '') return complain('name', 'a class needs a name = "..."');
  if (only !== undefined && only !== 'lc' && only !== 'be')
    return complain('only', `only = ${JSON.stringify(only)}: it is "lc" or "be"`);
  if (!Array.isArray(vms)) return complain('vms', 'vms is a list of names: vms = ["web-*"]');
  return {
    name,
    vms: vms.map((pattern) => glob(pattern, complain)),
    ...(only === undefined ? {} : { only }),
  };
}

function number(field: RuleField, value: unknown, complain: Complain): number {
  const { from, to } = RULE_FIELDS[field];
  if (typeof value === 'number' && Number.isInteger(value) && value >= from && value <= to) return value;
  return complain(field, `${field} = ${JSON.stringify(value)}: a whole number from ${from} to ${to}`);
}

function glob(pattern: unknown, complain: Complain): RegExp {
  if (typeof pattern !== 'string' || !/^[A-Za-z0-9._*-]+$/.test(pattern))
    return complain('vms', `${JSON.stringify(pattern)} is no name of a VM; * stands for anything`);
  return new RegExp(`^${pattern.replaceAll('.', '\\.').replaceAll('*', '.*')}$`);
}

/** The number of the class that a VM belongs to; 0: to none. */
export function groupOf({ rules }: Pick<RuleSet, 'rules'>, vm: { name: string; class: 'lc' | 'be' }): number {
  return (
    rules.findIndex(
      ({ vms, only }) =>
        (only === undefined || only === vm.class) &&
        (vms.length === 0 || vms.some((pattern) => pattern.test(vm.name))),
    ) + 1
  );
}

/** Where things stand in the text: the reader gives values without places. */
function lines(text: string): {
  top(key: string): number;
  table(i: number): number;
  key(i: number, key: string): number;
} {
  const all = text.split('\n').map((line) => line.trim());
  const tables = all.flatMap((line, i) => (/^\[\[\s*class\s*\]\]/.test(line) ? [i] : []));
  const find = (key: string, from: number, to: number): number =>
    all.findIndex((line, i) => {
      if (i < from || i >= to) return false;
      const rest = line.replace(/^[["'\s]+/, '');
      return rest.startsWith(key) && /^["'\s]*[\].=]/.test(rest.slice(key.length));
    });
  return {
    top: (key) => Math.max(0, find(key, 0, all.length)) + 1,
    table: (i) => (tables[i] ?? 0) + 1,
    key(i, key) {
      const from = tables[i] ?? 0;
      const at = find(key, from, tables[i + 1] ?? all.length);
      return (at < 0 ? from : at) + 1;
    },
  };
}

import { describe, expect, test } from 'vitest';
import { classes } from '../../arbiter/policy/builtin/classes.ts';
import { groupOf, readRules } from '../../arbiter/policy/rules/file.ts';

const text = `# who is served first
[[class]]
name = "web"
vms = ["web-*", "api"]
only = "lc"
priority = 5
delay_us = 10

[[class]]
name = "batch"
vms = ["batch.*"]
max_cores = 2
cores = 4
`;

describe('rules', () => {
  test('become the parameters of the policy', () => {
    const { params } = readRules(text, 'rules.toml');
    expect(params).toEqual({
      class1_priority: 5,
      class1_delay_us: 10,
      class2_max_cores: 2,
      class2_cores: 4,
    });
    expect(classes.params.safeParse(params).success).toBe(true);
  });

  test('a VM belongs to the first class that it fits, or to none', () => {
    const set = readRules(text, 'rules.toml');
    expect(groupOf(set, { name: 'web-1', class: 'lc' })).toBe(1);
    expect(groupOf(set, { name: 'api', class: 'lc' })).toBe(1);
    expect(groupOf(set, { name: 'web-1', class: 'be' })).toBe(0);
    expect(groupOf(set, { name: 'batch.7', class: 'be' })).toBe(2);
    // A dot is a dot.
    expect(groupOf(set, { name: 'batch-7', class: 'be' })).toBe(0);
    expect(groupOf(readRules('[[class]]\nname = "all"', 'x'), { name: 'any', class: 'be' })).toBe(1);
  });

  test('none are none', () => {
    expect(readRules('', 'rules.toml')).toEqual({ rules: [], params: {} });
  });

  test.each([
    ['[[class]]\nname = "a"\npriority = ', /^rules\.toml:3: column \d+/],
    [
      '[[class]]\nname = "a"\n\nprio = 5',
      /^rules\.toml:4: a class has no prio; it has name, vms, only, priority/,
    ],
    ['[[class]]\nname = "a"\npriority = 9', /^rules\.toml:3: priority = 9: a whole number from 0 to 5/],
    ['[[class]]\nname = "a"\n[[class]]\nname = "b"\ncores = 1.5', /^rules\.toml:5: cores = 1\.5/],
    ['[[class]]\npriority = 1', /^rules\.toml:1: a class needs a name/],
    ['[[class]]\nname = "a"\nonly = "vip"', /^rules\.toml:3: only = "vip": it is "lc" or "be"/],
    ['[[class]]\nname = "a"\nvms = "web"', /^rules\.toml:3: vms is a list/],
    ['[[class]]\nname = "a"\nvms = ["we b"]', /^rules\.toml:3: "we b" is no name/],
    ['[[class]]\nname = "a"\n[[class]]\nname = "a"', /^rules\.toml:4: there is a class a above/],
    ['# nothing\nclasses = 1', /^rules\.toml:2: there is no classes here/],
    ['[class]\nname = "a"', /^rules\.toml:1: a rule begins with \[\[class\]\]/],
    [
      Array.from({ length: 32 }, (_, i) => `[[class]]\nname = "c${i}"`).join('\n'),
      /^rules\.toml:63: there are 32/,
    ],
  ])('%j is refused, with the line', (bad, message) => {
    expect(() => readRules(bad, 'rules.toml')).toThrow(message);
  });
});

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { choosePolicy } from './choose.ts';
import { parseScenario, readScenario } from './scenario.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'hyperflux-scenario-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

const web = {
  ...{ name: 'web', class: 'lc' },
  arrivals: { kind: 'poisson', per_second: 10 },
  service: { kind: 'constant', us: 5 },
};
const good = { seconds: 1, cores: 4, vms: [web] };
const parse = (value: unknown): unknown => parseScenario(value, 'host.toml', '.');
const withWeb = (part: object): object => ({ ...good, vms: [{ ...web, ...part }] });

describe('a scenario that is wrong is refused, and the key is named', () => {
  test.each([
    ['cores: expected number, received string', { ...good, cores: 'four' }],
    ['cores: Too big', { ...good, cores: 4096 }],
    ['seconds: ', { cores: 1, vms: [web] }],
    ['core: there is no such key', { ...good, core: 3 }],
    ['vms: ', { ...good, vms: [] }],
    ['vms[0].class: ', withWeb({ class: 'hard' })],
    ['vms[0].vcpus: Too big', withWeb({ vcpus: 17 })],
    ['vms[0].max_cores: must not be more than vcpus', withWeb({ vcpus: 2, max_cores: 3 })],
    ['vms[0].min_cores: must not be more than max_cores', withWeb({ vcpus: 2, min_cores: 3 })],
    ['vms[0].arrivals.per_second: ', withWeb({ arrivals: { kind: 'poisson', per_second: -1 } })],
    ['vms[0].arrivals.kind: ', withWeb({ arrivals: { kind: 'poison', per_second: 1 } })],
    [
      'vms[0].arrivals.rate: there is no such key',
      withWeb({ arrivals: { kind: 'poisson', per_second: 1, rate: 2 } }),
    ],
    ['vms[0].service: missing', withWeb({ service: undefined })],
    ['vms[0].arrivals: missing', withWeb({ arrivals: undefined, service: undefined })],
    ['vms[1].name: web is there twice', { ...good, vms: [web, web] }],
    [
      'vms: 12000 VMs',
      {
        ...good,
        cores: 100,
        vms: [
          { ...web, count: 6000 },
          { ...web, name: 'b', count: 6000 },
        ],
      },
    ],
    ['vms: 8 cores are guaranteed', withWeb({ count: 4, min_cores: 2 })],
  ])('%s', (message, value) => {
    expect(() => parse(value)).toThrow(message);
  });

  test('several at once', () => {
    expect(() => parse({ ...good, cores: 0, seed: 1.5 })).toThrow(/seed.*\n.*cores|cores.*\n.*seed/);
  });
});

test('TOML and JSON say the same', async () => {
  const toml = join(folder, 'host.toml');
  writeFileSync(
    toml,
    'seconds = 1\ncores = 4\n[[vms]]\nname = "web"\nclass = "lc"\narrivals = { kind = "poisson", per_second = 10 }\nservice = { kind = "constant", us = 5 }\n',
  );
  const json = join(folder, 'host.json');
  writeFileSync(json, JSON.stringify(good));
  expect(await readScenario(toml)).toEqual(await readScenario(json));
});

test('a file that is not there, or is no TOML, says so', async () => {
  await expect(readScenario(join(folder, 'none.toml'))).rejects.toThrow('there is no file');
  const broken = join(folder, 'broken.toml');
  writeFileSync(broken, 'cores = = 3\n');
  await expect(readScenario(broken)).rejects.toThrow(/is not TOML.*1:9|is not TOML/s);
});

test('policies by name, with parameters', () => {
  expect(choosePolicy('delay:threshold_us=50').params).toMatchObject({ threshold_us: 50, tenure_us: 25 });
  expect(() => choosePolicy('dely')).toThrow('there is no policy dely');
  expect(() => choosePolicy('delay:threshold=5')).toThrow(/threshold/);
  expect(() => choosePolicy('delay:threshold_us=soon')).toThrow('threshold_us=soon');
});

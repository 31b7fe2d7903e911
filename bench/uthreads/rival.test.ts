import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { getAffinity } from '../../native/index.ts';
import { buildRivals, cacheFolder, findProgram } from './build.ts';
import { Refusal } from './contestant.ts';
import { parseAnswer, Rival } from './rival.ts';

describe('an answer', () => {
  it('is as many numbers as were asked for', () => {
    expect(parseAnswer('ok 1 22 333', 3)).toEqual([1, 22, 333]);
    expect(parseAnswer('ok 0\r', 1)).toEqual([0]);
  });

  it('or a reason, or else it is none', () => {
    expect(() => parseAnswer('no row of that name', 1)).toThrow(new Refusal('row of that name'));
    expect(() => parseAnswer('no', 1)).toThrow('did not say why');
    for (const bad of ['', 'ok', 'ok 1', 'ok 1 2 3', 'ok 1 -2', 'ok 1 2.5', 'ok 1 0x2', 'ready 1 2'])
      expect(() => parseAnswer(bad, 2), bad).toThrow(Refusal);
  });
});

describe('a rival', () => {
  const started: Rival[] = [];
  const start = async (script: string): Promise<Rival> => {
    const rival = await Rival.start('sh', ['/bin/sh', '-c', script], getAffinity(0).slice(-1));
    started.push(rival);
    return rival;
  };
  afterEach(async () => {
    for (const rival of started.splice(0)) await rival.close();
  });

  it('answers line by line, on its cores, and lives until it is closed', async () => {
    const before = getAffinity(0);
    const rival = await start(
      'echo "ready sh 1"; while read key samples ops; do echo "ok $ops $(nproc)"; done',
    );
    expect(rival.version).toBe('sh 1');
    expect(getAffinity(0)).toEqual(before);
    expect(await rival.run('x', 2, 77)).toEqual([77, 1]);
    expect(await rival.run('x', 2, 78)).toEqual([78, 1]);
    await rival.close();
    await expect(rival.run('x', 1, 1)).rejects.toThrow(Refusal);
  });

  it('that ends is a refusal with its own words, in all rows that follow', async () => {
    const rival = await start('echo ready sh; read line; echo "the disk is gone" >&2; exit 3');
    await expect(rival.run('x', 1, 1)).rejects.toThrow('its process has ended: the disk is gone');
    await expect(rival.run('x', 1, 1)).rejects.toThrow('its process has ended: the disk is gone');
  });

  it('must begin as one', async () => {
    await expect(start('echo hello; exec sleep 100')).rejects.toThrow('it began with "hello"');
    await expect(start('exit 1')).rejects.toThrow('its process has ended');
    await expect(Rival.start('none', ['/does/not/exist'], getAffinity(0))).rejects.toThrow(Refusal);
  });
});

describe('tools', () => {
  it('are found in PATH, or where their installer puts them', () => {
    expect(findProgram(['sh'], [], '/nowhere:/bin')).toBe('/bin/sh');
    expect(findProgram(['nothing', 'sh'], ['/bin'], '')).toBe('/bin/sh');
    expect(findProgram(['nothing'], ['/bin'], '/bin')).toBeNull();
    expect(findProgram(['sh'], [], 'relative:')).toBeNull();
  });

  it('that are missing are a reason', async () => {
    const cache = mkdtempSync(join(tmpdir(), 'hyperflux-rivals-'));
    try {
      const built = await buildRivals({ cache, path: '/nowhere' });
      expect(built.map(({ name }) => name)).toEqual(['pthreads', 'Go', 'tokio']);
      for (const { program } of built)
        expect(program).toMatchObject({ missing: expect.stringMatching(/^there is no/) as unknown });
    } finally {
      rmSync(cache, { recursive: true, force: true });
    }
  });

  it('are not used for what may not be built', async () => {
    const cache = mkdtempSync(join(tmpdir(), 'hyperflux-rivals-'));
    try {
      const built = await buildRivals({ cache, build: [] });
      for (const { program } of built) expect(program).toHaveProperty('missing');
    } finally {
      rmSync(cache, { recursive: true, force: true });
    }
  });

  it('keep what they make where the user has a cache', () => {
    expect(cacheFolder({ XDG_CACHE_HOME: '/c' })).toBe('/c/hyperflux/bench-uthreads');
    expect(cacheFolder({ XDG_CACHE_HOME: 'c' })).toMatch(/\.cache\/hyperflux\/bench-uthreads$/);
  });
});

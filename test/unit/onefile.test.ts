import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { oneFile } from '../../arbiter/process/onefile.ts';

describe('oneFile', () => {
  let folder: string;
  beforeEach(() => (folder = mkdtempSync(join(tmpdir(), 'onefile-'))));
  afterEach(() => rmSync(folder, { recursive: true }));

  function make(files: Record<string, string>): string {
    for (const [file, text] of Object.entries(files))
      writeFileSync(join(folder, file), text.replace(/^ +/gm, ''));
    return oneFile(pathToFileURL(join(folder, 'entry.ts')));
  }

  /** What the script posts when it runs as a worker. */
  function run(text: string): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const worker = new Worker(text, { eval: true });
      worker.on('message', resolve);
      worker.on('error', reject);
    });
  }

  it('runs modules with types, in their order, each with names of its own', async () => {
    const text = make({
      'entry.ts': `
        import { parentPort } from 'node:worker_threads';
        import type { Shape } from './a.ts';
        import { SIZE, type Other, twice as double } from './a.ts';
        import * as all from './b.ts';
        import './c.ts';
        const local: Shape = { size: SIZE };
        parentPort!.postMessage([local.size, double(4), Object.keys(all).sort().join(), all.again(1), import.meta.url.slice(-8)]);
      `,
      'a.ts': `
        export interface Shape { size: number }
        export type Other = string;
        export const SIZE = 3;
        const local = 2;
        export function twice(n: number): number { return n * local; }
      `,
      'b.ts': `
        import { twice } from './a.ts';
        export * from './a.ts';
        export { SIZE as LENGTH } from './a.ts';
        const local = 10;
        const again = (n: number): number => twice(n) + local;
        export { again };
        export class Thing { readonly n = 1; }
        export async function later(): Promise<void> {}
      `,
      'c.ts': `export const unused = 1;`,
    });
    expect(await run(text)).toEqual([3, 8, 'LENGTH,SIZE,Thing,again,later,twice', 12, 'entry.ts']);
  });

  it('takes what is built in from Node', async () => {
    const text = make({
      'entry.ts': `import { parentPort } from 'node:worker_threads';
        import { basename } from 'node:path';
        parentPort!.postMessage(basename('/a/b'));`,
    });
    expect(await run(text)).toBe('b');
  });

  it('refuses what it cannot do, and says where', () => {
    expect(() => make({ 'entry.ts': 'export default 1;' })).toThrow(/entry\.ts.*export default 1/);
    expect(() => make({ 'entry.ts': 'export let a = 1;' })).toThrow(/export let/);
    expect(() => make({ 'entry.ts': `import './b.ts';`, 'b.ts': `import './entry.ts';` })).toThrow(
      'imports itself',
    );
    expect(() => make({ 'entry.ts': 'enum A { B }' })).toThrow('types cannot be stripped');
  });
});

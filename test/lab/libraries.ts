/** The shared libraries that the product's programs load, at the places where they are on the host. */
import { closeSync, openSync, readSync, realpathSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { keyOf } from './cache.ts';
import { run } from './run.ts';

export interface Library {
  /** Where programs look for it. */
  path: string;
  /** Where the file is. */
  file: string;
}

/** The lines of ldd: "name => /path (address)", and the dynamic linker as a path alone. */
export function parseLdd(text: string): string[] {
  const paths: string[] = [];
  for (const line of text.split('\n')) {
    const found = /^\s+(?:\S+ => )?(\/\S+) \(0x[0-9a-f]+\)$/.exec(line);
    if (found !== null) paths.push(found[1]);
  }
  return paths;
}

/** Only what the dynamic linker would load: ldd fails at the others. */
export function isDynamic(path: string): boolean {
  const fd = openSync(path, 'r');
  try {
    const head = Buffer.alloc(64);
    if (readSync(fd, head, 0, 64, 0) < 64 || head.readUInt32BE(0) !== 0x7f454c46) return false;
    const [at, size, count] = [
      Number(head.readBigUInt64LE(32)),
      head.readUInt16LE(54),
      head.readUInt16LE(56),
    ];
    const table = Buffer.alloc(size * count);
    readSync(fd, table, 0, table.length, at);
    for (let i = 0; i < count; i++) if (table.readUInt32LE(i * size) === 2) return true;
    return false;
  } finally {
    closeSync(fd);
  }
}

export async function librariesOf(programs: readonly string[]): Promise<Library[]> {
  const found = new Map<string, string>();
  const hint = 'The lab asks ldd what the programs need; build them again: npm run build';
  const texts = await Promise.all(programs.filter(isDynamic).map((path) => run(['ldd', path], { hint })));
  for (const path of texts.flatMap(parseLdd)) {
    const file = realpathSync(path);
    found.set(path, file);
    // Where /lib is a link to /usr/lib, as it is on a merged host, the same file has two names; one is enough.
  }
  return [...found].map(([path, file]) => ({ path, file })).sort((a, b) => (a.path < b.path ? -1 : 1));
}

/** Libraries change with the host's updates: their size and time stand for their contents. */
export function librariesKey(libraries: readonly Library[]): string {
  return keyOf(
    ...libraries.map(({ path, file }) => {
      const { size, mtimeMs } = statSync(file);
      return `${path} ${join(dirname(file))} ${size} ${mtimeMs}`;
    }),
  );
}

/** The image of what changes with every edit: the product as it stands in this clone, sources and built parts. */
import { existsSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { entry, filesKey, listTree } from './cache.ts';
import { labError } from './fail.ts';
import { makeImage, put } from './image.ts';
import { GUEST_ROOT, inCache, repository } from './paths.ts';
import { step } from './progress.ts';

const guestTarget = 'guest-libos/target/x86_64-unknown-linux-gnu/release';
const addon = 'native/build/hyperflux.node';
/** Without these, nothing of the product runs. */
const mustBeBuilt = [
  'vmm/target/release/fluxion',
  addon,
  `${guestTarget}/fluxos`,
  `${guestTarget}/fluxos-hosted`,
];

const single = ['hyperflux', 'package.json', 'vitest.config.ts', 'LICENSE', 'vmm/target/.rustc_info.json'];
const folders = ['abi', 'arbiter', 'bench', 'test', 'native', 'kmod', 'scripts', 'packaging', 'docs'];
const skipped = new Set(['node_modules', 'target', '.git', '.build', 'build']);

/** Examples are named twice, once with a hash; and cargo leaves its notes beside them. */
function examples(): string[] {
  const folder = join(repository, 'vmm/target/release/examples');
  if (!existsSync(folder)) return [];
  const programs = readdirSync(folder).filter((name) => /^[a-z0-9_]+$/.test(name));
  return programs
    .filter((name) => (statSync(join(folder, name)).mode & 0o111) !== 0)
    .map((name) => `vmm/target/release/examples/${name}`);
}

/** The programs of the product, for which libraries have to be found. */
export const productPrograms = (): string[] =>
  [...mustBeBuilt, ...examples()].map((p) => join(repository, p));

export function productFiles(): string[] {
  const missing = mustBeBuilt.filter((path) => !existsSync(join(repository, path)));
  if (missing.length > 0) throw labError(`not built: ${missing.join(', ')}`, 'Build it: npm run setup');
  const sources = folders
    .filter((folder) => existsSync(join(repository, folder)))
    .flatMap((folder) =>
      listTree(join(repository, folder), (name) => skipped.has(name) || /\.(o|ko|log)$/.test(name)).map(
        (path) => `${folder}/${path}`,
      ),
    );
  const extra = [
    ...single.filter((path) => existsSync(join(repository, path))),
    ...mustBeBuilt,
    ...examples(),
  ];
  return [...new Set([...sources, ...extra])].sort();
}

export async function productImage(): Promise<string> {
  const files = productFiles();
  return entry(inCache('product', `${filesKey(repository, files, [GUEST_ROOT])}.img`), (partial) =>
    step('make the image of the product', async () => {
      const stage = `${partial}.stage`;
      for (const file of files) put(join(repository, file), join(stage, GUEST_ROOT, file));
      await makeImage(stage, partial, 'lab-product');
      rmSync(stage, { recursive: true });
    }),
  );
}

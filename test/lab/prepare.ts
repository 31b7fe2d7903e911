/** Everything that a boot needs, made or found in the cache. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { baseImage } from './base.ts';
import { listTree, prune } from './cache.ts';
import { labError } from './fail.ts';
import { guestPrograms, initramfs } from './initramfs.ts';
import type { Kernel } from './kernel.ts';
import { prepareKernel } from './kernel.ts';
import type { Kmod } from './kmod.ts';
import { prepareKmod } from './kmod.ts';
import { librariesOf } from './libraries.ts';
import type { LabOptions } from './options.ts';
import { inCache, repository } from './paths.ts';
import { productImage, productPrograms } from './product.ts';
import type { Tools } from './tools.ts';
import { prepareTools } from './tools.ts';

/** Images of the product come with every edit; the others seldom. */
const PRODUCT_DAYS = 2;
const OTHER_DAYS = 30;

export interface Prepared {
  tools: Tools;
  kernel: Kernel;
  kmod?: Kmod;
  initramfs: string;
  disks: string[];
}

function modulesOfNode(): string[] {
  const folder = join(repository, 'node_modules');
  const scopes = ['@rolldown', '@msgpackr-extract', 'lightningcss-linux-x64-gnu'];
  return scopes
    .filter((scope) => existsSync(join(folder, scope)))
    .flatMap((scope) =>
      listTree(join(folder, scope))
        .filter((path) => path.endsWith('.node') && !path.includes('musl'))
        .map((path) => join(folder, scope, path)),
    );
}

export async function prepare(options: LabOptions): Promise<Prepared> {
  const node = join(repository, 'node_modules/node/bin/node');
  if (!existsSync(node)) throw labError('set-up has not been done', 'Run it: npm run setup');
  const tools = await prepareTools(options.refresh);
  const kernel = await prepareKernel(options.kernel, tools, options.refresh);
  const programs = await guestPrograms();
  const libraries = await librariesOf([node, ...modulesOfNode(), ...productPrograms(), ...programs]);
  const kmod = options.kflux ? await prepareKmod(kernel) : undefined;
  const prepared = {
    tools,
    kernel,
    kmod,
    disks: [await baseImage(tools, libraries), await productImage()],
    initramfs: await initramfs(tools, kernel, programs, kmod),
  };
  prune([inCache('product'), inCache('initramfs'), inCache('kmod')], PRODUCT_DAYS);
  prune([inCache('base'), inCache('guest'), inCache('tools')], OTHER_DAYS);
  // Only those that were fetched: a kernel that somebody has built stays.
  prune([inCache('kernels')], OTHER_DAYS, { only: 'debian-' });
  return prepared;
}

/** Which folders of node_modules are needed inside the lab: what the product runs with, and vitest for the suites. */

interface Locked {
  name?: string;
  dependencies?: Record<string, string>;
  optionalDependencies?: Record<string, string>;
  peerDependencies?: Record<string, string>;
}

export interface LockFile {
  packages: Record<string, Locked>;
}

/** Development packages that run inside the lab: the pinned Node, and what the suites run with. */
const TOO = ['node', 'vitest', '@rolldown/binding-linux-x64-gnu'];

/** A package as one that is installed at `from` finds it: the nearest node_modules upwards. */
function findPackage(lock: LockFile, from: string, name: string): string | undefined {
  for (let at = from; ;) {
    const path = `${at === '' ? '' : `${at}/`}node_modules/${name}`;
    if (path in lock.packages) return path;
    if (at === '') return undefined;
    const up = at.lastIndexOf('/node_modules/');
    at = up < 0 ? '' : at.slice(0, up);
  }
}

/** The paths of the packages, sorted; one inside another's folder is named too. */
export function neededPackages(lock: LockFile): string[] {
  const found = new Set<string>();
  const visit = (from: string, name: string): void => {
    const path = findPackage(lock, from, name);
    // Optional ones of other platforms, and optional peers, are not there.
    if (path === undefined || found.has(path)) return;
    found.add(path);
    const { dependencies, optionalDependencies, peerDependencies } = lock.packages[path];
    for (const next of Object.keys({ ...dependencies, ...optionalDependencies, ...peerDependencies }))
      if (next !== 'typescript') visit(path, next);
  };
  for (const name of [...Object.keys(lock.packages[''].dependencies ?? {}), ...TOO]) visit('', name);
  return [...found].sort();
}

/** Which module files a module needs, and in which order they are loaded: from modules.dep, as modprobe does it. */
import { labError } from './fail.ts';

export interface ModuleTable {
  /** A module's name to its file, relative to the folder of modules.dep. */
  file: ReadonlyMap<string, string>;
  /** A file to the files that it needs. */
  needs: ReadonlyMap<string, readonly string[]>;
  builtin: ReadonlySet<string>;
}

/** Names are compared with underscores: virtio-rng.ko is the module virtio_rng. */
export function moduleName(path: string): string {
  const base = path.slice(path.lastIndexOf('/') + 1);
  return base.replace(/\.ko(\.(xz|zst|gz))?$/, '').replaceAll('-', '_');
}

export function parseModules(dep: string, builtin: string): ModuleTable {
  const file = new Map<string, string>();
  const needs = new Map<string, string[]>();
  for (const line of dep.split('\n')) {
    const colon = line.indexOf(':');
    if (colon < 0) continue;
    const path = line.slice(0, colon).trim();
    file.set(moduleName(path), path);
    needs.set(
      path,
      line
        .slice(colon + 1)
        .split(' ')
        .filter((word) => word !== ''),
    );
  }
  const names = builtin.split('\n').filter((line) => line !== '');
  return { file, needs, builtin: new Set(names.map(moduleName)) };
}

/** The files to load for these modules, each after what it needs. What is built into the kernel needs no file. */
export function loadOrder(table: ModuleTable, modules: readonly string[]): string[] {
  const order: string[] = [];
  const visiting = new Set<string>();
  const visit = (path: string): void => {
    if (order.includes(path)) return;
    if (visiting.has(path))
      throw labError(
        `the module ${path} needs itself by way of others`,
        'modules.dep is broken: run depmod.',
      );
    visiting.add(path);
    // modules.dep lists the whole closure with the nearest first; by visiting each, any order will do.
    for (const need of table.needs.get(path) ?? []) visit(need);
    visiting.delete(path);
    order.push(path);
  };
  for (const module of modules) {
    const name = moduleName(module);
    const path = table.file.get(name);
    if (path !== undefined) visit(path);
    else if (!table.builtin.has(name))
      throw labError(
        `this kernel has no module ${module}`,
        'The lab needs it as a module or built in: see the configuration of that kernel.',
      );
  }
  return order;
}

/** Those that this kernel has in one form or the other. */
export const known = (table: ModuleTable, modules: readonly string[]): string[] =>
  modules.filter((module) => table.file.has(moduleName(module)) || table.builtin.has(moduleName(module)));

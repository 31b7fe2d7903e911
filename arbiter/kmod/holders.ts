/** Who keeps the module busy: processes with one of its files open or mapped. */
import type { Host } from './host.ts';
import { list, readLink, readText } from './host.ts';
import { DEVICE } from './names.ts';

export interface Holder {
  pid: number;
  /** In words: the arbiter, VM web, or the program's name. */
  what: string;
}

/** /dev/kflux, or the descriptor of a VM, which is an anonymous inode of the module. */
export const isModuleFile = (target: string): boolean =>
  target === DEVICE || target === `${DEVICE} (deleted)` || /^anon_inode:\[?kflux/.test(target);

/** What a process is to HyperFlux, told by its command line. */
export function describe(words: readonly string[], name: string): string {
  const at = words.indexOf('--name');
  if (at >= 0 && words.some((word) => /(^|\/)(fluxion|fluxos-hosted)$/.test(word)))
    return `VM ${words[at + 1] ?? '?'}`;
  if (words.some((word) => word.endsWith('/arbiter/process/main.ts'))) return 'the arbiter';
  if (words.some((word) => word.endsWith('/arbiter/control/main.ts'))) return 'hyperfluxd';
  if (words.some((word) => word.endsWith('/arbiter/cli/main.ts')))
    return words.includes('start') ? 'hyperfluxd' : `hyperflux ${words.at(-1) ?? ''}`.trim();
  return name === '' ? 'a process' : name;
}

function holds(host: Host, pid: string): boolean {
  const fds = list(host, `/proc/${pid}/fd`);
  if (fds.some((fd) => isModuleFile(readLink(host, `/proc/${pid}/fd/${fd}`) ?? ''))) return true;
  // A mapping stays when its descriptor is closed.
  const maps = readText(host, `/proc/${pid}/maps`) ?? '';
  return maps.includes(DEVICE) || /anon_inode:\[?kflux/.test(maps);
}

/** Those that this user may see: all of them for root only. */
export function holders(host: Host): Holder[] {
  return list(host, '/proc')
    .filter((name) => /^\d+$/.test(name) && holds(host, name))
    .map((pid) => {
      const words = (readText(host, `/proc/${pid}/cmdline`) ?? '').split('\0').filter((word) => word !== '');
      return { pid: Number(pid), what: describe(words, readText(host, `/proc/${pid}/comm`) ?? '') };
    })
    .sort((a, b) => a.pid - b.pid);
}

export const holderList = (found: readonly Holder[]): string =>
  found.map(({ pid, what }) => `${what} (process ${pid})`).join(', ');

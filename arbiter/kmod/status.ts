/** All that can be known about the module without asking it: for `hyperflux kmod status`. */
import { existsSync } from 'node:fs';
import { builtModule } from './build.ts';
import type { Holder } from './holders.ts';
import { holders } from './holders.ts';
import type { Host } from './host.ts';
import { readText, repository } from './host.ts';
import { installedModule } from './load.ts';
import { readModule } from './modinfo.ts';
import { CLONE_ABI, CLONE_VERSION, mismatch, MODULE } from './names.ts';
import type { Security } from './security.ts';
import { describeSecurity, security } from './security.ts';
import type { DeviceState, ModuleState } from './state.ts';
import { debugTables, deviceState, moduleState } from './state.ts';
import type { Usable } from './usable.ts';
import { kfluxUsable } from './usable.ts';

export interface KmodStatus {
  kernel: string;
  module: ModuleState;
  clone: { version: string; abi: string };
  /** Both versions, if they do not go together; else empty. */
  mismatch: string;
  device: DeviceState;
  holders: Holder[];
  /** For the user who asks. */
  usable: Usable;
  security: Security;
  headers: boolean;
  installed: { path: string; version: string } | null;
  built: { path: string; version: string } | null;
  /** debugfs tables, where this user may read them. */
  tables: { name: string; text: string }[];
}

function found(path: string | undefined, file: string | undefined): { path: string; version: string } | null {
  if (path === undefined || file === undefined || !existsSync(file)) return null;
  return { path, version: readModule(file)?.version ?? '' };
}

export function kmodStatus(host: Host, clone: string = repository): KmodStatus {
  const module = moduleState(host);
  const installed = installedModule(host);
  const built = builtModule(host.release, clone);
  return {
    kernel: host.release,
    module,
    clone: { version: CLONE_VERSION, abi: CLONE_ABI },
    mismatch: module.loaded ? mismatch(module.version, module.abi) : '',
    device: deviceState(host),
    holders: holders(host),
    usable: kfluxUsable(host),
    security: security(host),
    headers: readText(host, `/lib/modules/${host.release}/build/Makefile`) !== undefined,
    installed: found(installed, installed === undefined ? undefined : host.at(installed)),
    built: found(built, built),
    tables: debugTables(host),
  };
}

const file = (what: { path: string; version: string } | null, otherwise: string): string =>
  what === null ? otherwise : `${what.path}${what.version === '' ? '' : `, version ${what.version}`}`;

function moduleLine({ module, mismatch: different, clone }: KmodStatus): string {
  if (!module.loaded) return 'not loaded';
  const uses = module.refcount === undefined ? '' : `, used ${module.refcount} times`;
  const versions =
    different !== ''
      ? `loaded, but ${different.replace(' is loaded', '')}`
      : `loaded${module.state === 'live' ? '' : ` (${module.state})`}: version ${module.version ?? 'unknown'}, ABI ${module.abi ?? 'unknown'}`;
  const other = different === '' && module.version !== clone.version ? ` (this clone: ${clone.version})` : '';
  return `${versions}${other}${uses}`;
}

export function renderStatus(status: KmodStatus): string {
  const { device, usable, kernel, clone } = status;
  const lines: [string, string][] = [
    ['module', `${MODULE}: ${moduleLine(status)}`],
    ['clone', `version ${clone.version}, ABI ${clone.abi}`],
    ['device', device.present ? `${device.path}, ${device.mode} ${device.owner}:${device.group}` : 'none'],
    ['use', usable.usable ? 'this user may claim cores' : `not by this user: ${usable.why}`],
    ...(usable.hint === undefined ? [] : [['', usable.hint] as [string, string]]),
    ['kernel', `${kernel}, headers ${status.headers ? 'installed' : 'not installed'}`],
    ['security', describeSecurity(status.security)],
    ['installed', file(status.installed, 'no')],
    ['built', file(status.built, 'no: hyperflux kmod build')],
  ];
  if (!status.security.modules) lines.push(['', 'this kernel cannot load modules (it has no /proc/modules)']);
  for (const { pid, what } of status.holders) lines.push(['held by', `${what} (process ${pid})`]);
  const tables = status.tables.map(({ name, text }) => `\n${name}:\n${text === '' ? 'none' : text}`);
  return [...lines.map(([name, text]) => `${name.padEnd(11)}${text}`), ...tables].join('\n');
}

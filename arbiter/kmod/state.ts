/** What the kernel says about the module, its device and the process that asks. */
import { readFileSync, statSync } from 'node:fs';
import type { Host } from './host.ts';
import { list, readLink, readText } from './host.ts';
import { DEBUGFS, DEVICE, SYSFS_CLASS, SYSFS_MODULE } from './names.ts';

export interface ModuleState {
  loaded: boolean;
  /** live, coming or going; empty if it is not loaded. */
  state: string;
  /** What the module calls itself, and the ABI of its device. */
  version?: string;
  abi?: string;
  /** Descriptors and mappings that keep it loaded. */
  refcount?: number;
  /** Letters of what it did to the kernel's taint: O out of tree, E unsigned. */
  taint: string;
}

export function moduleState(host: Host): ModuleState {
  const state = readText(host, `${SYSFS_MODULE}/initstate`);
  if (state === undefined) return { loaded: false, state: '', taint: '' };
  const refcount = readText(host, `${SYSFS_MODULE}/refcnt`);
  return {
    loaded: true,
    state,
    version: readText(host, `${SYSFS_CLASS}/version`) ?? readText(host, `${SYSFS_MODULE}/version`),
    abi: readText(host, `${SYSFS_CLASS}/abi`),
    refcount: refcount === undefined ? undefined : Number(refcount),
    taint: readText(host, `${SYSFS_MODULE}/taint`) ?? '',
  };
}

export interface DeviceState {
  path: string;
  present: boolean;
  /** As in "0660 root:hyperflux". */
  mode: string;
  owner: string;
  group: string;
  /** The errno's name if this user cannot open it; empty if it can. */
  refused: string;
}

export function deviceState(host: Host): DeviceState {
  try {
    const { mode, uid, gid } = statSync(host.at(DEVICE));
    return {
      path: DEVICE,
      present: true,
      mode: (mode & 0o7777).toString(8).padStart(4, '0'),
      owner: nameOf(host, '/etc/passwd', uid),
      group: nameOf(host, '/etc/group', gid),
      refused: host.tryOpen(host.at(DEVICE)),
    };
  } catch {
    return { path: DEVICE, present: false, mode: '', owner: '', group: '', refused: 'ENOENT' };
  }
}

/** A user's or group's name by its number, which is the third field in both files. */
function nameOf(host: Host, file: string, id: number): string {
  const line = readText(host, file)
    ?.split('\n')
    .find((entry) => entry.split(':')[2] === String(id));
  return line?.split(':')[0] ?? String(id);
}

/** A group's number, if there is such a group. */
export function groupId(host: Host, name: string): number | undefined {
  const line = readText(host, '/etc/group')
    ?.split('\n')
    .find((entry) => entry.startsWith(`${name}:`));
  return line === undefined ? undefined : Number(line.split(':')[2]);
}

const CAP_SYS_NICE = 23;
/** Inode of the initial user namespace (PROC_USER_INIT_INO): the same in every kernel. */
const INITIAL_USER_NAMESPACE = 'user:[4026531837]';

export interface Privilege {
  sysNice: boolean;
  initialNamespace: boolean;
}

/** What CLAIM asks for: CAP_SYS_NICE, and that in the initial user namespace. */
export function privilege(host: Host): Privilege {
  const status = readText(host, '/proc/self/status') ?? '';
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)/m.exec(status)?.[1] ?? '0'}`);
  return {
    sysNice: ((effective >> BigInt(CAP_SYS_NICE)) & 1n) === 1n,
    initialNamespace:
      (readLink(host, '/proc/self/ns/user') ?? INITIAL_USER_NAMESPACE) === INITIAL_USER_NAMESPACE,
  };
}

/** The tables that the module shows people; empty where debugfs is not mounted or not for this user. */
export function debugTables(host: Host): { name: string; text: string }[] {
  return list(host, DEBUGFS).flatMap((name) => {
    try {
      return [{ name, text: readFileSync(host.at(`${DEBUGFS}/${name}`), 'utf8').trimEnd() }];
    } catch {
      // A folder, or one that is written only.
      return [];
    }
  });
}

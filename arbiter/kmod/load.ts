/** Loads and unloads the module, and says in words what the kernel only has a number for. */
import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { ControlError } from '../control/protocol.ts';
import { builtModule } from './build.ts';
import { holderList, holders } from './holders.ts';
import type { Host } from './host.ts';
import { list, readText, repository } from './host.ts';
import { readModule } from './modinfo.ts';
import { CLONE_ABI, CLONE_VERSION, DEVICE, GROUP, mismatch, MODULE } from './names.ts';
import { security, signHint } from './security.ts';
import type { DeviceState, ModuleState } from './state.ts';
import { deviceState, groupId, moduleState } from './state.ts';

const failed = (message: string, hint: string): ControlError => new ControlError('failed', message, hint);

export function needRoot(host: Host, what: string): void {
  if (host.uid === 0) return;
  throw new ControlError(
    'permission',
    `only root may ${what} a kernel module`,
    `Run it as root: sudo hyperflux kmod ${what}`,
  );
}

export interface Candidate {
  path: string;
  /** The same, as it can be opened here. */
  file: string;
  /** By modprobe, which knows it; otherwise by insmod. */
  installed: boolean;
}

/** Installed modules of ours for the running kernel, the nearest first; packers add an ending. */
export function installedModule(host: Host, release = host.release): string | undefined {
  const folders = ['updates/dkms', 'updates', 'extra'].map((name) => `/lib/modules/${release}/${name}`);
  for (const folder of folders) {
    const name = list(host, folder).find((entry) => /^kflux\.ko(\.(xz|zst|gz))?$/.test(entry));
    if (name !== undefined) return `${folder}/${name}`;
  }
  return undefined;
}

/** The installed module, or the one that was built for this kernel. */
export function candidate(host: Host, built: boolean, clone: string = repository): Candidate {
  const installed = built ? undefined : installedModule(host);
  if (installed !== undefined) {
    // modprobe knows what depmod has seen; kFlux needs no other module, so its path is as good.
    const known =
      readText(host, `/lib/modules/${host.release}/modules.dep`)?.includes(`/${MODULE}.ko`) === true;
    return { path: installed, file: host.at(installed), installed: known };
  }
  const path = builtModule(host.release, clone);
  if (existsSync(path)) return { path, file: path, installed: false };
  throw failed(
    `there is no module for kernel ${host.release}${built ? ' that was built here' : ', neither installed nor built'}`,
    'Build it: hyperflux kmod build. Then install it for good, or load what was built: sudo hyperflux kmod load',
  );
}

function checkPossible(host: Host): void {
  const { modules, container } = security(host);
  if (!modules)
    throw failed(
      `kernel ${host.release} cannot load modules (it has no /proc/modules)`,
      'Cores are moved by affinity and futex here. hyperflux lab tries the module in a virtual machine.',
    );
  if (container !== '' && host.find('insmod') === undefined)
    throw failed(
      `this is a container (${container}): the module has to be loaded on its host`,
      'Run hyperflux kmod load on the host, and give the container --device /dev/kflux --cap-add SYS_NICE.',
    );
}

/** What is wrong with a file, before the kernel says so in fewer words. */
function checkFile(host: Host, { path, file }: Candidate): void {
  const info = readModule(file);
  // Packed files are the kernel's or modprobe's to unpack.
  if (info === undefined) return;
  if (info.release !== host.release)
    throw failed(
      `${path} was built for kernel ${info.release}, this is ${host.release}`,
      'Build it again: hyperflux kmod build',
    );
  if (info.version !== undefined && info.version !== CLONE_VERSION)
    throw new ControlError(
      'version',
      `${path} is kFlux ${info.version}, this clone is ${CLONE_VERSION}`,
      'Build and install this one: hyperflux kmod build, then sudo hyperflux kmod install',
    );
  if (security(host).signed && !info.signed)
    throw failed(`${path} is not signed`, signHint(path, `/lib/modules/${host.release}/build`));
}

/** From what insmod or modprobe said to what can be done. */
export function explainLoad(host: Host, path: string, output: string): ControlError {
  const said = output.trim().split('\n').at(-1) ?? '';
  const build = `/lib/modules/${host.release}/build`;
  if (/Key was rejected|Required key not available|Loading of unsigned module/i.test(output))
    return failed(`the kernel refuses the signature of ${path}: ${said}`, signHint(path, build));
  if (/Invalid module format|Exec format error/i.test(output))
    return failed(
      `${path} does not fit kernel ${host.release}: ${said}`,
      'Build it again for this kernel: hyperflux kmod build. The kernel log (dmesg) names the difference.',
    );
  if (/Operation not permitted|Permission denied/i.test(output))
    return new ControlError(
      'permission',
      `the kernel does not let ${path} in: ${said}`,
      'Loading needs CAP_SYS_MODULE on the host itself, and modules may be switched off (sysctl kernel.modules_disabled) or locked down.',
    );
  if (/Unknown symbol/i.test(output))
    return failed(
      `${path} needs something that kernel ${host.release} does not have: ${said}`,
      'dmesg names it. Build it again: hyperflux kmod build',
    );
  return failed(`${path} could not be loaded: ${said}`, 'The kernel log may say why: dmesg | tail');
}

export interface Loaded {
  /** False: it was loaded already. */
  changed: boolean;
  path: string;
  module: ModuleState;
  device: DeviceState;
}

/** Both versions, if what is loaded is not what this clone speaks. */
function checkLoaded(state: ModuleState): void {
  const different = mismatch(state.version, state.abi);
  if (different !== '')
    throw new ControlError(
      'version',
      different,
      "Put this clone's in its place (as root): hyperflux kmod build, install, unload, load.",
    );
}

/** What the udev rule does, where there is no udev. */
function giveGroup(host: Host): void {
  const group = groupId(host, GROUP);
  if (group !== undefined && deviceState(host).present) host.chown(host.at(DEVICE), 0, group);
}

const DEVICE_MS = 5000;

export async function loadModule(host: Host, { built = false, clone = repository } = {}): Promise<Loaded> {
  const before = moduleState(host);
  if (before.loaded && before.state === 'live') {
    checkLoaded(before);
    return { changed: false, path: '', module: before, device: deviceState(host) };
  }
  needRoot(host, 'load');
  checkPossible(host);
  const found = candidate(host, built, clone);
  const { path, installed } = found;
  checkFile(host, found);
  const program = host.find(installed ? 'modprobe' : 'insmod');
  if (program === undefined)
    throw failed(
      `${installed ? 'modprobe' : 'insmod'} is missing`,
      'Install it: kmod (Debian, Fedora, Arch).',
    );
  const { code, output } = await host.run([program, installed ? MODULE : found.file]);
  // Somebody else may have been quicker.
  if (code !== 0 && !moduleState(host).loaded) throw explainLoad(host, path, output);
  const udevadm = host.find('udevadm');
  if (udevadm !== undefined) await host.run([udevadm, 'settle', '--timeout=5']);
  const end = performance.now() + DEVICE_MS;
  while (!deviceState(host).present && performance.now() < end) await sleep(20);
  const module = moduleState(host);
  if (!module.loaded)
    throw failed(`${path} went in and is gone again`, 'The kernel log may say why: dmesg | tail');
  checkLoaded(module);
  if (udevadm === undefined) giveGroup(host);
  const device = deviceState(host);
  if (!device.present)
    throw failed(
      `the module is loaded and there is no ${DEVICE}`,
      'udev or devtmpfs makes it: mount devtmpfs on /dev, or see udevadm monitor.',
    );
  return { changed: true, path, module, device };
}

export interface Unloaded {
  changed: boolean;
}

function busy(host: Host, count: number | undefined): ControlError {
  const found = holders(host);
  const times = count === undefined ? '' : ` (${count} ${count === 1 ? 'use' : 'uses'})`;
  const who =
    found.length > 0
      ? `: ${holderList(found)}`
      : host.uid === 0
        ? ', by a descriptor or mapping that no process shows'
        : '; only root can see by whom';
  const hint = found.some(({ what }) => /arbiter|hyperfluxd|^VM /.test(what))
    ? 'Stop them: hyperflux stop --all --daemon. VMs under the ordinary scheduler keep their descriptor too.'
    : 'End these processes, then try again.';
  return new ControlError('busy', `${MODULE} is in use${times}${who}`, hint);
}

export async function unloadModule(host: Host): Promise<Unloaded> {
  const state = moduleState(host);
  if (!state.loaded) return { changed: false };
  if ((state.refcount ?? 0) > 0 || holders(host).length > 0) throw busy(host, state.refcount);
  needRoot(host, 'unload');
  const rmmod = host.find('rmmod');
  const modprobe = host.find('modprobe');
  if (rmmod === undefined && modprobe === undefined)
    throw failed('rmmod is missing', 'Install it: kmod (Debian, Fedora, Arch).');
  const { code, output } = await host.run(rmmod === undefined ? [modprobe!, '-r', MODULE] : [rmmod, MODULE]);
  const after = moduleState(host);
  if (code === 0 || !after.loaded) return { changed: true };
  // Taken between the look and the try.
  if (/in use|busy|temporarily unavailable/i.test(output)) throw busy(host, after.refcount);
  throw failed(
    `${MODULE} could not be unloaded: ${output.trim().split('\n').at(-1) ?? ''}`,
    'The kernel log may say why: dmesg | tail',
  );
}

/** A module's version and ABI as one phrase. */
export const versionText = (version: string | undefined, abi: string | undefined): string =>
  `${version ?? 'unknown'}, ABI ${abi ?? 'unknown'}`;
export const cloneText = versionText(CLONE_VERSION, CLONE_ABI);

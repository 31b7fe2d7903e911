/**
 * Whether cores can be moved by kFlux, for start, doctor and the benchmarks. It asks sysfs and opens the device; HELLO
 * is the bridge's to say. Nothing here loads the addon.
 */
import type { Host } from './host.ts';
import { thisHost } from './host.ts';
import { DEVICE, GROUP, mismatch, MODULE } from './names.ts';
import type { DeviceState, ModuleState, Privilege } from './state.ts';
import { deviceState, moduleState, privilege } from './state.ts';

export interface Usable {
  usable: boolean;
  /** In one sentence, also if it is usable. */
  why: string;
  /** What to do, if it is not. */
  hint?: string;
}

const no = (why: string, hint: string): Usable => ({ usable: false, why, hint });

export function moduleUsable(state: ModuleState): Usable {
  if (!state.loaded)
    return no(`the kernel module ${MODULE} is not loaded`, 'Load it: sudo hyperflux kmod load');
  if (state.state !== 'live')
    return no(`the kernel module ${MODULE} is ${state.state}`, 'Wait a moment, then look again.');
  const different = mismatch(state.version, state.abi);
  if (different !== '')
    return no(
      different,
      "Load this clone's: sudo hyperflux kmod install, then hyperflux kmod unload and load (as root).",
    );
  return { usable: true, why: `kFlux ${state.version ?? ''} with ABI ${state.abi} is loaded` };
}

export function deviceUsable(device: DeviceState): Usable {
  const { present, refused, mode, owner, group } = device;
  if (!present) return no(`there is no ${DEVICE}`, 'udev or devtmpfs makes it when the module is loaded.');
  if (refused === '') return { usable: true, why: `${DEVICE} can be opened (${mode} ${owner}:${group})` };
  if (refused !== 'EACCES' && refused !== 'EPERM')
    return no(
      `${DEVICE} cannot be opened (${refused})`,
      'Load the module again: sudo hyperflux kmod unload, then load.',
    );
  const hint =
    group === GROUP
      ? `Join its group: sudo usermod -aG ${GROUP} $USER, then log in again.`
      : `Give it its group by the udev rule: sudo hyperflux kmod install. Then join it: sudo usermod -aG ${GROUP} $USER`;
  return no(`this user may not open ${DEVICE} (${mode} ${owner}:${group})`, hint);
}

export function claimAllowed({ sysNice, initialNamespace }: Privilege): Usable {
  if (!initialNamespace)
    return no(
      'this process is in a user namespace of its own, where no capability lets it claim cores',
      'Run the daemon outside of it, on the host.',
    );
  if (!sysNice)
    return no(
      'claiming cores needs CAP_SYS_NICE',
      'Start the daemon as root or by packaging/hyperflux.service, which gives it that capability.',
    );
  return { usable: true, why: 'CAP_SYS_NICE is there: cores can be claimed' };
}

/** The first thing that is missing, or that all is there. */
export function kfluxUsable(host: Host = thisHost()): Usable {
  const module = moduleUsable(moduleState(host));
  if (!module.usable) return module;
  const device = deviceUsable(deviceState(host));
  if (!device.usable) return device;
  const claim = claimAllowed(privilege(host));
  return claim.usable ? module : claim;
}

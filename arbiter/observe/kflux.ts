/** What doctor looks at of the kernel module: each thing that has to be right for cores to be moved by it. */
import type { Host } from '../kmod/host.ts';
import { thisHost } from '../kmod/host.ts';
import { CLONE_ABI, CLONE_VERSION } from '../kmod/names.ts';
import { describeSecurity, security } from '../kmod/security.ts';
import { deviceState, moduleState, privilege } from '../kmod/state.ts';
import type { Usable } from '../kmod/usable.ts';
import { claimAllowed, deviceUsable, moduleUsable } from '../kmod/usable.ts';
import type { Check } from './checks.ts';
import { check } from './checks.ts';

/** Names of the checks, in order; the full way needs them all. */
export const KFLUX_CHECKS = ['kflux', 'device', 'claim'] as const;

const from = (name: (typeof KFLUX_CHECKS)[number], { usable, why, hint = '' }: Usable): Check =>
  check(name, usable ? 'ok' : 'warn', why, hint);

/** The module alone if it is not loaded: there is nothing to say about its device then. */
export function checkKflux(host: Host = thisHost()): Check[] {
  const module = moduleState(host);
  const claim = from('claim', claimAllowed(privilege(host)));
  if (!module.loaded) return [notLoaded(host), claim];
  const first = moduleUsable(module);
  const other =
    first.usable && module.version !== CLONE_VERSION
      ? ` (this clone: ${CLONE_VERSION}, ABI ${CLONE_ABI})`
      : '';
  return [
    from('kflux', { ...first, why: `${first.why}${other}` }),
    from('device', deviceUsable(deviceState(host))),
    claim,
  ];
}

function notLoaded(host: Host): Check {
  const found = security(host);
  const text = 'the kernel module is not loaded: cores move by affinity and futex';
  if (!found.modules)
    return check(
      'kflux',
      'warn',
      `${text}; this kernel cannot load modules`,
      'hyperflux lab has it in a virtual machine.',
    );
  const barrier = found.signed ? ` (${describeSecurity(found)})` : '';
  return check(
    'kflux',
    'warn',
    `${text}${barrier}`,
    'To have it: hyperflux kmod build, then sudo hyperflux kmod install and load. docs/kflux.md',
  );
}

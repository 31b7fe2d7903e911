/** kFlux under the contract's puppets: a domain of its own for each world. */
import type { NativeFace } from '../../arbiter/bridge/native.ts';
import { kfluxUsable } from '../../arbiter/kmod/usable.ts';
import type { Stage } from './puppet-world.ts';
import { cannot } from './puppet-world.ts';

/** Why kFlux cannot be tested here; empty: it can. */
export async function cannotKflux(): Promise<string> {
  const { usable, why, hint } = kfluxUsable();
  return usable ? cannot() : `${why}. ${hint ?? ''}`;
}

export async function kfluxStage(): Promise<Stage> {
  const { closeFd, kfluxCreateVm, kfluxJoin } = await import('../../native/index.ts');
  let domain = -1;
  return {
    // The first core is where this process is at home.
    choose: (allowed) => allowed.slice(-2),
    prepare(table: ArrayBuffer, bridge: NativeFace) {
      domain = kfluxJoin(table);
      bridge.useKflux();
    },
    descriptors: (slot, vcpus) => [kfluxCreateVm(domain, slot, vcpus)],
    args: ['--kflux-fd', '4'],
    prepareSecond: (bridge) => bridge.useKflux(),
    // The words are the kernel's: a domain begins where the module's first_generation says.
    nearWrap: () => {},
    close: () => closeFd(domain),
  };
}

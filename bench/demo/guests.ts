/**
 * What the demo's VMs are: how they run on this host, and what the two of them do.
 * The same in every phase.
 */
import type { RunRequest } from '../../arbiter/control/protocol.ts';
import { runRequest } from '../../arbiter/control/protocol.ts';
import { artifacts, needBuilt } from '../../arbiter/vm/artifacts.ts';
import { kvmTrouble } from '../../arbiter/vm/host.ts';
import { kvmFlavour } from '../lib/env.ts';

export interface Backend {
  hosted: boolean;
  /** How design.md calls this way to run. */
  mode: 'unprivileged' | 'hosted';
  program: string;
  /** The guest's image; hosted guests are their own program. */
  image: string;
  /** A sentence for the reader. */
  how: string;
}

/** KVM where it can be used, else hosted; throws if what is needed was not built. */
export function chooseBackend(wantHosted: boolean, trouble: () => string = kvmTrouble): Backend {
  const why = wantHosted ? 'that was asked for' : trouble();
  if (why === '') {
    const program = needBuilt(artifacts.fluxion, 'Fluxion');
    const image = needBuilt(artifacts.image, 'the guest image');
    const how = `Guests run in KVM (${kvmFlavour()}), because /dev/kvm can be used here.`;
    return { hosted: false, mode: 'unprivileged', program, image, how };
  }
  const program = needBuilt(artifacts.hosted, 'the hosted FluxOS');
  const how = `Guests run hosted, as ordinary Linux processes, because ${why}.`;
  return { hosted: true, mode: 'hosted', program, image: '', how };
}

interface Guest {
  name: 'serve' | 'batch';
  class: 'lc' | 'be';
  args: string[];
}

export const serve: Guest = { name: 'serve', class: 'lc', args: [] };

/**
 * Two uThreads a vCPU, and a scheduling point only every so many blocks: a park finds
 * the guest in FluxOS's code now and then, and in the application most of the time.
 */
export const batch: Guest = { name: 'batch', class: 'be', args: ['uthreads=2', 'yield_every=4'] };

/** What hyperfluxd or Fluxion is asked to start. */
export function requestFor(guest: Guest, vcpus: number, backend: Backend, more: object = {}): RunRequest {
  return runRequest.parse({
    ...{ name: guest.name, workload: guest.name, args: guest.args, class: guest.class, vcpus },
    backend: backend.hosted ? 'hosted' : 'kvm',
    ...more,
  });
}

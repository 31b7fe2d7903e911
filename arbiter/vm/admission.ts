/** Whether a VM may be started here: cores against the pool and what it has promised, and what can run it. */
import { VM_DEAD, VM_EMPTY } from '../abi/layout.gen.ts';
import type { RunRequest } from '../control/protocol.ts';
import { ControlError } from '../control/protocol.ts';
import { kvmTrouble } from './host.ts';
import { sections } from './section.ts';

export const inUse = (state: number): boolean => state !== VM_EMPTY && state !== VM_DEAD;

/** The VM's maximum number of cores; throws ControlError if the pool cannot keep what is asked for. */
export function admit(request: RunRequest, pool: number, table: Int32Array): number {
  const { name, vcpus, min_cores: min } = request;
  const max = request.max_cores ?? (request.unmanaged ? vcpus : Math.min(vcpus, pool));
  const refuse = (why: string, hint: string): ControlError =>
    new ControlError('pool', `${name} cannot ${why}`, hint);
  if (max > vcpus) {
    throw refuse(
      `have ${max} cores with ${vcpus} vCPUs: a core is used by one vCPU`,
      `Give it --vcpus ${max}, or --max-cores ${vcpus}.`,
    );
  }
  if (min > max) {
    throw refuse(
      `be guaranteed ${min} cores when it may have ${max}`,
      'Lower --min-cores or raise --max-cores.',
    );
  }
  // Nobody promises anything to a VM that nobody manages.
  if (request.unmanaged) return max;
  if (max > pool) {
    throw refuse(
      `have ${max} cores: the pool has ${pool}`,
      `Give it --max-cores ${pool}, or start the daemon with more --cores.`,
    );
  }
  const promised = sections(table).reduce(
    (sum, { state, minCores }) => sum + (inUse(state) ? minCores : 0),
    0,
  );
  if (promised + min > pool) {
    throw refuse(
      `be guaranteed ${min} cores: ${promised} of the pool's ${pool} are guaranteed to others`,
      'Lower --min-cores.',
    );
  }
  return max;
}

/** Whether the VM runs as an ordinary Linux process. */
export function chooseHosted({ backend }: RunRequest): boolean {
  if (backend === 'hosted') return true;
  const trouble = kvmTrouble();
  if (trouble === '') return false;
  if (backend === 'auto') return true;
  throw new ControlError(
    trouble.includes('may not') ? 'permission' : 'failed',
    `KVM cannot be used: ${trouble}`,
    'Use --backend hosted, or see hyperflux doctor.',
  );
}

/** What tests with a real daemon and VMs need of this host, and how they wait for what happens on it. */
import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { artifacts } from '../../arbiter/vm/artifacts.ts';
import { kvmTrouble } from '../../arbiter/vm/host.ts';

/** What VMs run in here. */
export const backend = kvmTrouble() === '' ? 'KVM' : 'hosted';

/** Why there can be no arbiter with VMs here; empty: there can. */
export async function cannot(): Promise<string> {
  try {
    const { getAffinity } = await import('../../native/index.ts');
    if (getAffinity(0).length < 2) return 'it needs two cores';
  } catch (error) {
    return `the addon: ${(error as Error).message}`;
  }
  const program = backend === 'KVM' ? artifacts.fluxion : artifacts.hosted;
  return existsSync(program) && existsSync(artifacts.image) ? '' : "the VMs' parts are not built";
}

/** Waits for something, and does not for ever. */
export async function until(condition: () => Promise<boolean>): Promise<boolean> {
  for (let tries = 0; tries < 3000; tries++) {
    if (await condition()) return true;
    await sleep(5);
  }
  return false;
}

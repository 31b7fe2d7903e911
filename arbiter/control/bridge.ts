/**
 * Who moves the cores: kFlux where it can be used, or the affinity bridge. It is chosen once,
 * when the daemon starts, and written into the hand-off table: whoever maps the table
 * follows. While VMs live on a table its bridge stays, because their vCPUs wait on it.
 */
import { kfluxHello, kfluxJoin, remapTable } from '../../native/index.ts';
import { VM_LIVE, VM_POISONED, VM_STARTING, W_TABLE_KFLUX_DOMAIN } from '../abi/layout.gen.ts';
import type { Usable } from '../kmod/usable.ts';
import { kfluxUsable } from '../kmod/usable.ts';
import { kvmTrouble } from '../vm/host.ts';
import { isVmProcess } from '../vm/process.ts';
import { sections } from '../vm/section.ts';
import { ControlError } from './protocol.ts';
import type { Shared } from './shared.ts';

export type BridgeKind = 'kflux' | 'affinity';
export type BridgeWish = BridgeKind | 'auto';

export interface Choice {
  kind: BridgeKind;
  /** A sentence for log, start and status. */
  why: string;
  /** What was asked for is not what there is. */
  against: boolean;
}

export interface Moving extends Choice {
  /** The table's kFlux domain, with the right to make VMs in it; null with the affinity bridge. */
  domainFd: number | null;
}

/** What the choice depends on. */
export interface Situation {
  wish: BridgeWish;
  /** What the table has. */
  present: BridgeKind;
  /** Names of the VMs that live on it. */
  vms: readonly string[];
  usable: Usable;
  /** Why guests cannot run in KVM here; empty: they can. */
  kvm: string;
}

/** Throws ControlError if what was asked for cannot be had. */
export function choose({ wish, present, vms, usable, kvm }: Situation): Choice {
  if (vms.length > 0) {
    const against = wish !== 'auto' && wish !== present;
    const kept = `${vms.length === 1 ? `the VM ${vms[0]} lives` : `${vms.length} VMs live`} on it`;
    const later = present === 'affinity' && wish === 'auto' && usable.usable;
    if (later) return { kind: present, why: `${kept}; kFlux is there for a start without VMs`, against };
    if (!against) return { kind: present, why: kept, against };
    return { kind: present, why: `${kept}, so --bridge ${wish} has to wait until they are stopped`, against };
  }
  if (wish === 'affinity') return { kind: 'affinity', why: 'it was asked for', against: false };
  if (wish === 'kflux') {
    if (!usable.usable) throw new ControlError('failed', `kFlux cannot be used: ${usable.why}`, usable.hint);
    return { kind: 'kflux', why: `it was asked for; ${usable.why}`, against: false };
  }
  if (!usable.usable) return { kind: 'affinity', why: `kFlux cannot be used: ${usable.why}`, against: false };
  if (kvm !== '')
    return {
      kind: 'affinity',
      why: `VMs run hosted here, where a kick by kFlux is not felt (${kvm})`,
      against: false,
    };
  return { kind: 'kflux', why: usable.why, against: false };
}

const alive = [VM_STARTING, VM_LIVE, VM_POISONED];

export function situation({ table }: Shared, wish: BridgeWish): Situation {
  const vms = sections(table).filter(
    ({ state, pid, name }) => alive.includes(state) && isVmProcess(pid, name),
  );
  return {
    wish,
    present: table[W_TABLE_KFLUX_DOMAIN] === 0 ? 'affinity' : 'kflux',
    vms: vms.map(({ name }) => name),
    usable: kfluxUsable(),
    kvm: kvmTrouble(),
  };
}

/**
 * Makes the table what was chosen. No arbiter may be live on it if that is not what it is. Where nobody insists on
 * kFlux and it fails after all, the affinity bridge is taken, and says why.
 */
export function useBridge({ table, tableFd }: Shared, choice: Choice, { wish, vms }: Situation): Moving {
  const buffer = table.buffer as ArrayBuffer;
  if (choice.kind === 'kflux') {
    try {
      kfluxHello();
      const domainFd = kfluxJoin(buffer);
      remapTable(buffer, tableFd);
      return { ...choice, domainFd };
    } catch (error) {
      const { message } = error as Error;
      if (wish === 'kflux' || vms.length > 0)
        throw new ControlError('failed', `kFlux cannot be used: ${message}`);
      choice = { kind: 'affinity', why: `kFlux cannot be used: ${message}`, against: false };
    }
  }
  // Nobody lives on the domain that may have been there: its pages go, and with them the domain.
  if (table[W_TABLE_KFLUX_DOMAIN] !== 0) {
    table[W_TABLE_KFLUX_DOMAIN] = 0;
    remapTable(buffer, tableFd);
  }
  return { ...choice, domainFd: null };
}

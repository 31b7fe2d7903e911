/** What is known of a vCPU and of a core while a trace is read, and the steps that there are. */
import { CORE_NONE, VCPU_CEDING, VCPU_RUNNING } from '../../../arbiter/abi/layout.gen.ts';
import type { TraceEvent } from './parse.ts';

export const stateNames = ['NEW', 'PARKED', 'GRANTING', 'RUNNING', 'CEDING', 'BLOCKED', 'UNMANAGED', 'DEAD'];

export interface Vcpu {
  state: number;
  core: number;
  /** It was forced since it got its core. */
  forced: boolean;
  parkReq?: number;
  /** The number of the preemption that waits to be seen; it ends with the tenure. */
  preempt?: number;
  /** It was parked in a critical guest, and the force that allows it has not been seen yet. */
  early?: TraceEvent;
}

export interface Core {
  owner: number;
  successor: number;
  generation?: number;
  /** The request in flight has been forced. */
  forced: boolean;
  /** Its owner lost it without having been asked: only a core that goes offline does that, and falls idle. */
  mustIdle: boolean;
  /** The lease that it belonged to is over. */
  unclaimed: boolean;
}

/** Whether a vCPU in that state has that core in its word. */
export const onCore = (v: Vcpu): boolean =>
  v.core !== CORE_NONE && (v.state === VCPU_RUNNING || v.state === VCPU_CEDING);

/** From where to where, core or none; what else has to be true is in the rules below. */
export const legal = new Set(
  [
    'NEW>PARKED NEW>UNMANAGED NEW>DEAD',
    'PARKED>GRANTING+ PARKED>UNMANAGED PARKED>DEAD',
    'GRANTING+>RUNNING+ GRANTING+>PARKED GRANTING+>UNMANAGED GRANTING+>DEAD',
    'RUNNING+>CEDING+ RUNNING+>CEDING RUNNING+>BLOCKED RUNNING+>PARKED RUNNING+>UNMANAGED RUNNING+>DEAD',
    'CEDING+>CEDING CEDING+>BLOCKED CEDING+>PARKED CEDING+>UNMANAGED CEDING+>DEAD',
    'CEDING>PARKED CEDING>UNMANAGED CEDING>DEAD',
    'BLOCKED>PARKED BLOCKED>CEDING BLOCKED>UNMANAGED BLOCKED>DEAD',
    'UNMANAGED>CEDING UNMANAGED>PARKED UNMANAGED>DEAD',
  ].flatMap((line) => line.split(' ')),
);

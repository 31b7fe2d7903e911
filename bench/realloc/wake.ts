/**
 * Taking a core by a plain wake-up: the host's scheduler lets the woken vCPU preempt the
 * busy one of another VM, or does not. As an equal, over a donor of the idle class, and
 * by a real-time successor: the strongest that a skilled person would set up.
 */
import {
  CONTROL_BYTES,
  OFF_VM_DOORBELL,
  RING_ENTRIES,
  RING_ENTRIES_OFFSET,
  RING_OFFSET,
  SIZE_REQUEST,
  VMS_OFFSET,
  VM_BYTES,
  W_GUEST_VCPU_RESUME_LO,
  W_REQUEST_DUE_HI,
  W_REQUEST_DUE_LO,
  W_REQUEST_FANOUT,
  W_REQUEST_SEQ,
  W_REQUEST_SERVICE_NS,
  W_RING_TAIL,
  W_VM_RING_TAIL,
  W_VM_WAITERS,
} from '../../arbiter/abi/layout.gen.ts';
import { futexWake, mapShared, setSchedFifo, setSchedIdle, setSchedOther } from '../../native/index.ts';
import { Samples } from '../lib/stats.ts';
import type { Rig, RigVm } from '../lib/rig.ts';
import { firstInstruction, rest, RESUMES } from './managed.ts';
import { restUs, RowError, type Measured } from './row.ts';
import { freeze, running, thaw } from './swap.ts';

const SERVICE_NS = 2000;

/**
 * A plain wake-up: a request arrives for a VM whose only vCPU blocks in the host, and
 * the host's scheduler lets it preempt the busy vCPU of the other VM, or does not.
 */
function wakeRow(
  rig: Rig,
  name: string,
  donor: RigVm,
  server: RigVm,
  capacity: number,
  prepare: () => void,
  restore: () => void,
): Measured {
  const samples = new Samples(capacity);
  const page = new Int32Array(mapShared(server.controlPage, CONTROL_BYTES));
  const vm = (VMS_OFFSET + server.slot * VM_BYTES) / 4;
  const doorbell = (VMS_OFFSET + server.slot * VM_BYTES + OFF_VM_DOORBELL) / 4;
  let count = 0;

  function send(): void {
    // The tail lies in the table too; the guest's page is not read back.
    const seq = Atomics.load(rig.words, vm + W_VM_RING_TAIL);
    const entry = (RING_ENTRIES_OFFSET + (seq & (RING_ENTRIES - 1)) * SIZE_REQUEST) / 4;
    page[entry + W_REQUEST_SEQ] = seq;
    page[entry + W_REQUEST_SERVICE_NS] = SERVICE_NS;
    page[entry + W_REQUEST_FANOUT] = 0;
    page[entry + W_REQUEST_DUE_LO] = rig.clock.words[0];
    page[entry + W_REQUEST_DUE_HI] = rig.clock.words[1];
    Atomics.store(rig.words, vm + W_VM_RING_TAIL, (seq + 1) | 0);
    Atomics.store(page, RING_OFFSET / 4 + W_RING_TAIL, (seq + 1) | 0);
    Atomics.add(rig.words, doorbell, 1);
    futexWake(rig.table, doorbell * 4, 1);
  }

  /** Until the server blocks in the host again: only then is the next request a wake-up. */
  function settle(): void {
    for (let i = 0; rig.vmWord(server, W_VM_WAITERS) === 0; i++) {
      if (i > 100_000) throw new RowError(`${name}: the server does not block`);
      rest(rig, 20);
    }
    rest(rig, 40);
  }

  return {
    name,
    samples,
    block(moves) {
      thaw(donor);
      thaw(server);
      prepare();
      settle();
      running(rig, donor);
      try {
        for (let i = 0; i < moves; i++) {
          rest(rig, restUs(count++));
          const before = rig.guest(server, W_GUEST_VCPU_RESUME_LO);
          rig.clock.now();
          const decided = rig.clock.words[0];
          send();
          samples.push(rig.us(decided, firstInstruction(rig, server, RESUMES, before, name)));
          settle();
          running(rig, donor);
        }
      } finally {
        restore();
        freeze([donor, server]);
      }
    },
  };
}

/** The three wake-up rows over one pair: an equal donor, an idle-class donor, a real-time successor. */
export function wakeRows(rig: Rig, donor: RigVm, server: RigVm, capacity: number): Measured[] {
  const donorTid = rig.tid(donor);
  const serverTid = rig.tid(server);
  const nothing = (): void => undefined;
  return [
    wakeRow(rig, 'plain wake-up, nice 0 (preemption floor)', donor, server, capacity, nothing, nothing),
    wakeRow(
      rig,
      'plain wake-up, SCHED_IDLE donor',
      donor,
      server,
      capacity,
      () => setSchedIdle(donorTid),
      () => setSchedOther(donorTid),
    ),
    wakeRow(
      rig,
      'plain wake-up, SCHED_FIFO successor',
      donor,
      server,
      capacity,
      () => setSchedFifo(serverTid, 5),
      () => setSchedOther(serverTid),
    ),
  ];
}

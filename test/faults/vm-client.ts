/** Speaks to one Fluxion, as an arbiter would. */
import { Packr } from 'msgpackr';
import {
  ABI_MAJOR,
  ABI_MINOR,
  CONTROL_BYTES,
  PROTOCOL,
  W_GUEST_VCPU_CRITICAL,
  W_GUEST_VCPU_RUNQ_LEN,
  W_GUEST_VCPU_STATE,
  W_VCPU_HELD,
  W_VCPU_HOST,
  W_VCPU_HOW,
  W_VCPU_PARK_REQ,
  W_VCPU_WORD,
  W_VM_VCPUS,
} from '../../arbiter/abi/layout.gen.ts';
import { guestVcpuBase, tableVcpuBase, vmBase } from '../../arbiter/bridge/words.ts';
import { closeFd, connectUnix, exchangeFrame, mapShared, mapTable } from '../../native/index.ts';

/** In the lab an answer may take its time. */
const PATIENCE_MS = 60_000;
const packr = new Packr({ useRecords: false });

export interface Reply {
  ok: boolean;
  message?: string;
  managed?: boolean;
  state?: string;
}

export class VmClient {
  readonly #fd: number;

  constructor(socket: string) {
    this.#fd = connectUnix(socket, PATIENCE_MS);
    this.ask('hello', { protocol: PROTOCOL, abi_major: ABI_MAJOR, abi_minor: ABI_MINOR });
  }

  ask(op: string, fields: object = {}): Reply & { fds: number[] } {
    const { frame, fds } = exchangeFrame(this.#fd, packr.pack({ id: 1, op, ...fields }), PATIENCE_MS);
    return { ...(packr.unpack(frame) as Reply), fds };
  }

  /** The VM's control page. */
  page(): Int32Array {
    const { fds } = this.ask('attach');
    const page = new Int32Array(mapShared(fds[0], CONTROL_BYTES));
    fds.forEach(closeFd);
    return page;
  }

  /** Of each vCPU: its word, what is held of it, and what its guest says. For people who look for a fault. */
  words(): object[] {
    const { fds, ...status } = this.ask('attach');
    const page = new Int32Array(mapShared(fds[0], CONTROL_BYTES));
    const table = new Int32Array(mapTable(fds[1]));
    fds.forEach(closeFd);
    const { slot } = status as unknown as { slot: number };
    const vcpus = table[vmBase(slot) + W_VM_VCPUS];
    return Array.from({ length: vcpus }, (_, v) => {
      const host = tableVcpuBase(slot, v);
      const guest = guestVcpuBase(0, v);
      return {
        ...{ word: table[host + W_VCPU_WORD].toString(16), held: table[host + W_VCPU_HELD] },
        ...{ how: table[host + W_VCPU_HOW], host: table[host + W_VCPU_HOST] },
        ...{ asked: table[host + W_VCPU_PARK_REQ], state: page[guest + W_GUEST_VCPU_STATE] },
        ...{ queued: page[guest + W_GUEST_VCPU_RUNQ_LEN], critical: page[guest + W_GUEST_VCPU_CRITICAL] },
      };
    });
  }

  close(): void {
    closeFd(this.#fd);
  }
}

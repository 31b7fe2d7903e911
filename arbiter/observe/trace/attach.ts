/** Gets at a VM's trace rings: its Fluxion hands over the control page. */
import { fstatSync } from 'node:fs';
import { closeFd, mapShared, mapTable, unmap } from '../../../native/index.ts';
import {
  CONTROL_BYTES,
  HOT_BYTES,
  MAX_VCPUS,
  TRACE_BYTES,
  TRACE_OFFSET,
  VCPUS_OFFSET,
  VCPU_BYTES,
  VCPU_HOST_OFFSET,
  W_HOST_VCPU_TRACE_UNTIL,
  W_TABLE_STAMP_SHIFT,
  W_TABLE_TSC_KHZ,
} from '../../abi/layout.gen.ts';
import { ControlError } from '../../control/protocol.ts';
import { attachFluxion } from '../../vm/fluxion.ts';

const TIMEOUT_MS = 5000;

export class TraceTarget {
  readonly name: string;
  readonly vcpus: number;
  readonly tscKhz: number;
  readonly stampShift: number;
  /** The ring of each vCPU. */
  readonly rings: Int32Array[];
  private readonly lines: Int32Array;
  private readonly buffers: ArrayBuffer[];

  /** Throws what to do if the VM cannot be traced. `socket`: its Fluxion's. */
  constructor(name: string, socket: string) {
    const { socket: connection, page, table, reply } = attachFluxion(socket, TIMEOUT_MS);
    try {
      // How long the page is decides, not what stands in it: its guest may write there.
      if (fstatSync(page).size < CONTROL_BYTES) {
        throw new ControlError(
          'version',
          `the VM ${name} was started by an older version, which cannot trace`,
          `Stop it and start it again: hyperflux stop ${name}`,
        );
      }
      this.name = name;
      this.vcpus = Math.min(Math.max(reply.vcpus, 1), MAX_VCPUS);
      const header = mapTable(table);
      const words = new Int32Array(header);
      this.tscKhz = words[W_TABLE_TSC_KHZ] >>> 0 || 1;
      this.stampShift = words[W_TABLE_STAMP_SHIFT] & 63;
      unmap(header);
      const lines = mapShared(page, HOT_BYTES);
      const rings = mapShared(page, this.vcpus * TRACE_BYTES, { offset: TRACE_OFFSET });
      this.buffers = [lines, rings];
      this.lines = new Int32Array(lines);
      this.rings = Array.from(
        { length: this.vcpus },
        (_, v) => new Int32Array(rings, v * TRACE_BYTES, TRACE_BYTES / 4),
      );
    } finally {
      [connection, page, table].forEach(closeFd);
    }
  }

  /** Tells all vCPUs until when to record; 0: not at all. In stamps. */
  record(until: number): void {
    for (let v = 0; v < this.vcpus; v++) {
      const line = (VCPUS_OFFSET + v * VCPU_BYTES + VCPU_HOST_OFFSET) / 4;
      Atomics.store(this.lines, line + W_HOST_VCPU_TRACE_UNTIL, until);
    }
  }

  close(): void {
    this.buffers.forEach(unmap);
  }
}

/**
 * Looking into a running VM: its control page and the hand-off table, got from its
 * Fluxion's socket. This does not manage the VM; whoever does is not disturbed.
 */
import { attachFluxion } from '../../arbiter/vm/fluxion.ts';
import { closeFd, unmap } from '../../native/index.ts';
import { mapPage, mapTable, vmFigures } from './watch.ts';
import type { VmFigures } from './watch.ts';

export interface AttachedVm {
  slot: number;
  figures: VmFigures;
  table: Int32Array;
  tableBuffer: ArrayBuffer;
  /** The control page's file, for a releaser. */
  pageFd: number;
  close(): void;
}

const TIMEOUT_MS = 5000;

export function attach(socketPath: string): AttachedVm {
  const { socket, page, table, reply } = attachFluxion(socketPath, TIMEOUT_MS);
  // The descriptors stay good without the connection, which would only have to be watched.
  closeFd(socket);
  const buffers: ArrayBuffer[] = [];
  const close = (): void => {
    for (const buffer of buffers.splice(0)) unmap(buffer);
    closeFd(page);
    closeFd(table);
  };
  try {
    const pageBuffer = mapPage(page);
    buffers.push(pageBuffer);
    const tableBuffer = mapTable(table);
    buffers.push(tableBuffer);
    const words = new Int32Array(tableBuffer);
    const figures = vmFigures(words, new Int32Array(pageBuffer), reply.slot, reply.vcpus);
    return { slot: reply.slot, figures, table: words, tableBuffer, pageFd: page, close };
  } catch (error) {
    close();
    throw error;
  }
}

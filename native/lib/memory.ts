// SPDX-License-Identifier: Apache-2.0
/** Pages that several processes look at. */
import { addon } from './addon.ts';
import { CONTROL_BYTES, HOT_BYTES, TABLE_BYTES } from '../../arbiter/abi/layout.gen.ts';

/**
 * A memory file of fixed length: sealed against shrinking, growing and further seals. The descriptor is closed on
 * exec; pass it to a child through `stdio` of spawn.
 */
export const createSealedMemfd: (name: string, bytes: number) => number = addon.createSealedMemfd;

/** A new control page. */
export const createControlPage = (name: string): number => createSealedMemfd(name, CONTROL_BYTES);

/** The file of a new hand-off table, to be mapped and given to `initTable`. */
export const createTable = (name = 'hyperflux-table'): number => createSealedMemfd(name, TABLE_BYTES);

export interface MapOptions {
  /** Where in the file to begin, in whole pages. */
  offset?: number;
  /**
   * Refuse a file that is not sealed against shrinking and growing. Only for files of this process's own making may
   * it be false: whoever truncates a mapped file kills the reader by SIGBUS.
   */
  expectSealed?: boolean;
}

/**
 * Maps a file, populated, shared, for reading and writing. The descriptor may be closed afterwards. The pages are
 * unmapped when the last buffer over them is collected or given to `unmap`.
 */
export function mapShared(
  fd: number,
  bytes: number,
  { offset = 0, expectSealed = true }: MapOptions = {},
): ArrayBuffer {
  return addon.mapShared(fd, bytes, offset, expectSealed);
}

/**
 * Puts the first pages of a sealed file under a mapping in place of those that are there: in all threads, and for
 * bridges and releasers over it, too. The buffer stays the same object, so code compiled for it stays good.
 */
export const remapShared: (buffer: ArrayBuffer, fd: number) => void = addon.remapShared;

/**
 * Maps a hand-off table and checks it: the one way to look at a table of somebody else's. Where kFlux moves the cores,
 * the words of cores and vCPUs are its own, so its pages are mapped over the table's, read-only: whoever writes there
 * is killed by SIGSEGV.
 */
export function mapTable(fd: number): ArrayBuffer {
  const table = mapShared(fd, TABLE_BYTES);
  addon.tableCheck(table);
  addon.tableOverlay(table);
  return table;
}

/** `remapShared` for a table, kFlux's pages included. */
export function remapTable(window: ArrayBuffer, fd: number): void {
  remapShared(window, fd);
  addon.tableOverlay(window);
}

/**
 * The process-wide number of a mapping, to hand to a worker: it makes a buffer over the same pages of it by
 * `wrapShared`. The buffer must be kept until then; after that each has its own hold.
 */
export const shareId: (buffer: ArrayBuffer) => number = addon.shareId;

/** Another ArrayBuffer over a mapping of this process. Throws `ENOENT` if nobody holds it any more. */
export const wrapShared: (id: number) => ArrayBuffer = addon.wrapShared;

/**
 * Gives a buffer up at once instead of at garbage collection: it and the typed arrays over it get length 0. The pages
 * stay for other buffers, bridges, releasers and watches over them.
 */
export const unmap: (buffer: ArrayBuffer) => void = addon.unmap;

/**
 * The hot parts of many control pages behind one ArrayBuffer. Slots without a VM read as zero. A loop's typed arrays
 * over it stay the same objects while VMs come and go.
 */
export class Arena {
  readonly buffer: ArrayBuffer;
  readonly slots: number;
  readonly stride: number;

  private constructor(buffer: ArrayBuffer) {
    this.buffer = buffer;
    ({ slots: this.slots, stride: this.stride } = addon.arenaShape(buffer));
  }

  /** `stride` is a number of bytes in whole pages, HOT_BYTES at least. */
  static reserve(slots: number, stride: number = HOT_BYTES): Arena {
    return new Arena(addon.arenaReserve(slots, stride));
  }

  /** The same arena in another thread. Attaching and detaching is seen by all threads, whoever does it. */
  static wrap(id: number): Arena {
    return new Arena(wrapShared(id));
  }

  /** For `Arena.wrap` in another thread of this process. */
  get id(): number {
    return shareId(this.buffer);
  }

  /** Puts the first HOT_BYTES of a control page into a slot. Whatever was there is replaced. */
  attach(slot: number, controlPageFd: number): void {
    addon.arenaAttach(this.buffer, slot, controlPageFd);
  }

  /** Back to zero pages. */
  detach(slot: number): void {
    addon.arenaDetach(this.buffer, slot);
  }
}

export function reserveArena(slots: number, stride: number = HOT_BYTES): Arena {
  return Arena.reserve(slots, stride);
}

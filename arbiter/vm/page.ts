/**
 * Whether what a Fluxion handed over is a control page that this arbiter understands.
 * A page that is not leaves its VM unmanaged and running; nobody else notices.
 */
import {
  ABI_MAJOR,
  CONTROL_MAGIC,
  HEADER_OFFSET,
  HOT_BYTES,
  SIZE_HEADER,
  W_HEADER_ABI_MAJOR,
  W_HEADER_ABI_MINOR,
  W_HEADER_BYTES,
  W_HEADER_MAGIC,
  W_HEADER_SLOT,
} from '../abi/layout.gen.ts';
import { FluxionError } from './fluxion.ts';

/** Throws a FluxionError that says what is wrong and names both versions. `arena`: the page is in slot `slot` of it. */
export function checkPage(arena: ArrayBuffer, slot: number): void {
  // Copied once: the guest may change it while it is looked at.
  const header = new Int32Array(arena, slot * HOT_BYTES + HEADER_OFFSET, Math.floor(SIZE_HEADER / 4)).slice();
  const magic = header[W_HEADER_MAGIC] >>> 0;
  if (magic !== CONTROL_MAGIC) {
    throw new FluxionError(
      'state',
      `its control page has the magic 0x${magic.toString(16)} instead of 0x${CONTROL_MAGIC.toString(16)}`,
    );
  }
  if (header[W_HEADER_ABI_MAJOR] !== ABI_MAJOR) {
    const theirs = `${header[W_HEADER_ABI_MAJOR]}.${header[W_HEADER_ABI_MINOR]}`;
    throw new FluxionError('version', `its control page has ABI ${theirs}, this arbiter speaks ${ABI_MAJOR}`);
  }
  // A page of an older minor is shorter, and has all that the loop reads.
  if (header[W_HEADER_BYTES] < HOT_BYTES || header[W_HEADER_SLOT] !== slot) {
    throw new FluxionError('state', 'its control page contradicts the hand-off table');
  }
}

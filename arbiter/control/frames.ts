/**
 * Frames of the control protocol: a u32, little endian, then so many bytes of
 * MessagePack. The limit is checked per frame, before anything is kept for it.
 */
import { Packr } from 'msgpackr';
import { FRAME_MAX } from '../abi/layout.gen.ts';

export { FRAME_MAX };

const packr = new Packr({ useRecords: false, variableMapSize: true, int64AsType: 'number' });

export class FrameError extends Error {
  readonly code = 'frame';
  readonly hint =
    'A frame is a u32, little endian, the number of bytes that follow, then one MessagePack map.';
}

export function encodeFrame(message: object): Buffer {
  const body = packr.pack(message);
  if (body.length > FRAME_MAX)
    throw new FrameError(`the message has ${body.length} bytes, ${FRAME_MAX} are possible`);
  const frame = Buffer.allocUnsafe(4 + body.length);
  frame.writeUInt32LE(body.length);
  body.copy(frame, 4);
  return frame;
}

export function decodeBody(body: Uint8Array): Record<string, unknown> {
  let message: unknown;
  try {
    message = packr.unpack(body);
  } catch {
    throw new FrameError('the frame is not MessagePack');
  }
  // Nothing but a map becomes a plain object; msgpackr has values of its own for what is no MessagePack at all.
  if (
    typeof message !== 'object' ||
    message === null ||
    Object.getPrototypeOf(message) !== Object.prototype
  ) {
    throw new FrameError('the frame is not a MessagePack map');
  }
  return message as Record<string, unknown>;
}

/** Cuts a byte stream into bodies. Holds what has arrived, never what was only announced. */
export class FrameReader {
  private parts: Buffer[] = [];
  private size = 0;

  /** Bytes of a frame that is not whole yet. */
  get pending(): number {
    return this.size;
  }

  push(data: Buffer): void {
    this.parts.push(data);
    this.size += data.length;
  }

  /** The next whole body, or undefined. Throws FrameError for a length that cannot be. */
  next(): Buffer | undefined {
    if (this.size < 4) return undefined;
    if (this.parts[0].length < 4) this.join();
    const length = this.parts[0].readUInt32LE();
    if (length === 0) throw new FrameError('an empty frame');
    if (length > FRAME_MAX) throw new FrameError(`a frame of ${length} bytes; ${FRAME_MAX} are possible`);
    if (this.size < 4 + length) return undefined;
    this.join();
    const all = this.parts[0];
    const rest = all.subarray(4 + length);
    this.parts = rest.length > 0 ? [rest] : [];
    this.size = rest.length;
    return all.subarray(4, 4 + length);
  }

  private join(): void {
    if (this.parts.length > 1) this.parts = [Buffer.concat(this.parts, this.size)];
  }
}

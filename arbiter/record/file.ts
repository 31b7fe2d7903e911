/**
 * The file: a head that says what was recorded, blocks of turns with a checksum each,
 * and an end, so that a file which was cut off is known to be.
 *
 *   "FLUXTURN", version, bytes of the head, its checksum, the head in JSON
 *   blocks: "TURN", bytes, turns, number of the first, checksum, turns with their lengths before them
 *   "ENDS", turns of all blocks, turns lost while recording, checksum of both
 *
 * Numbers are 32 bits, little-endian. Checksums are CRC-32.
 */
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import { z } from 'zod';
import { FORMAT } from './format.ts';
import { BadTurn, TurnReader } from './turns.ts';

const MAGIC = 'FLUXTURN';
const BLOCK = 'TURN';
const END = 'ENDS';
const FIXED_BYTES = 8 + 3 * 4;
const BLOCK_BYTES = 4 + 4 * 4;
const END_BYTES = 4 + 3 * 4;
/** A block is written when there is so much. */
const BLOCK_SIZE = 1 << 16;

const headSchema = z.strictObject({
  policy: z.string(),
  params: z.record(z.string(), z.number()),
  /** Core numbers, by index. */
  cores: z.array(z.int()),
  /** Names of the VMs, by slot. */
  vms: z.record(z.string(), z.string()),
  tsc_khz: z.number().positive(),
  stamp_shift: z.int().min(0).max(31),
  fields: z.strictObject({ vm: z.array(z.string()), core: z.array(z.string()), ages: z.array(z.string()) }),
});
export type Head = z.infer<typeof headSchema>;

export const stampsPerUs = ({ tsc_khz, stamp_shift }: Head): number => tsc_khz / 1000 / 2 ** stamp_shift;

function words(tag: string, numbers: readonly number[]): Buffer {
  const bytes = Buffer.alloc(4 + 4 * numbers.length);
  bytes.write(tag, 0, 'latin1');
  numbers.forEach((n, i) => bytes.writeUInt32LE(n >>> 0, 4 + 4 * i));
  return bytes;
}

export class RecordingWriter {
  turns = 0;
  bytes = 0;
  readonly #file: number;
  #parts: Buffer[] = [];
  #size = 0;
  #first = 0;

  constructor(path: string, head: Head) {
    this.#file = openSync(path, 'w', 0o600);
    const json = Buffer.from(JSON.stringify(head));
    const fixed = Buffer.alloc(FIXED_BYTES);
    fixed.write(MAGIC, 0, 'latin1');
    [FORMAT, json.length, crc32(json)].forEach((n, i) => fixed.writeUInt32LE(n, 8 + 4 * i));
    this.#write(fixed);
    this.#write(json);
  }

  /** A turn with its length before it, as the ring has it. The bytes are kept. */
  add(framed: Buffer): void {
    this.#parts.push(framed);
    this.#size += framed.length;
    this.turns++;
    if (this.#size >= BLOCK_SIZE) this.#flush();
  }

  close(lost: number): void {
    this.#flush();
    const numbers = words('', [this.turns, lost]).subarray(4);
    this.#write(words(END, [this.turns, lost, crc32(numbers)]));
    closeSync(this.#file);
  }

  #flush(): void {
    if (this.#parts.length === 0) return;
    const body = Buffer.concat(this.#parts);
    this.#write(words(BLOCK, [body.length, this.#parts.length, this.#first, crc32(body)]));
    this.#write(body);
    this.#parts = [];
    this.#size = 0;
    this.#first = this.turns;
  }

  #write(bytes: Buffer): void {
    writeSync(this.#file, bytes);
    this.bytes += bytes.length;
  }
}

/** What is wrong with a recording, and where. */
export class BadRecording extends Error {
  readonly code = 'request';
  readonly hint = 'What comes before it is whole; the rest cannot be trusted. Record anew: hyperflux record';
}

/** Reads a whole recording. `turn` is called with each turn in the reader. Throws BadRecording. */
export class RecordingReader {
  readonly head: Head;
  readonly turns: TurnReader;
  lost = 0;
  readonly #bytes: Buffer;
  readonly #path: string;
  readonly #start: number;

  constructor(path: string, bytes: Buffer = readFileSync(path)) {
    this.#path = path;
    this.#bytes = bytes;
    if (bytes.length < FIXED_BYTES || bytes.toString('latin1', 0, 8) !== MAGIC)
      throw this.#bad(0, 'this is not a recording of hyperflux record');
    const version = bytes.readUInt32LE(8);
    if (version !== FORMAT)
      throw this.#bad(8, `it has format ${version}, and this version reads format ${FORMAT}`);
    const length = bytes.readUInt32LE(12);
    if (FIXED_BYTES + length > bytes.length) throw this.#bad(FIXED_BYTES, 'it ends within its head');
    const json = bytes.subarray(FIXED_BYTES, FIXED_BYTES + length);
    if (crc32(json) !== bytes.readUInt32LE(16)) throw this.#bad(FIXED_BYTES, "the head's checksum is wrong");
    const head = headSchema.safeParse(JSON.parse(json.toString()));
    if (!head.success) throw this.#bad(FIXED_BYTES, `the head is not one: ${z.prettifyError(head.error)}`);
    this.head = head.data;
    this.#start = FIXED_BYTES + length;
    try {
      this.turns = new TurnReader(this.head.fields);
    } catch (cause) {
      throw this.#bad(FIXED_BYTES, (cause as Error).message);
    }
  }

  /** Goes through all turns; `each` gets the number of the one in `turns`. Returns how many there were. */
  forEach(each: (turn: number) => void): number {
    const bytes = this.#bytes;
    let at = this.#start;
    let turn = 0;
    for (let block = 0; ; block++) {
      const where = (offset: number, what: string): BadRecording =>
        this.#bad(offset, `block ${block}, turn ${turn}: ${what}`);
      if (at + 4 > bytes.length) throw where(at, 'it ends here, and no end was written');
      const tag = bytes.toString('latin1', at, at + 4);
      if (tag === END) return this.#end(at, turn, where);
      if (tag !== BLOCK) throw where(at, 'no block begins here');
      if (at + BLOCK_BYTES > bytes.length) throw where(at, 'it ends within the head of the block');
      const [size, count, first, sum] = [0, 1, 2, 3].map((i) => bytes.readUInt32LE(at + 4 + 4 * i));
      const from = at + BLOCK_BYTES;
      if (from + size > bytes.length)
        throw where(at, `it ends within the block: ${bytes.length - from} of its ${size} bytes are there`);
      const body = bytes.subarray(from, from + size);
      if (first !== turn) throw where(at, `the block begins with turn ${first}`);
      if (crc32(body) !== sum) throw where(at, "the block's checksum is wrong");
      let inner = 0;
      for (let i = 0; i < count; i++, turn++) {
        const length = inner + 3 <= size ? lengthAt(body, inner) : 0;
        if (length === 0 || inner + 3 + length > size)
          throw where(from + inner, 'the turn does not fit into the block');
        try {
          this.turns.read(body.subarray(inner + 3, inner + 3 + length));
        } catch (cause) {
          if (!(cause instanceof BadTurn)) throw cause;
          throw where(from + inner + 3 + cause.offset, cause.message);
        }
        each(turn);
        inner += 3 + length;
      }
      if (inner !== size) throw where(from + inner, 'the block is longer than its turns');
      at = from + size;
    }
  }

  #end(at: number, turns: number, where: (offset: number, what: string) => BadRecording): number {
    const bytes = this.#bytes;
    if (at + END_BYTES > bytes.length) throw where(at, 'it ends within its end');
    const numbers = bytes.subarray(at + 4, at + 12);
    if (crc32(numbers) !== bytes.readUInt32LE(at + 12)) throw where(at, "the end's checksum is wrong");
    if (bytes.readUInt32LE(at + 4) !== turns)
      throw where(at, `there should be ${bytes.readUInt32LE(at + 4)} turns`);
    if (at + END_BYTES !== bytes.length) throw where(at + END_BYTES, 'something follows the end');
    this.lost = bytes.readUInt32LE(at + 8);
    return turns;
  }

  #bad(offset: number, what: string): BadRecording {
    return new BadRecording(`${this.#path}, byte ${offset}: ${what}`);
  }
}

/** The length before a turn: three bytes of seven bits. */
export const lengthAt = (bytes: Uint8Array, at: number): number =>
  (bytes[at] & 127) | ((bytes[at + 1] & 127) << 7) | (bytes[at + 2] << 14);

/** The built parts that VMs are made of: where they are, and what to do if they are not. */
import { closeSync, existsSync, openSync, readFileSync, readSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { ControlError } from '../control/protocol.ts';

const at = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const target = 'guest-libos/target/x86_64-unknown-linux-gnu/release';

/** HYPERFLUX_FLUXION, HYPERFLUX_IMAGE and HYPERFLUX_HOSTED name others than those that were built here. */
export const artifacts = {
  get fluxion(): string {
    return process.env.HYPERFLUX_FLUXION ?? at('vmm/target/release/fluxion');
  },
  get image(): string {
    return process.env.HYPERFLUX_IMAGE ?? at(`${target}/fluxos`);
  },
  get hosted(): string {
    return process.env.HYPERFLUX_HOSTED ?? at(`${target}/fluxos-hosted`);
  },
};

export function needBuilt(path: string, what: string): string {
  if (existsSync(path)) return path;
  throw new ControlError('failed', `${what} is not built: there is no ${path}`, 'Build it: npm run setup');
}

/** Refuses early, and by name, what Fluxion would refuse later in its log. */
export function checkImage(path: string): string {
  let fd: number;
  try {
    if (!statSync(path).isFile()) throw Object.assign(new Error('it is no file'), { code: 'EISDIR' });
    fd = openSync(path, 'r');
  } catch (error) {
    const why =
      (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'there is no such file' : (error as Error).message;
    throw new ControlError(
      'image',
      `cannot read the image ${path}: ${why}`,
      'Give --image the path of a FluxOS image; without it the built one is used.',
    );
  }
  const head = Buffer.alloc(20);
  const length = readSync(fd, head, 0, head.length, 0);
  closeSync(fd);
  const elf = length === head.length && head.readUInt32BE(0) === 0x7f454c46 && head[4] === 2;
  if (!elf) {
    throw new ControlError(
      'image',
      `the image ${path} is not a 64-bit ELF file`,
      'A FluxOS image is built by: npm run setup',
    );
  }
  if (head.readUInt16LE(18) !== 62) {
    throw new ControlError(
      'image',
      `the image ${path} is not for x86-64`,
      'A FluxOS image is built by: npm run setup',
    );
  }
  return path;
}

const NOTE_SEGMENT = 4;

/** The ABI that an image was built for, from its ELF note; undefined if it has none. */
export function imageAbi(path: string): { major: number; minor: number } | undefined {
  checkImage(path);
  const file = readFileSync(path);
  const headers = Number(file.readBigUInt64LE(32));
  const size = file.readUInt16LE(54);
  const count = file.readUInt16LE(56);
  for (let i = 0; i < count; i++) {
    const at = headers + i * size;
    if (at + 56 > file.length || file.readUInt32LE(at) !== NOTE_SEGMENT) continue;
    const from = Number(file.readBigUInt64LE(at + 8));
    const found = versionNote(file.subarray(from, from + Number(file.readBigUInt64LE(at + 32))));
    if (found !== undefined) return found;
  }
  return undefined;
}

/** Notes are name, type and contents, each padded to 4 bytes. Type 1 of HyperFlux is the version. */
function versionNote(notes: Buffer): { major: number; minor: number } | undefined {
  const padded = (length: number): number => (length + 3) & ~3;
  for (let at = 0; at + 12 <= notes.length;) {
    const [nameSize, size, type] = [0, 4, 8].map((offset) => notes.readUInt32LE(at + offset));
    const name = notes.subarray(at + 12, at + 12 + nameSize).toString('latin1');
    const contents = at + 12 + padded(nameSize);
    if (name === 'HyperFlux\0' && type === 1 && contents + 8 <= notes.length) {
      return { major: notes.readUInt32LE(contents), minor: notes.readUInt32LE(contents + 4) };
    }
    at = contents + padded(size);
  }
  return undefined;
}

/** Writes an initramfs in the kernel's "newc" format. Archives that are joined are unpacked one after the other. */
import { labError } from './fail.ts';

export type Node =
  | { kind: 'folder'; path: string }
  | { kind: 'file'; path: string; mode: number; data: Buffer }
  | { kind: 'link'; path: string; target: string };

const TYPE = { folder: 0o040000, file: 0o100000, link: 0o120000 };

const padding = (length: number): Buffer => Buffer.alloc((4 - (length % 4)) % 4);

function record(name: string, mode: number, inode: number, data: Buffer): Buffer[] {
  const path = Buffer.from(`${name}\0`);
  const fields = [inode, mode, 0, 0, 1, 0, data.length, 0, 0, 0, 0, path.length, 0];
  const head = Buffer.concat([
    Buffer.from(`070701${fields.map((value) => value.toString(16).padStart(8, '0')).join('')}`),
    path,
  ]);
  return [head, padding(head.length), data, padding(data.length)];
}

export function cpio(nodes: readonly Node[]): Buffer {
  const parts: Buffer[] = [];
  const seen = new Set<string>();
  let inode = 1;
  const put = (name: string, mode: number, data: Buffer = Buffer.alloc(0)): void => {
    parts.push(...record(name, mode, inode++, data));
    seen.add(name);
  };
  /** The kernel makes no folder by itself. */
  const parents = (path: string): void => {
    const names = path.split('/').slice(0, -1);
    for (let i = 1; i <= names.length; i++) {
      const folder = names.slice(0, i).join('/');
      if (!seen.has(folder)) put(folder, TYPE.folder | 0o755);
    }
  };
  for (const node of nodes) {
    const path = node.path.replace(/^\/+/, '');
    if (path === '' || path.length > 4000)
      throw labError(`cannot put "${node.path}" into an initramfs`, 'This is a mistake in the lab.');
    parents(path);
    if (node.kind === 'folder') {
      if (!seen.has(path)) put(path, TYPE.folder | 0o755);
    } else if (node.kind === 'link') put(path, TYPE.link | 0o777, Buffer.from(node.target));
    else put(path, TYPE.file | (node.mode & 0o777), node.data);
  }
  put('TRAILER!!!', 0);
  return Buffer.concat(parts);
}

/** Reads what a module file says about itself, without the modinfo program. */
import { readFileSync } from 'node:fs';
import { isSigned } from './security.ts';

export interface ModuleFile {
  version?: string;
  /** The kernel that it was built for, with the options that must agree. */
  vermagic?: string;
  /** The first word of vermagic. */
  release: string;
  signed: boolean;
}

/** Undefined if the file cannot be read or is no module (its .modinfo section holds name=value, NUL between them). */
export function readModule(path: string): ModuleFile | undefined {
  let file: Buffer;
  try {
    file = readFileSync(path);
  } catch {
    return undefined;
  }
  const value = (name: string): string | undefined => {
    // The first of the section has something else before it; "srcversion=" is not "version=".
    for (let at = file.indexOf(`${name}=`); at >= 0; at = file.indexOf(`${name}=`, at + 1)) {
      if (at > 0 && /\w/.test(String.fromCharCode(file[at - 1]))) continue;
      const from = at + name.length + 1;
      return file.subarray(from, file.indexOf(0, from)).toString('utf8');
    }
    return undefined;
  };
  const vermagic = value('vermagic');
  if (vermagic === undefined) return undefined;
  return { version: value('version'), vermagic, release: vermagic.split(' ')[0], signed: isSigned(file) };
}

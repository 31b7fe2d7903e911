/** What DKMS knows about the module. */
import type { Host } from './host.ts';
import { MODULE } from './names.ts';

/** Where DKMS looks for the sources of a version. */
export const dkmsSource = (version: string): string => `/usr/src/${MODULE}-${version}`;

export interface DkmsEntry {
  version: string;
  /** Empty for sources that were only added. */
  release: string;
  state: string;
}

/** Lines of `dkms status`: "kflux/0.1.0, 6.1.0-56-amd64, x86_64: installed", "kflux/0.1.0: added"; before DKMS 3 a comma stands for the slash. */
export function parseStatus(text: string): DkmsEntry[] {
  const pattern = new RegExp(`^${MODULE}(?:/|, )([^,:\\s]+)(?:, ([^,\\s]+), [^,:\\s]+)?: (\\w+)`, 'gm');
  return [...text.matchAll(pattern)].map((match) => ({
    version: match[1],
    release: match[2] ?? '',
    state: match[3],
  }));
}

export async function dkmsStatus(host: Host): Promise<DkmsEntry[]> {
  const dkms = host.find('dkms');
  return dkms === undefined ? [] : parseStatus((await host.run([dkms, 'status', MODULE])).output);
}

export const dkmsVersions = async (host: Host): Promise<string[]> => [
  ...new Set((await dkmsStatus(host)).map(({ version }) => version)),
];

export const dkmsInstalled = async (host: Host, version: string, release: string): Promise<boolean> =>
  (await dkmsStatus(host)).some(
    (entry) => entry.version === version && entry.release === release && entry.state === 'installed',
  );

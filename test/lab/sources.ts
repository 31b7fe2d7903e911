/** Which Debian mirror to use: the host's own if it is Debian, else the public one. Pure: texts in, texts out. */

/** The lab's kernels and its QEMU are of this release, whatever the host runs. */
export const SUITE = 'bookworm';
export const BACKPORTS = `${SUITE}-backports`;
const PUBLIC = 'http://deb.debian.org/debian';

export interface Mirrors {
  main: string;
  security: string;
  /** The keys that the host trusts for it. */
  signedBy?: string;
}

interface Source {
  uri: string;
  suites: string[];
  signedBy?: string;
}

/** One line of the old format: deb [options] uri suite components... */
function parseLine(line: string): Source[] {
  const found = /^deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)/.exec(line.trim());
  if (found === null) return [];
  const signedBy = /(?:^|\s)signed-by=(\S+)/i.exec(found[1] ?? '')?.[1];
  return [{ uri: found[2], suites: [found[3]], signedBy }];
}

/** A stanza of the new format: "Key: values", continued by lines that begin with white space. */
function parseStanza(stanza: string): Source[] {
  const fields = new Map<string, string>();
  let key = '';
  for (const line of stanza.split('\n')) {
    if (line.startsWith('#')) continue;
    const field = /^([A-Za-z-]+):(.*)$/.exec(line);
    if (field !== null) fields.set((key = field[1].toLowerCase()), field[2].trim());
    else if (key !== '' && /^\s/.test(line)) fields.set(key, `${fields.get(key)}\n${line.trim()}`);
  }
  const words = (name: string): string[] => (fields.get(name) ?? '').split(/\s+/).filter((w) => w !== '');
  if (!words('types').includes('deb') || fields.get('enabled')?.toLowerCase() === 'no') return [];
  // A key block that is written into the file itself is no path.
  const signedBy = words('signed-by').length === 1 ? words('signed-by')[0] : undefined;
  return words('uris').map((uri) => ({ uri, suites: words('suites'), signedBy }));
}

export function parseSources(text: string): Source[] {
  if (/^\s*types\s*:/im.test(text)) return text.split(/\n\s*\n/).flatMap(parseStanza);
  return text.split('\n').flatMap(parseLine);
}

/** Debian's archive, also behind a mirror with another name: its suites are what it is known by. */
const isDebian = ({ uri, suites }: Source): boolean =>
  /\/debian\/?$/.test(uri) &&
  suites.some((suite) => /^(bookworm|trixie|forky|sid|stable|testing)/.test(suite));
const isSecurity = ({ suites }: Source): boolean => suites.some((suite) => /-security$/.test(suite));

export function findMirrors(texts: readonly string[], override?: string): Mirrors {
  const trimmed = (uri: string): string => uri.replace(/\/+$/, '');
  if (override) return { main: trimmed(override), security: `${trimmed(override)}-security` };
  const sources = texts.flatMap(parseSources);
  const main = sources.find((source) => isDebian(source) && !isSecurity(source));
  const security = sources.find((source) => /debian-security\/?$/.test(source.uri) && isSecurity(source));
  const uri = trimmed(main?.uri ?? PUBLIC);
  return {
    main: uri,
    security: trimmed(security?.uri ?? `${uri}-security`),
    signedBy: main?.signedBy,
  };
}

export function sourcesList({ main, security }: Mirrors, keyring: string): string {
  const line = (uri: string, suite: string): string => `deb [signed-by=${keyring}] ${uri} ${suite} main`;
  return [
    line(main, SUITE),
    line(main, `${SUITE}-updates`),
    line(main, BACKPORTS),
    line(security, `${SUITE}-security`),
    '',
  ].join('\n');
}

/** What may stand between a built module and the kernel: signatures, lockdown, containers. */
import { readFileSync } from 'node:fs';
import type { Host } from './host.ts';
import { readText } from './host.ts';

export interface Security {
  /** none, integrity, confidentiality; unknown where securityfs is not there or not for this user. */
  lockdown: string;
  secureBoot: boolean | undefined;
  /** The kernel takes signed modules only. */
  signed: boolean;
  /** docker, podman, lxc...; empty outside of containers. */
  container: string;
  /** The kernel can load modules at all. */
  modules: boolean;
}

const SECURE_BOOT = '/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c';

function secureBoot(host: Host): boolean | undefined {
  try {
    // Four bytes of attributes, then the value.
    return readFileSync(host.at(SECURE_BOOT))[4] === 1;
  } catch {
    // No EFI, or efivarfs is not mounted.
    return undefined;
  }
}

function container(host: Host): string {
  if (readText(host, '/.dockerenv') !== undefined) return 'docker';
  if (readText(host, '/run/.containerenv') !== undefined) return 'podman';
  const named = readText(host, '/run/systemd/container');
  if (named !== undefined) return named;
  // Readable by root only.
  return /(?:^|\0)container=([^\0]+)/.exec(readText(host, '/proc/1/environ') ?? '')?.[1] ?? '';
}

export function security(host: Host): Security {
  const lockdown = /\[(\w+)\]/.exec(readText(host, '/sys/kernel/security/lockdown') ?? '')?.[1] ?? 'unknown';
  const enforced = readText(host, '/sys/module/module/parameters/sig_enforce') === 'Y';
  return {
    lockdown,
    secureBoot: secureBoot(host),
    signed: enforced || lockdown === 'integrity' || lockdown === 'confidentiality',
    container: container(host),
    modules: readText(host, '/proc/modules') !== undefined,
  };
}

/** In a few words, for status and doctor. */
export function describeSecurity({
  lockdown,
  secureBoot: boot,
  signed,
  container: inside,
}: Security): string {
  const parts = [lockdown === 'unknown' ? 'lockdown not known' : `lockdown ${lockdown}`];
  if (boot !== undefined) parts.push(`Secure Boot ${boot ? 'on' : 'off'}`);
  parts.push(signed ? 'modules must be signed' : 'modules need no signature');
  if (inside !== '') parts.push(`in a container (${inside})`);
  return parts.join(', ');
}

/** How to get a module signed that was built at `path` with the kernel's build folder. */
export const signHint = (path: string, build: string): string =>
  [
    'This kernel takes signed modules only. Where DKMS is installed it signs with a key of this machine: install dkms,',
    'run hyperflux kmod install, then sudo mokutil --import /var/lib/dkms/mok.pub and reboot to enrol the key. By hand,',
    `with an enrolled key: ${build}/scripts/sign-file sha256 KEY.priv CERT.der ${path}`,
  ].join('\n');

const SIGNATURE = '~Module signature appended~\n';

/** Whether a module file carries a signature; whose, only the kernel can say. */
export const isSigned = (file: Buffer): boolean =>
  file.subarray(-SIGNATURE.length).toString('latin1') === SIGNATURE;

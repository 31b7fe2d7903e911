/** What a run tells the guest: settings for its scripts, and the command, as shell text that is safe for any word. */
import type { Node } from './cpio.ts';
import { GUEST_ROOT } from './paths.ts';

export interface Orders {
  release: string;
  /** Marks the end of what a port says; must not occur in it. */
  token: string;
  kvm: boolean;
  kflux: boolean;
  kfluxOptions: string;
  files: boolean;
  /** Seconds after which the guest itself gives up. */
  timeout: number;
  shell: boolean;
  command: readonly string[];
  env: Readonly<Record<string, string>>;
  terminal?: { rows: number; columns: number; type: string };
}

export const quote = (word: string): string => `'${word.replaceAll("'", `'\\''`)}'`;

const flag = (value: boolean): string => (value ? '1' : '0');

export function orderNodes(orders: Orders): Node[] {
  const text = (path: string, lines: readonly string[]): Node => ({
    kind: 'file',
    path,
    mode: 0o644,
    data: Buffer.from(`${lines.join('\n')}\n`),
  });
  const { rows, columns, type } = orders.terminal ?? { rows: 25, columns: 80, type: 'vt100' };
  return [
    text('lab/settings', [
      `release=${quote(orders.release)}`,
      `product=${quote(GUEST_ROOT)}`,
      `token=${quote(orders.token)}`,
      `kvm=${flag(orders.kvm)}`,
      `kflux=${flag(orders.kflux)}`,
      `kflux_options=${quote(orders.kfluxOptions)}`,
      `files=${flag(orders.files)}`,
      `timeout=${orders.timeout}`,
      `shell=${flag(orders.shell)}`,
    ]),
    text('lab/command', [
      ...Object.entries(orders.env).map(([name, value]) => `export ${name}=${quote(value)}`),
      `exec ${orders.command.map(quote).join(' ')}`,
    ]),
    text('lab/terminal', [`export TERM=${quote(type)}`, `stty rows ${rows} cols ${columns}`]),
  ];
}

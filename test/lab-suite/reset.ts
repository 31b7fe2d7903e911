/** The lab's own word on a machine that vanishes: tried with one that is told to do so by a triple fault. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { EXIT_CRASHED } from '../lab/fail.ts';
import type { SuiteOptions } from './options.ts';

const root = join(import.meta.dirname, '../..');
const SECONDS = 60;

/** Returns what was not as it should be. */
export async function resetIsShown({ kernel, slow }: SuiteOptions): Promise<string[]> {
  const words = [
    'lab',
    '--no-kvm',
    '--no-kflux',
    '--timeout',
    String(SECONDS * slow),
    '--append',
    'reboot=t',
  ];
  const command = `echo b >/proc/sysrq-trigger; sleep ${SECONDS * slow}`;
  const child = spawn(
    join(root, 'hyperflux'),
    [...words, ...(kernel === undefined ? [] : ['--kernel', kernel]), '--exec', '--', 'sh', '-c', command],
    { cwd: root, stdio: ['ignore', 'ignore', 'pipe'] },
  );
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said += text));
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject).on('close', resolve);
  });
  const missing = [/a triple fault/, /CPU#0/, /RIP=[0-9a-f]{16}/, /IDT= +0{16} 0{8}/].filter(
    (pattern) => !pattern.test(said),
  );
  if (code === EXIT_CRASHED && missing.length === 0) return [];
  return [
    `the lab ended with exit code ${code}; not said: ${missing.map(String).join(', ') || 'nothing'}`,
    ...said.trim().split('\n').slice(-20),
  ];
}

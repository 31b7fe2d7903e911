/** `hyperflux lab`: a Debian kernel in QEMU with the product in it; runs a command there and ends as it ended. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { EXIT_CRASHED, EXIT_INTERRUPTED, EXIT_KERNEL, EXIT_LAB, EXIT_TIMEOUT, wrongUsage } from './fail.ts';
import { excerpt, findComplaints, readRecords } from './log.ts';
import type { LabOptions } from './options.ts';
import { chooseCpus, guestCommand } from './options.ts';
import { repository } from './paths.ts';
import { prepare } from './prepare.ts';
import { elapsed, say } from './progress.ts';
import { hostCores } from './qemu.ts';
import { run } from './run.ts';
import type { Session } from './session.ts';
import { boot } from './session.ts';

const SHOWN_LINES = 120;
const SHOWN_COMPLAINTS = 5;
/** Some twenty for each vCPU. */
const SHOWN_REGISTERS = 400;

export async function lab(options: LabOptions, words: readonly string[]): Promise<number> {
  const command = guestCommand(options, words);
  const cpus = chooseCpus(options, words, hostCores().length);
  if (options.shell && !(process.stdin.isTTY && process.stdout.isTTY))
    throw wrongUsage('--shell needs a terminal', 'Without one: hyperflux lab --exec -- sh -c "..."');
  const prepared = await prepare(options);
  if (options.kflux && prepared.kmod === undefined)
    say('kFlux is not there (kmod/ has no Makefile): running without it');
  const started = Date.now();
  const env = { ...(await commit()), ...options.env };
  const session = await boot(prepared, { ...options, env }, command, cpus);
  if (options.out !== undefined) await saveFiles(session, options.out);
  const log = session.kmsg === '' ? consoleLines(session) : readRecords(session.kmsg);
  if (options.dmesg !== undefined) writeFileSync(options.dmesg, log.map((line) => `${line}\n`).join(''));
  const code = judge(session, options, log);
  const up = session.bootMs === undefined ? 'never up' : `up after ${(session.bootMs / 1000).toFixed(1)} s`;
  const cores = session.pinned ? 'pinned' : 'not pinned';
  say(
    `${prepared.kernel.release}, ${cpus} vCPUs (${cores}), ${up}, ended after ${elapsed(started)}, exit code ${code}`,
  );
  return code;
}

/** What is checked out, for the records of benchmarks: there is no git in the lab. */
async function commit(): Promise<Record<string, string>> {
  const git = (...args: string[]): Promise<string> => run(['git', '-C', repository, ...args], { hint: '' });
  try {
    const changed = (await git('status', '--porcelain', '--untracked-files=no')) !== '';
    const id = (await git('rev-parse', '--short=12', 'HEAD')).trim();
    return { HYPERFLUX_COMMIT: `${id}${changed ? '+' : ''}` };
  } catch {
    // No git, or a copy without history.
    return {};
  }
}

const consoleLines = (session: Session): string[] => session.console.replaceAll('\r', '').split('\n');

async function saveFiles({ files }: Session, folder: string): Promise<void> {
  mkdirSync(folder, { recursive: true });
  if (files.length === 0) return say(`the guest gave no files: ${folder} is left as it is`);
  const archive = join(folder, '.lab-out.tar');
  writeFileSync(archive, files);
  const hint = `The archive is kept: ${archive}`;
  await run(['tar', '-x', '-f', archive, '-C', folder, '--no-same-owner'], { hint });
  await run(['rm', archive], { hint });
}

/** What the run comes to, and says what was wrong. */
function judge(session: Session, options: LabOptions, log: readonly string[]): number {
  const { ending } = session;
  if (ending.kind === 'interrupted') {
    say('interrupted: the machine was ended');
    return EXIT_INTERRUPTED;
  }
  if (ending.kind === 'timeout') {
    const what = `not done after ${options.timeout} s (--timeout): the machine was ended`;
    if (session.kmsg === '') showConsole(session, `${what}; it did not answer any more`);
    else showLines(log, `${what}; the kernel's last lines, with what blocked tasks and cores do`);
    return EXIT_TIMEOUT;
  }
  if (ending.kind === 'crashed') {
    showConsole(session, `the machine ended without a result: ${whyItEnded(session)}`);
    const registers = [session.resets, session.stop?.registers ?? '']
      .filter((text) => text !== '')
      .join('\n');
    if (registers !== '') showLines(registers.split('\n'), 'its CPUs, as they were then', SHOWN_REGISTERS);
    return EXIT_CRASHED;
  }
  if (ending.kind === 'broken') {
    showConsole(session, `the guest could not be set up: ${ending.why}`);
    return EXIT_LAB;
  }
  const complaints = options.checkLog ? findComplaints(log) : [];
  if (complaints.length === 0) return ending.code;
  say(`the kernel complained ${complaints.length} times (--no-check-log lets it pass):`);
  let shown = -1;
  for (const complaint of complaints.filter(({ line }) => line > shown).slice(0, SHOWN_COMPLAINTS)) {
    if (complaint.line <= shown) continue;
    const lines = excerpt(log, complaint);
    shown = complaint.line + lines.length - 1;
    process.stderr.write(lines.map((line) => `  | ${line}\n`).join(''));
  }
  return ending.code === 0 ? EXIT_KERNEL : ending.code;
}

/** What is known of the end of a machine that did not say anything itself. */
export function whyItEnded(session: Pick<Session, 'stop' | 'resets' | 'qemuEnd' | 'qemuError'>): string {
  const { stop, resets, qemuEnd, qemuError } = session;
  if (resets !== '') return 'a triple fault';
  if (stop?.reason === 'guest-reset') return 'it reset itself, as after a panic';
  if (stop?.reason === 'guest-shutdown') return 'it switched itself off';
  if (stop !== undefined) return `QEMU stopped it (${stop.reason})`;
  const says = qemuError.trim() === '' ? '' : `; QEMU says: ${qemuError.trim()}`;
  return `QEMU ended, with ${qemuEnd}${says}`;
}

const showConsole = (session: Session, what: string): void =>
  showLines(consoleLines(session), `${what}; the console's last lines`);

function showLines(lines: readonly string[], what: string, most = SHOWN_LINES): void {
  const shown = lines.filter((line) => line.trim() !== '').slice(-most);
  say(`${what}:`);
  process.stderr.write(shown.map((line) => `  | ${line}\n`).join('') || '  | (nothing)\n');
}

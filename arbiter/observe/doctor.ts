/** `hyperflux doctor`: the checks, and which of the four ways to run they allow. */
import type { Check, Level } from './checks.ts';
import {
  check,
  checkCores,
  checkCpuset,
  checkFifo,
  checkFluxion,
  checkGuestImage,
  checkHosted,
  checkKvm,
  checkLab,
  checkLatency,
  checkMemfd,
  checkNode,
  checkRunDirectory,
  checkSmt,
  loadNative,
} from './checks.ts';
import { checkKflux, KFLUX_CHECKS } from './kflux.ts';

export interface Diagnosis {
  ways: Check[];
  checks: Check[];
}

export async function diagnose(): Promise<Diagnosis> {
  const { native, check: addon } = await loadNative();
  const checks = [checkNode(), addon];
  if (native !== undefined) {
    checks.push(checkCores(native), checkMemfd(native), checkRunDirectory(native), checkFifo(native));
  }
  checks.push(checkKvm(), ...checkKflux(), checkFluxion(), checkGuestImage(), checkHosted());
  checks.push(checkCpuset(), checkLatency(), checkSmt(), checkLab());
  return { ways: ways(checks), checks };
}

/** What each way needs of the checks. A warning of these does not stop it, unless it is about the thing itself. */
export function ways(checks: readonly Check[]): Check[] {
  const level = (name: string): Level => checks.find((c) => c.name === name)?.level ?? 'fail';
  const missing = (names: readonly string[], must: readonly string[]): string[] => [
    ...names.filter((name) => level(name) === 'fail'),
    ...must.filter((name) => level(name) !== 'ok'),
  ];
  const base = ['node', 'addon', 'cores', 'memory', 'directory'];
  const way = (name: string, what: string, lacks: readonly string[], otherwise: Level): Check =>
    lacks.length === 0
      ? check(name, 'ok', what)
      : check(name, otherwise, `${what}; it lacks: ${lacks.join(', ')}`, `See ${lacks.join(', ')} below.`);
  return [
    way(
      'full',
      'KVM guests, cores moved by the kernel module',
      missing(
        [...base, 'fluxion', 'image'],
        // Of the module's checks only those that were made: without the module there is no device to look at.
        ['kvm', 'kflux', ...KFLUX_CHECKS.slice(1).filter((name) => checks.some((c) => c.name === name))],
      ),
      'warn',
    ),
    way(
      'unprivileged',
      'KVM guests, cores moved by affinity and futex',
      missing([...base, 'fluxion', 'image'], ['kvm']),
      'warn',
    ),
    way(
      'hosted',
      'guests as ordinary Linux processes, cores moved by affinity and futex',
      missing([...base, 'hosted'], []),
      'fail',
    ),
    way('lab', 'the full stack in QEMU, on any machine', missing(['node'], ['qemu']), 'warn'),
  ];
}

export interface Chosen {
  name: string;
  why: string;
}

/** The way that start takes here: the first that lacks nothing. What the better ones lack is why it is not them. */
export function chosen(all: readonly Check[]): Chosen {
  const order = all.filter(({ name }) => name !== 'lab');
  const at = order.findIndex(({ level }) => level === 'ok');
  if (at < 0) return { name: 'none', why: 'each way lacks something' };
  const lacks = order
    .slice(0, at)
    .map(({ name, text }) => `${name} lacks ${text.split('it lacks: ')[1] ?? '?'}`);
  return { name: order[at].name, why: lacks.length === 0 ? 'nothing is lacking' : lacks.join('; ') };
}

/** A host on which no way runs at all is not healthy. */
export const healthy = ({ ways }: Diagnosis): boolean =>
  ways.some(({ name, level }) => (name === 'unprivileged' || name === 'hosted') && level === 'ok');

export function renderDiagnosis({ ways, checks }: Diagnosis): string {
  const line = ({ name, level, text, next }: Check): string =>
    `${level.padEnd(5)} ${name.padEnd(13)} ${text}${level === 'ok' || next === '' ? '' : `\n${' '.repeat(20)}${next}`}`;
  const { name, why } = chosen(ways);
  return [
    ...['Ways to run here:', ...ways.map(line), `chosen: ${name} (${why})`],
    ...['', 'Checks:', ...checks.map(line)],
  ].join('\n');
}

/** What a run of the lab is asked for. */
import { wrongUsage } from './fail.ts';

export type TcgThreads = 'multi' | 'single';

export interface LabOptions {
  /** A Debian kernel's name, or the folder of a built one. */
  kernel: string;
  cpus?: number;
  /** How QEMU runs the vCPUs: each in a thread of its own, or all by turns in one. */
  tcg: TcgThreads;
  memoryMib: number;
  /** Seconds; the machine is ended then. */
  timeout: number;
  /** The command is a program of the image, not one of hyperflux. */
  exec: boolean;
  shell: boolean;
  kvm: boolean;
  /** kFlux is built and put into the image. */
  kflux: boolean;
  /** And it is loaded before the command runs. */
  load: boolean;
  kfluxOptions: string;
  kernelOptions: readonly string[];
  env: Readonly<Record<string, string>>;
  checkLog: boolean;
  dmesg?: string;
  out?: string;
  /** Keep the folder of the run (console, initramfs) and say where it is. */
  keep: boolean;
  refresh: boolean;
  verbose: boolean;
}

export const DEFAULTS: LabOptions = {
  kernel: '6.1',
  tcg: 'multi',
  memoryMib: 3072,
  timeout: 600,
  exec: false,
  shell: false,
  kvm: true,
  kflux: true,
  load: true,
  kfluxOptions: '',
  kernelOptions: [],
  env: {},
  checkLog: true,
  keep: false,
  refresh: false,
  verbose: false,
};

const BEHAVIOUR_CPUS = 4;

/** Behaviour is looked at with four vCPUs; for times, a vCPU must have a core of the host for itself. */
export function chooseCpus(options: LabOptions, command: readonly string[], hostCores: number): number {
  const measures = !options.exec && command[0] === 'bench';
  if (options.cpus === undefined) return measures ? Math.min(BEHAVIOUR_CPUS, hostCores) : BEHAVIOUR_CPUS;
  if (measures && options.cpus > hostCores)
    throw wrongUsage(
      `bench with ${options.cpus} vCPUs would measure how they wait for this host's ${hostCores} cores`,
      `Give --cpus ${hostCores} or fewer.`,
    );
  return options.cpus;
}

/** The words that the guest runs. */
export function guestCommand(options: LabOptions, command: readonly string[]): string[] {
  if (options.shell) {
    if (command.length > 0)
      throw wrongUsage('--shell takes no command', 'Give either --shell, or a command after --.');
    return ['true'];
  }
  if (command.length === 0)
    throw wrongUsage('there is nothing to run', 'Give a command after --, such as: hyperflux lab -- demo');
  return options.exec ? [...command] : ['/hyperflux/hyperflux', ...command];
}

export function parseEnv(words: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    words.map((word) => {
      const at = word.indexOf('=');
      if (!/^[A-Za-z_][A-Za-z0-9_]*=/.test(word))
        throw wrongUsage(`--env ${word} is not NAME=VALUE`, 'For example: --env FLUX_STRESS_SECONDS=60');
      return [word.slice(0, at), word.slice(at + 1)];
    }),
  );
}

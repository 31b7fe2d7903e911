/**
 * Installs the module and what belongs to it, and takes it away again. Each thing is a step that knows whether it is
 * done already, so that a second run does nothing and a dry run can say what a real one would.
 */
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { ControlError } from '../control/protocol.ts';
import type { StartProgress } from './build.ts';
import { buildModule, builtModule, quiet, upToDate } from './build.ts';
import { dkmsInstalled, dkmsSource, dkmsVersions } from './dkms.ts';
import type { Host } from './host.ts';
import { list, readText, repository } from './host.ts';
import { needRoot, unloadModule } from './load.ts';
import { CLONE_VERSION, GROUP, MODULE } from './names.ts';
import { copySources, digestOf, moduleSources } from './sources.ts';
import { groupId, moduleState } from './state.ts';

export interface Step {
  what: string;
  done(): boolean | Promise<boolean>;
  work(): void | Promise<void>;
}

export interface StepResult {
  what: string;
  state: 'done' | 'unchanged' | 'would';
}

export interface InstallOptions {
  dryRun?: boolean;
  /** Without DKMS, also where it is there. */
  dkms?: boolean;
  progress?: StartProgress;
  clone?: string;
}

/** From packaging/ to where the system looks for what an administrator put there. */
export const SYSTEM_FILES: readonly [from: string, to: string][] = [
  ['60-hyperflux.rules', '/etc/udev/rules.d/60-hyperflux.rules'],
  ['hyperflux.sysusers', '/etc/sysusers.d/hyperflux.conf'],
  ['hyperflux.modules-load', '/etc/modules-load.d/hyperflux.conf'],
];

/** Runs a program of the system; what it said becomes the error. */
export async function mustRun(
  host: Host,
  command: readonly string[],
  onLine?: (line: string) => void,
): Promise<string> {
  const { code, output } = await host.run(command, { onLine });
  if (code === 0) return output;
  const said = output.trim().split('\n').slice(-15).join('\n');
  throw new ControlError(
    'failed',
    `${command.join(' ')} ended with ${code}:\n${said}`,
    'Mend what it names, then run the same command again.',
  );
}

export async function carryOut(steps: readonly Step[], dryRun: boolean): Promise<StepResult[]> {
  const results: StepResult[] = [];
  for (const step of steps) {
    if (await step.done()) {
      results.push({ what: step.what, state: 'unchanged' });
      continue;
    }
    if (!dryRun) await step.work();
    results.push({ what: step.what, state: dryRun ? 'would' : 'done' });
  }
  return results;
}

const copyStep = (host: Host, from: string, to: string): Step => ({
  what: `write ${to}`,
  done: () => existsSync(host.at(to)) && readFileSync(host.at(to)).equals(readFileSync(from)),
  work: () => {
    mkdirSync(dirname(host.at(to)), { recursive: true });
    writeFileSync(host.at(to), readFileSync(from));
    chmodSync(host.at(to), 0o644);
  },
});

function groupStep(host: Host): Step {
  const ways: [program: string, args: string[]][] = [
    ['systemd-sysusers', ['/etc/sysusers.d/hyperflux.conf']],
    ['groupadd', ['--system', GROUP]],
    ['addgroup', ['-S', GROUP]],
  ];
  const way = ways.find(([program]) => host.find(program) !== undefined);
  return {
    what: `make the group ${GROUP}${way === undefined ? '' : ` (${way[0]})`}`,
    done: () => groupId(host, GROUP) !== undefined,
    work: async () => {
      if (way === undefined)
        throw new ControlError(
          'failed',
          `the group ${GROUP} cannot be made: no groupadd here`,
          `Make the group ${GROUP} by hand.`,
        );
      await mustRun(host, [host.find(way[0])!, ...way[1]]);
    },
  };
}

/** udev reads its rules again, and the device that is there already gets its group. */
function udevStep(host: Host): Step {
  return {
    what: 'have udev read its rules',
    // Without udev there is nothing to tell, and what is told is the same each time.
    done: () => host.find('udevadm') === undefined,
    work: async () => {
      const udevadm = host.find('udevadm')!;
      // Not running, in a container or an image that is being built: it reads them when it starts.
      await host.run([udevadm, 'control', '--reload']);
      if (moduleState(host).loaded)
        await host.run([udevadm, 'trigger', '--settle', '--action=change', `/sys/class/misc/${MODULE}`]);
    },
  };
}

function dkmsSteps(host: Host, { clone = repository, progress = quiet }: InstallOptions): Step[] {
  const name = `${MODULE}/${CLONE_VERSION}`;
  const source = dkmsSource(CLONE_VERSION);
  const files = moduleSources(clone);
  const dkms = host.find('dkms')!;
  const conf = join(clone, 'packaging/dkms.conf');
  const current = (): boolean => {
    const folder = host.at(source);
    const all = [...files, 'dkms.conf'];
    if (!all.every((file) => existsSync(join(folder, file)))) return false;
    return (
      digestOf(folder, files) === digestOf(clone, files) &&
      readFileSync(join(folder, 'dkms.conf')).equals(readFileSync(conf))
    );
  };
  return [
    {
      what: `put the sources into ${source}`,
      done: current,
      work: async () => {
        // DKMS does not look for changes: what it built of the same version has to go first.
        if ((await dkmsVersions(host)).includes(CLONE_VERSION))
          await mustRun(host, [dkms, 'remove', name, '--all']);
        const folder = host.at(source);
        mkdirSync(folder, { recursive: true });
        copySources(files, folder, clone);
        writeFileSync(join(folder, 'dkms.conf'), readFileSync(conf));
      },
    },
    {
      what: `build and install ${name} for ${host.release} by DKMS`,
      done: async () => current() && (await dkmsInstalled(host, CLONE_VERSION, host.release)),
      work: async () => {
        const shown = progress(`DKMS builds ${name} for ${host.release}`);
        try {
          await mustRun(host, [dkms, 'install', name, '-k', host.release], (line) => shown.detail(line));
          shown.end('done');
        } catch (error) {
          shown.end('failed');
          throw error;
        }
      },
    },
  ];
}

const plainCopy = (release: string): string => `/lib/modules/${release}/updates/${MODULE}.ko`;

function plainSteps(host: Host, { clone = repository, progress = quiet }: InstallOptions): Step[] {
  const built = builtModule(host.release, clone);
  const to = plainCopy(host.release);
  const current = (): boolean => upToDate(host.release, clone);
  const same = (): boolean =>
    current() && existsSync(host.at(to)) && readFileSync(built).equals(readFileSync(host.at(to)));
  const listed = (): boolean =>
    readText(host, `/lib/modules/${host.release}/modules.dep`)?.includes(`updates/${MODULE}.ko`) === true;
  return [
    {
      what: `build the module for ${host.release}`,
      done: current,
      work: async () => void (await buildModule(host, { progress, clone })),
    },
    {
      what: `copy it to ${to}`,
      done: same,
      work: () => {
        mkdirSync(dirname(host.at(to)), { recursive: true });
        writeFileSync(host.at(to), readFileSync(built));
        chmodSync(host.at(to), 0o644);
      },
    },
    {
      what: 'tell modprobe of it (depmod)',
      done: listed,
      work: async () => {
        const depmod = host.find('depmod');
        if (depmod === undefined)
          throw new ControlError('failed', 'depmod is missing', 'Install it: kmod (Debian, Fedora, Arch).');
        await mustRun(host, [depmod, host.release]);
      },
    },
  ];
}

const removeFromDkms = (host: Host, dkms: string, version: string): Step => ({
  what: `remove ${MODULE}/${version} from DKMS`,
  done: () => false,
  work: async () => void (await mustRun(host, [dkms, 'remove', `${MODULE}/${version}`, '--all'])),
});

/** One kind takes the other's place: which of two modules modprobe took would be chance. */
async function otherKind(host: Host, byDkms: boolean): Promise<Step[]> {
  const dkms = host.find('dkms');
  if (byDkms) {
    const old = removeStep(host, plainCopy(host.release));
    return (await old.done()) ? [] : [old];
  }
  if (dkms === undefined) return [];
  return (await dkmsVersions(host)).map((version) => removeFromDkms(host, dkms, version));
}

export async function installModule(host: Host, options: InstallOptions = {}): Promise<StepResult[]> {
  const { dryRun = false, clone = repository } = options;
  if (!dryRun) needRoot(host, 'install');
  const byDkms = options.dkms !== false && host.find('dkms') !== undefined;
  const files = SYSTEM_FILES.map(([from, to]) => copyStep(host, join(clone, 'packaging', from), to));
  const changed = files.map((step) => step.done()).includes(false);
  const udev = udevStep(host);
  const steps = [
    ...(await otherKind(host, byDkms)),
    // What can fail comes before what stays: a module that does not build leaves no rules behind.
    ...(byDkms ? dkmsSteps(host, options) : plainSteps(host, options)),
    ...files,
    groupStep(host),
    // After the group is there, and only if there is something new to read.
    { ...udev, done: () => !changed || udev.done() },
  ];
  return carryOut(steps, dryRun);
}

const removeStep = (host: Host, path: string): Step => ({
  what: `remove ${path}`,
  done: () => !existsSync(host.at(path)),
  work: () => rmSync(host.at(path), { recursive: true }),
});

/** Everything that install brings, of every version and kernel; the group stays, for files may belong to it. */
export async function uninstallModule(
  host: Host,
  { dryRun = false }: { dryRun?: boolean } = {},
): Promise<StepResult[]> {
  if (!dryRun) needRoot(host, 'uninstall');
  const dkms = host.find('dkms');
  const versions = dkms === undefined ? [] : await dkmsVersions(host);
  const copies = list(host, '/lib/modules')
    .map((release) => ({ release, path: plainCopy(release) }))
    .filter(({ path }) => existsSync(host.at(path)));
  const sources = list(host, '/usr/src')
    .filter((name) => new RegExp(`^${MODULE}-\\d`).test(name))
    .map((name) => `/usr/src/${name}`);
  const depmod = host.find('depmod');
  const steps: Step[] = [
    {
      what: `unload ${MODULE}`,
      done: () => !moduleState(host).loaded,
      work: async () => void (await unloadModule(host)),
    },
    ...versions.map((version) => removeFromDkms(host, dkms!, version)),
    ...sources.map((path) => removeStep(host, path)),
    ...copies.map(({ path, release }) => ({
      what: `remove ${path}`,
      done: () => false,
      work: async () => {
        rmSync(host.at(path));
        if (depmod !== undefined) await mustRun(host, [depmod, release]);
      },
    })),
    ...SYSTEM_FILES.map(([, to]) => removeStep(host, to)),
  ];
  return carryOut(steps, dryRun);
}

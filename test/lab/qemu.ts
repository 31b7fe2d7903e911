/** Starts QEMU and pins its vCPU threads, one to each of the host's cores where there are enough of them. */
import type { ChildProcess } from 'node:child_process';
import { execFileSync, spawn } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { TcgThreads } from './options.ts';
import { findProgram } from './run.ts';
import type { Tools } from './tools.ts';
import { toolCommand } from './tools.ts';

export interface Machine {
  image: string;
  initrd: string;
  disks: readonly string[];
  cpus: number;
  tcg: TcgThreads;
  memoryMib: number;
  /** Names and socket paths of the guest's ports. */
  ports: Readonly<Record<string, string>>;
  /** The socket of the kernel's console. */
  console: string;
  /** The socket of QEMU's monitor. */
  monitor: string;
  /** Where QEMU notes resets and triple faults, and nothing else: it costs nothing. */
  resetLog: string;
  shell: boolean;
  kernelOptions: readonly string[];
}

/**
 * The kernel's command line. Warnings and worse appear on the console, so that a crash can be shown; a crash ends
 * the machine. TCG's time stamp counter is good, though the kernel cannot know: without being told, it would use
 * the HPET, and the guests' clocks would drift.
 */
export const kernelOptions = [
  'console=ttyS0',
  'loglevel=5',
  'panic=-1',
  'oops=panic',
  'tsc=reliable',
  'clocksource=tsc',
  'log_buf_len=16M',
  'cgroup_no_v1=all',
];

export function qemuArguments(machine: Machine, firmware: readonly string[]): string[] {
  const args = [
    ...['-nodefaults', '-no-user-config', '-display', 'none'],
    // Whoever ends, by a reset or by a poweroff, stands still so that it can be looked at: see monitor.ts.
    ...['-action', 'reboot=shutdown,shutdown=pause', '-d', 'cpu_reset', '-D', machine.resetLog],
    ...['-chardev', `socket,id=monitor,path=${machine.monitor}`, '-mon', 'chardev=monitor,mode=control'],
    ...['-name', 'hyperflux-lab,debug-threads=on'],
    ...firmware.flatMap((folder) => ['-L', folder]),
    ...['-machine', 'pc', '-accel', `tcg,thread=${machine.tcg}`, '-cpu', 'max'],
    ...['-smp', String(machine.cpus), '-m', `${machine.memoryMib}M`],
    ...['-kernel', machine.image, '-initrd', machine.initrd],
    ...['-append', [...kernelOptions, ...machine.kernelOptions].join(' ')],
    ...['-object', 'rng-random,id=rng,filename=/dev/urandom', '-device', 'virtio-rng-pci,rng=rng'],
    ...['-chardev', `socket,id=console,path=${machine.console}`, '-serial', 'chardev:console'],
    ...(machine.shell ? ['-chardev', 'stdio,id=shell,signal=off', '-serial', 'chardev:shell'] : []),
    ...['-device', 'virtio-serial-pci,max_ports=16'],
  ];
  machine.disks.forEach((file, i) => {
    args.push('-drive', `file=${file.replaceAll(',', ',,')},if=none,id=disk${i},format=raw,readonly=on`);
    args.push('-device', `virtio-blk-pci,drive=disk${i}`);
  });
  for (const [name, path] of Object.entries(machine.ports)) {
    args.push('-chardev', `socket,id=${name},path=${path}`);
    args.push('-device', `virtserialport,chardev=${name},name=${name}`);
  }
  return args;
}

export function startQemu(machine: Machine, tools: Tools): ChildProcess {
  const firmware = ['usr/share/qemu', 'usr/share/seabios'].map((path) => join(tools.root, path));
  const command = [...toolCommand(tools, 'qemu-system-x86_64'), ...qemuArguments(machine, firmware)];
  // QEMU must not outlive this process, whatever happens to it.
  const setpriv = findProgram('setpriv');
  if (setpriv !== undefined) command.unshift(setpriv, '--pdeathsig', 'KILL', '--');
  return spawn(command[0], command.slice(1), {
    stdio: [machine.shell ? 'inherit' : 'ignore', machine.shell ? 'inherit' : 'ignore', 'pipe'],
    // In a process group of its own: Ctrl-C is for this process, which ends QEMU. A shell needs the terminal's group.
    detached: !machine.shell,
  });
}

/** The cores that this process may use. */
export function hostCores(): number[] {
  const list = /^Cpus_allowed_list:\s*(.+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0';
  return list.split(',').flatMap((part) => {
    const [from, to] = part.split('-').map(Number);
    return Array.from({ length: (to ?? from) - from + 1 }, (_, i) => from + i);
  });
}

/** Threads by the number of the vCPU that they run. */
function vcpuThreads(pid: number): Map<number, string> {
  const found = new Map<number, string>();
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    const name = /^CPU (\d+)\/TCG/.exec(readFileSync(`/proc/${pid}/task/${thread}/comm`, 'utf8'));
    if (name !== null) found.set(Number(name[1]), thread);
  }
  return found;
}

/** One thread a core; not where there are more vCPUs than cores, or the host's scheduler could not help. */
export async function pinThreads(
  qemu: ChildProcess,
  cpus: number,
  cores: readonly number[],
): Promise<boolean> {
  const taskset = findProgram('taskset');
  if (cpus > cores.length || taskset === undefined) return false;
  for (let tries = 0; tries < 200 && qemu.exitCode === null && qemu.pid !== undefined; tries++) {
    try {
      const threads = vcpuThreads(qemu.pid);
      if (threads.size === cpus) {
        for (const [vcpu, thread] of threads)
          execFileSync(taskset, ['-cp', String(cores[vcpu]), thread], { stdio: 'ignore' });
        return true;
      }
    } catch (error) {
      // It, or one of its threads, is just ending.
      if (!['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
    }
    await sleep(20);
  }
  return false;
}

// SPDX-License-Identifier: Apache-2.0
/** What the addon exports, exactly. Only native/lib uses it; everybody else uses native/index.ts. */
import type { AbiInfo } from './addon.ts';

export interface RawClock {
  buffer: ArrayBuffer;
  now: () => void;
  stamp: () => number;
}

export interface RawBridge {
  id: number;
  batch: ArrayBuffer;
  capacity: number;
  claim: (pid: number, arbiterCore: number, managedCores: readonly number[]) => number;
  release: () => void;
  setPage: (slot: number, arena: ArrayBuffer | null) => void;
  submit: (count: number) => number;
  poll: () => number;
  beat: () => void;
  startDeadlines: () => boolean;
  reap: (slot: number) => number;
  useKflux: () => void;
  usesKflux: () => boolean;
}

export interface RawReleaser {
  id: number;
  add: (slot: number, controlPageFd: number, loadFd: number) => void;
  remove: (slot: number) => boolean;
  poll: () => number;
  runThread: (core: number, fifo: number, spin: string) => boolean;
  stop: () => void;
}

/** For `hyperflux bench loop` only: see lib/twin.ts. */
export interface RawTwin {
  level: string;
  compiler: string;
  control: ArrayBuffer;
  samples: ArrayBuffer;
  batch: ArrayBuffer;
  capacity: number;
  state: ArrayBuffer;
  stateBatch: number;
  fields: Record<string, [byteOffset: number, length: number]>;
  words: Record<string, number>;
  now: () => void;
  submit: (count: number) => number;
  poll: () => number;
  beat: () => void;
  chunk: (n: number) => void;
  runUntilDone: (n: number) => void;
  manage: (cores: Int32Array) => void;
  attach: (slot: number) => void;
  detach: (slot: number) => void;
  configure: (times: Int32Array) => void;
  useLevel: (level: string) => boolean;
  signal: (core: number, events: number) => void;
  signalEnd: () => number;
}

export interface Addon {
  abiInfo: () => AbiInfo;

  createSealedMemfd: (name: string, bytes: number) => number;
  mapShared: (fd: number, bytes: number, offset: number, expectSealed: boolean) => ArrayBuffer;
  remapShared: (buffer: ArrayBuffer, fd: number) => void;
  shareId: (buffer: ArrayBuffer) => number;
  wrapShared: (id: number) => ArrayBuffer;
  unmap: (buffer: ArrayBuffer) => void;
  arenaReserve: (slots: number, stride: number) => ArrayBuffer;
  arenaAttach: (arena: ArrayBuffer, slot: number, fd: number) => void;
  arenaDetach: (arena: ArrayBuffer, slot: number) => void;
  arenaShape: (arena: ArrayBuffer) => { slots: number; stride: number };

  calibrateTsc: () => {
    khz: number;
    source: 'sysfs' | 'cpuid' | 'hypervisor' | 'measured';
    measured: number;
  };
  tscNow: (out: Int32Array, index: number) => void;
  clockOpen: (shift: number) => RawClock;

  counterOpen: (tracepoint: number, tid: number, core: number) => number;
  counterRead: (fd: number) => number;

  gettid: () => number;
  setAffinity: (tid: number, cores: readonly number[]) => void;
  getAffinity: (tid: number) => number[];
  pinProcess: (cores: readonly number[]) => void;
  setScheduler: (tid: number, policy: string, priority: number) => void;
  kill: (pid: number, tid: number, signal: number) => void;
  holdCpuDmaLatency: (us: number) => number | null;

  lockFile: (path: string) => number | null;
  openAt: (dirFd: number, path: string, flags: number, mode: number) => number;
  closeFd: (fd: number) => void;

  connectUnix: (path: string, timeoutMs: number) => number;
  exchangeFrame: (fd: number, frame: Uint8Array, timeoutMs: number) => { frame: Uint8Array; fds: number[] };
  peerCred: (fd: number) => { pid: number; uid: number; gid: number };
  notify: (path: string, text: string) => void;

  watchWord: (
    buffer: ArrayBuffer,
    byteOffset: number,
    callback: (value: number) => void,
    keepAlive: boolean,
  ) => () => void;
  futexWake: (buffer: ArrayBuffer, byteOffset: number, count: number) => number;

  tableInit: (table: ArrayBuffer, tscKhz: number, stampShift: number) => void;
  tableCheck: (table: ArrayBuffer) => void;
  bridgeOpen: (table: ArrayBuffer, capacity: number) => RawBridge;
  bridgeWrap: (id: number) => RawBridge;

  tableOverlay: (table: ArrayBuffer) => boolean;
  kfluxHello: () => { major: number; minor: number; version: string };
  kfluxJoin: (table: ArrayBuffer) => number;
  kfluxCreateVm: (domainFd: number, slot: number, vcpus: number) => number;

  releaserOpen: (table: ArrayBuffer) => RawReleaser;
  releaserWrap: (id: number) => RawReleaser;

  waitWordChange: (
    buffer: ArrayBuffer,
    byteOffset: number,
    old: number,
    timeoutUs: number,
    out: Int32Array,
  ) => 0 | 1;
  futexWakeFloor: (core: number, n: number, out: Float64Array, gapUs: number) => number;
  preemptionFloor: (core: number, n: number, out: Float64Array, gapUs: number, donor: string) => number;
  membarrierFloor: (core: number, n: number, out: Float64Array) => number;

  twinOpen: (
    arena: ArrayBuffer,
    table: ArrayBuffer,
    tscKhz: number,
    stampShift: number,
    maxSamples: number,
  ) => RawTwin;
}

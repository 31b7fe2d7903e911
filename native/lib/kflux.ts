// SPDX-License-Identifier: Apache-2.0
/**
 * kFlux for hyperfluxd, which makes the domain and its VMs. All of these throw with what to do: `ENOENT` there is no
 * /dev/kflux, `EACCES` and `EPERM` who may, `EPROTO` both versions.
 */
import { addon } from './addon.ts';

export interface KfluxVersion {
  /** The ABI's. */
  major: number;
  minor: number;
  /** The module's. */
  version: string;
}

/** Opens the device and asks which version is loaded. */
export const kfluxHello: () => KfluxVersion = addon.kfluxHello;

/**
 * Joins the domain that the table names with the right to make VMs; if it names none, makes one and writes it there.
 * The descriptor keeps the domain, as VMs and other members do. It maps nothing: see `mapTable`.
 */
export const kfluxJoin: (table: ArrayBuffer) => number = addon.kfluxJoin;

/**
 * A new VM of that domain as a descriptor, closed on exec: its VMM inherits it through `stdio` of spawn. When the last
 * copy of it is closed the VM ends. Throws `EEXIST` while the slot's last VM has not quite ended.
 */
export const kfluxCreateVm: (domainFd: number, slot: number, vcpus: number) => number = addon.kfluxCreateVm;

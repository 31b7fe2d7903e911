/** Speaks to one Fluxion, as an arbiter would. */
import { Packr } from 'msgpackr';
import { ABI_MAJOR, ABI_MINOR, CONTROL_BYTES, PROTOCOL } from '../../arbiter/abi/layout.gen.ts';
import { closeFd, connectUnix, exchangeFrame, mapShared } from '../../native/index.ts';

/** In the lab an answer may take its time. */
const PATIENCE_MS = 60_000;
const packr = new Packr({ useRecords: false });

export interface Reply {
  ok: boolean;
  message?: string;
  managed?: boolean;
  state?: string;
}

export class VmClient {
  readonly #fd: number;

  constructor(socket: string) {
    this.#fd = connectUnix(socket, PATIENCE_MS);
    this.ask('hello', { protocol: PROTOCOL, abi_major: ABI_MAJOR, abi_minor: ABI_MINOR });
  }

  ask(op: string, fields: object = {}): Reply & { fds: number[] } {
    const { frame, fds } = exchangeFrame(this.#fd, packr.pack({ id: 1, op, ...fields }), PATIENCE_MS);
    return { ...(packr.unpack(frame) as Reply), fds };
  }

  /** The VM's control page. */
  page(): Int32Array {
    const { fds } = this.ask('attach');
    const page = new Int32Array(mapShared(fds[0], CONTROL_BYTES));
    fds.forEach(closeFd);
    return page;
  }

  close(): void {
    closeFd(this.#fd);
  }
}

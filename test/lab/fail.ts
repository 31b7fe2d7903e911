/** How the lab says that it could not do its work, and the exit codes that are its own and not the guest's. */
import { ControlError } from '../../arbiter/control/protocol.ts';

/** The kernel's log has a warning, an oops or worse; the command itself may have succeeded. */
export const EXIT_KERNEL = 120;
/** The machine ended without a result: a panic, or QEMU died. */
export const EXIT_CRASHED = 121;
export const EXIT_TIMEOUT = 124;
/** The lab could not be made or started; nothing ran in it. */
export const EXIT_LAB = 125;
export const EXIT_INTERRUPTED = 130;

export const labError = (message: string, hint: string): ControlError =>
  new ControlError('failed', message, hint);

export const wrongUsage = (message: string, hint: string): ControlError =>
  new ControlError('usage', message, hint);

// SPDX-License-Identifier: Apache-2.0
/** One message to a service manager. */
import { addon } from './addon.ts';

/**
 * Sends a datagram to a Unix socket: a path, or `@name` for an abstract address. Throws `ENOENT` or `ECONNREFUSED`
 * where nobody listens, and `EAGAIN` where nobody has read for a second.
 */
export const notify: (path: string, text: string) => void = addon.notify;

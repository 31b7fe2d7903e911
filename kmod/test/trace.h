/* SPDX-License-Identifier: GPL-2.0 */
/* The kernel's trace of kFlux, for the checker of the trace (test/lab-suite/trace). */
#ifndef KFLUX_TEST_TRACE_H
#define KFLUX_TEST_TRACE_H

#include <stdatomic.h>
#include <stdbool.h>

/*
 * Records all of kFlux's tracepoints from now on into `target`: a file, or fd:N for a
 * descriptor of this process. 0 or a negative errno. A process copies the text as it comes,
 * so the kernel's buffer only has to bridge its pauses; what was lost all the same is told by
 * a last line, "# trace ended: N lost".
 */
int trace_start(const char *target);
void trace_stop(void);
/* Waits, until `stop` at most, while the trace's reader is far behind: a trace with gaps proves nothing. */
void trace_wait(const atomic_bool *stop);

#endif

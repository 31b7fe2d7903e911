/* Giving way to other uThreads, and the one scheduling policy there is. */
#ifndef FLUXOS_SCHED_H
#define FLUXOS_SCHED_H

#ifdef __cplusplus
extern "C" {
#endif

#define SCHED_OTHER 0
#define SCHED_FIFO 1
#define SCHED_RR 2

struct sched_param {
	int sched_priority;
};

int sched_yield(void) __asm__("flux_sched_yield");

#ifdef __cplusplus
}
#endif

#endif

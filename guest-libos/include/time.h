/* Clocks and sleep for uThreads. */
#ifndef FLUXOS_TIME_H
#define FLUXOS_TIME_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef long time_t;
typedef int clockid_t;

struct timespec {
	time_t tv_sec;
	long tv_nsec;
};

/* Both count from the moment at which the VM's host was started: a VM has no calendar yet. */
#define CLOCK_REALTIME 0
#define CLOCK_MONOTONIC 1
#define TIMER_ABSTIME 1

int clock_gettime(clockid_t clock, struct timespec *now) __asm__("flux_clock_gettime");
int clock_getres(clockid_t clock, struct timespec *resolution) __asm__("flux_clock_getres");
int nanosleep(const struct timespec *length, struct timespec *left) __asm__("flux_nanosleep");
int clock_nanosleep(clockid_t clock, int flags, const struct timespec *when,
		    struct timespec *left) __asm__("flux_clock_nanosleep");

#ifdef __cplusplus
}
#endif

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pthreads rival of `hyperflux bench uthreads`. Its rows take a number of operations
 * and return the nanoseconds that all of them took together.
 */
#ifndef RIVAL_H
#define RIVAL_H

#include <stdint.h>
#include <stdlib.h>
#include <time.h>

typedef uint64_t (*row_fn)(uint64_t ops);

static inline uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline void relax(void)
{
	__builtin_ia32_pause();
}

/* Ends the program; the driver reads the line. */
_Noreturn void give_up(const char *what, int error);

/* The result of a pthread function that must work. */
static inline void must(int error, const char *what)
{
	if (error != 0)
		give_up(what, error);
}

/* basic.c */
uint64_t row_floor(uint64_t ops);
uint64_t row_clock(uint64_t ops);
uint64_t row_spawn(uint64_t ops);
uint64_t row_yield(uint64_t ops);
uint64_t row_fan(uint64_t ops);
/* sync.c */
uint64_t row_mutex(uint64_t ops);
uint64_t row_condvar(uint64_t ops);
uint64_t row_wake(uint64_t ops);
uint64_t row_semaphore(uint64_t ops);
uint64_t row_baton(uint64_t ops);
uint64_t row_steal(uint64_t ops);
/* timer.c */
uint64_t row_timed(uint64_t ops);
uint64_t row_late(uint64_t ops);
/* sort.c */
uint64_t row_sort(uint64_t ops);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Deadlines: waits that end before theirs, and how late one is that comes. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>

#include "ping_pong.h"
#include "rival.h"

#define SLEEP_NS 200000
#define DEADLINE_NS 1000000000u

static struct timespec in_ns(uint64_t ns)
{
	uint64_t at = now_ns() + ns;

	return (struct timespec){ .tv_sec = (time_t)(at / 1000000000u), .tv_nsec = (long)(at % 1000000000u) };
}

static void wait_a_second(sem_t *sem)
{
	struct timespec deadline = in_ns(DEADLINE_NS);

	if (sem_clockwait(sem, CLOCK_MONOTONIC, &deadline) != 0)
		give_up("sem_clockwait", errno);
}

/* As the semaphore's ping-pong, but each of the two waits has a deadline of a second. */
uint64_t row_timed(uint64_t ops)
{
	return ping_pong(ops, wait_a_second);
}

/* How late after it was due the thread goes on. */
uint64_t row_late(uint64_t ops)
{
	uint64_t total = 0;

	for (uint64_t i = 0; i < ops; i++) {
		uint64_t due = now_ns() + SLEEP_NS;
		struct timespec at = { .tv_sec = (time_t)(due / 1000000000u),
				       .tv_nsec = (long)(due % 1000000000u) };

		while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
			;
		total += now_ns() - due;
	}
	return total;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Calls, the clock, threads that begin and end, and threads that give way. */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "rival.h"

#define PARTS 64

__attribute__((noinline)) static void empty(void)
{
	/* Keeps the call from being dropped. */
	__asm__ volatile("");
}

uint64_t row_floor(uint64_t ops)
{
	uint64_t start = now_ns();

	for (uint64_t i = 0; i < ops; i++)
		empty();
	return now_ns() - start;
}

uint64_t row_clock(uint64_t ops)
{
	uint64_t start = now_ns(), last = start;

	for (uint64_t i = 0; i < ops; i++)
		last = now_ns();
	return last - start;
}

static void *count(void *counter)
{
	atomic_fetch_add_explicit((atomic_uint_fast64_t *)counter, 1, memory_order_relaxed);
	return NULL;
}

uint64_t row_spawn(uint64_t ops)
{
	atomic_uint_fast64_t counter = 0;
	uint64_t start = now_ns();

	for (uint64_t i = 0; i < ops; i++) {
		pthread_t thread;

		must(pthread_create(&thread, NULL, count, &counter), "pthread_create");
		must(pthread_join(thread, NULL), "pthread_join");
	}
	if (counter != ops)
		give_up("a thread did not run", 0);
	return now_ns() - start;
}

uint64_t row_fan(uint64_t ops)
{
	atomic_uint_fast64_t counter = 0;
	uint64_t start = now_ns();

	for (uint64_t i = 0; i < ops; i++) {
		pthread_t threads[PARTS];

		for (int part = 0; part < PARTS; part++)
			must(pthread_create(&threads[part], NULL, count, &counter), "pthread_create");
		for (int part = 0; part < PARTS; part++)
			must(pthread_join(threads[part], NULL), "pthread_join");
	}
	if (counter != ops * PARTS)
		give_up("a thread did not run", 0);
	return now_ns() - start;
}

struct yielders {
	atomic_int ready;
	uint64_t turns;
};

static void *yielder(void *arg)
{
	struct yielders *both = arg;

	atomic_store(&both->ready, 1);
	for (uint64_t i = 0; i < both->turns; i++)
		sched_yield();
	return NULL;
}

/* Two threads give way in turns; half of the operations each. */
uint64_t row_yield(uint64_t ops)
{
	struct yielders both = { .ready = 0, .turns = ops / 2 };
	pthread_t other;
	uint64_t start;

	must(pthread_create(&other, NULL, yielder, &both), "pthread_create");
	while (!atomic_load(&both.ready))
		sched_yield();
	start = now_ns();
	for (uint64_t i = 0; i < both.turns; i++)
		sched_yield();
	start = now_ns() - start;
	must(pthread_join(other, NULL), "pthread_join");
	return start;
}

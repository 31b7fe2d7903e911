/* SPDX-License-Identifier: Apache-2.0 */
/* Locks, condition variables, semaphores, and threads that are made to run on another core. */
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "ping_pong.h"
#include "rival.h"

/* How long a waiter is left to itself before it is woken, so that it really waits. */
#define SETTLE_NS 2000

static void settle(void)
{
	uint64_t until = now_ns() + SETTLE_NS;

	while (now_ns() < until)
		relax();
}

uint64_t row_mutex(uint64_t ops)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static volatile uint64_t counter;
	uint64_t start = now_ns();

	for (uint64_t i = 0; i < ops; i++) {
		pthread_mutex_lock(&lock);
		counter = counter + 1;
		pthread_mutex_unlock(&lock);
	}
	return now_ns() - start;
}

struct table {
	pthread_mutex_t lock;
	pthread_cond_t turned[2];
	int turn;
	uint64_t rounds;
};

static void play(struct table *table, int me)
{
	pthread_mutex_lock(&table->lock);
	for (uint64_t i = 0; i < table->rounds; i++) {
		while (table->turn != me)
			pthread_cond_wait(&table->turned[me], &table->lock);
		table->turn = 1 - me;
		pthread_cond_signal(&table->turned[1 - me]);
	}
	pthread_mutex_unlock(&table->lock);
}

static void *player(void *table)
{
	play(table, 1);
	return NULL;
}

static void wait_on(sem_t *sem)
{
	sem_wait(sem);
}

/* An operation is a round trip: two signals, two waits. */
uint64_t row_condvar(uint64_t ops)
{
	struct table table = { PTHREAD_MUTEX_INITIALIZER,
			       { PTHREAD_COND_INITIALIZER, PTHREAD_COND_INITIALIZER },
			       1,
			       0 };
	pthread_t other;
	uint64_t start;

	table.rounds = ops;
	must(pthread_create(&other, NULL, player, &table), "pthread_create");
	start = now_ns();
	/* The other one begins. */
	play(&table, 0);
	start = now_ns() - start;
	must(pthread_join(other, NULL), "pthread_join");
	return start;
}

struct bed {
	pthread_mutex_t lock;
	pthread_cond_t woken;
	int turn;
	uint64_t rounds;
	/* Rounds that the sleeper has begun to wait in, and been woken in, and when. */
	atomic_uint_fast64_t waits, ran, at;
};

static void *sleeper(void *arg)
{
	struct bed *bed = arg;

	for (uint64_t i = 1; i <= bed->rounds; i++) {
		pthread_mutex_lock(&bed->lock);
		atomic_store(&bed->waits, i);
		while (!bed->turn)
			pthread_cond_wait(&bed->woken, &bed->lock);
		bed->turn = 0;
		atomic_store(&bed->at, now_ns());
		atomic_store(&bed->ran, i);
		pthread_mutex_unlock(&bed->lock);
	}
	return NULL;
}

/*
 * From the signal to the woken thread's first look at the clock, while the one that signals keeps
 * its core.
 */
uint64_t row_wake(uint64_t ops)
{
	struct bed bed = { .lock = PTHREAD_MUTEX_INITIALIZER, .woken = PTHREAD_COND_INITIALIZER };
	uint64_t total = 0;
	pthread_t other;

	bed.rounds = ops;
	must(pthread_create(&other, NULL, sleeper, &bed), "pthread_create");
	for (uint64_t i = 1; i <= ops; i++) {
		uint64_t start;

		while (atomic_load(&bed.waits) != i)
			relax();
		settle();
		pthread_mutex_lock(&bed.lock);
		bed.turn = 1;
		pthread_mutex_unlock(&bed.lock);
		start = now_ns();
		pthread_cond_signal(&bed.woken);
		while (atomic_load(&bed.ran) != i)
			relax();
		total += atomic_load(&bed.at) - start;
	}
	must(pthread_join(other, NULL), "pthread_join");
	return total;
}

uint64_t row_semaphore(uint64_t ops)
{
	sem_t sem;
	uint64_t start;

	sem_init(&sem, 0, 1);
	start = now_ns();
	for (uint64_t i = 0; i < ops; i++) {
		sem_wait(&sem);
		sem_post(&sem);
	}
	start = now_ns() - start;
	sem_destroy(&sem);
	return start;
}

/* An operation is a round trip: two posts, two waits that block. */
uint64_t row_baton(uint64_t ops)
{
	return ping_pong(ops, wait_on);
}

static void *show(void *at)
{
	atomic_store((atomic_uint_fast64_t *)at, now_ns());
	return NULL;
}

/*
 * Two threads are made, and their maker keeps its core until the first of them has begun: from
 * before the first is made to that.
 */
uint64_t row_steal(uint64_t ops)
{
	uint64_t total = 0;

	for (uint64_t i = 0; i < ops; i++) {
		atomic_uint_fast64_t begun[2] = { 0, 0 };
		pthread_t threads[2];
		uint64_t start = now_ns();

		for (int k = 0; k < 2; k++)
			must(pthread_create(&threads[k], NULL, show, &begun[k]), "pthread_create");
		while (atomic_load(&begun[0]) == 0)
			relax();
		total += atomic_load(&begun[0]) - start;
		for (int k = 0; k < 2; k++)
			must(pthread_join(threads[k], NULL), "pthread_join");
		settle();
	}
	return total;
}

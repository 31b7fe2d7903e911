/* SPDX-License-Identifier: Apache-2.0 */
/* Two threads that wake each other in turns: in a header, so that the compiler sees how they wait. */
#ifndef PING_PONG_H
#define PING_PONG_H

#include <pthread.h>
#include <semaphore.h>

#include "rival.h"

struct track {
	sem_t there, back;
	uint64_t rounds;
	void (*wait)(sem_t *sem);
};

static void *runner(void *arg)
{
	struct track *track = arg;

	for (uint64_t i = 0; i < track->rounds; i++) {
		track->wait(&track->there);
		sem_post(&track->back);
	}
	return NULL;
}

/* `rounds` round trips; the nanoseconds that they took. */
static inline uint64_t ping_pong(uint64_t rounds, void (*wait)(sem_t *sem))
{
	struct track track = { .rounds = rounds, .wait = wait };
	pthread_t other;
	uint64_t start;

	sem_init(&track.there, 0, 0);
	sem_init(&track.back, 0, 0);
	must(pthread_create(&other, NULL, runner, &track), "pthread_create");
	start = now_ns();
	for (uint64_t i = 0; i < rounds; i++) {
		sem_post(&track.there);
		wait(&track.back);
	}
	start = now_ns() - start;
	must(pthread_join(other, NULL), "pthread_join");
	sem_destroy(&track.there);
	sem_destroy(&track.back);
	return start;
}

#endif

/* XSH pthread_cond_*, pthread_condattr_*. */
#include "tap.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;

static int waiting, tokens, woken;

static void *takes_token(void *arg)
{
	pthread_mutex_lock(&lock);
	waiting++;
	while (tokens == 0)
		if (pthread_cond_wait(&cond, &lock) != 0)
			break;
	tokens--;
	woken++;
	/* The lock is the caller's on return: a normal mutex of this thread can be unlocked by it. */
	return pthread_mutex_unlock(&lock) == 0 ? arg : NULL;
}

static int locked(const int *word)
{
	pthread_mutex_lock(&lock);
	int value = *word;

	pthread_mutex_unlock(&lock);
	return value;
}

static void start(pthread_t *threads, int count)
{
	waiting = tokens = woken = 0;
	for (int i = 0; i < count; i++)
		NEED(pthread_create(&threads[i], NULL, takes_token, &lock) == 0);
	/* They count under the lock, which they let go only by waiting. */
	UNTIL(locked(&waiting) == count);
}

static void finish(const pthread_t *threads, int count)
{
	void *value;

	for (int i = 0; i < count; i++)
		CHECK(pthread_join(threads[i], &value) == 0 && value == &lock);
}

/* pthread_cond_signal, DESCRIPTION: unblocks at least one of the threads that are blocked. */
static void signal_unblocks_at_least_one(void)
{
	pthread_t threads[3];

	start(threads, 3);
	for (int i = 1; i <= 3; i++) {
		pthread_mutex_lock(&lock);
		tokens++;
		CHECK(pthread_cond_signal(&cond) == 0);
		pthread_mutex_unlock(&lock);
		UNTIL(locked(&woken) == i);
	}
	finish(threads, 3);
}

static void signal_without_the_mutex_unblocks_too(void)
{
	pthread_t thread;

	start(&thread, 1);
	pthread_mutex_lock(&lock);
	tokens = 1;
	pthread_mutex_unlock(&lock);
	CHECK(pthread_cond_signal(&cond) == 0);
	finish(&thread, 1);
}

/* pthread_cond_broadcast, DESCRIPTION: unblocks all threads that are blocked. */
static void broadcast_unblocks_all(void)
{
	pthread_t threads[8];

	start(threads, 8);
	pthread_mutex_lock(&lock);
	tokens = 8;
	CHECK(pthread_cond_broadcast(&cond) == 0);
	pthread_mutex_unlock(&lock);
	finish(threads, 8);
	CHECK(woken == 8 && tokens == 0);
}

/* DESCRIPTION: no effect if no threads are blocked; it is not remembered. */
static void a_signal_that_nobody_waits_for_is_not_remembered(void)
{
	struct timespec until = in_ns(CLOCK_REALTIME, 1000000);

	CHECK(pthread_cond_signal(&cond) == 0);
	CHECK(pthread_cond_broadcast(&cond) == 0);
	pthread_mutex_lock(&lock);
	CHECK(pthread_cond_timedwait(&cond, &lock, &until) == ETIMEDOUT);
	CHECK(pthread_mutex_unlock(&lock) == 0);
}

static int items, produced_all;

static long sum;

static pthread_cond_t not_empty = PTHREAD_COND_INITIALIZER, not_full = PTHREAD_COND_INITIALIZER;

static void *produces(void *arg)
{
	for (int i = 0; i < 500; i++) {
		pthread_mutex_lock(&lock);
		while (items == 3)
			pthread_cond_wait(&not_full, &lock);
		items++;
		pthread_cond_signal(&not_empty);
		pthread_mutex_unlock(&lock);
	}
	return arg;
}

static void *consumes(void *arg)
{
	pthread_mutex_lock(&lock);
	for (;;) {
		while (items == 0 && !produced_all)
			pthread_cond_wait(&not_empty, &lock);
		if (items == 0)
			break;
		items--;
		sum++;
		pthread_cond_signal(&not_full);
	}
	pthread_mutex_unlock(&lock);
	return arg;
}

static void no_signal_is_lost_between_producers_and_consumers(void)
{
	pthread_t threads[6];

	items = produced_all = 0;
	sum = 0;
	for (int i = 0; i < 6; i++)
		NEED(pthread_create(&threads[i], NULL, i < 3 ? produces : consumes, NULL) == 0);
	for (int i = 0; i < 3; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	pthread_mutex_lock(&lock);
	produced_all = 1;
	pthread_cond_broadcast(&not_empty);
	pthread_mutex_unlock(&lock);
	for (int i = 3; i < 6; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	CHECK(sum == 1500 && items == 0);
}

/* pthread_cond_destroy, ERRORS: EBUSY (may fail; here it does). */
static void destroy_of_one_that_is_waited_for_is_EBUSY(void)
{
	pthread_t thread;
	pthread_cond_t own;

	start(&thread, 1);
	CHECK(pthread_cond_destroy(&cond) == EBUSY);
	pthread_mutex_lock(&lock);
	tokens = 1;
	CHECK(pthread_cond_signal(&cond) == 0);
	pthread_mutex_unlock(&lock);
	finish(&thread, 1);
	NEED(pthread_cond_init(&own, NULL) == 0);
	CHECK(pthread_cond_destroy(&own) == 0);
	CHECK(pthread_cond_signal(&own) == EINVAL);
}

static void attributes_are_remembered_or_refused(void)
{
	pthread_condattr_t attr, none;
	pthread_cond_t made;
	clockid_t clock = -1;
	int shared = -1;

	memset(&none, 0, sizeof(none));
	NEED(pthread_condattr_init(&attr) == 0);
	CHECK(pthread_condattr_getclock(&attr, &clock) == 0 && clock == CLOCK_REALTIME);
	CHECK(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
	CHECK(pthread_condattr_setclock(&attr, 55) == EINVAL);
	CHECK(pthread_condattr_getclock(&attr, &clock) == 0 && clock == CLOCK_MONOTONIC);
	CHECK(pthread_condattr_setpshared(&attr, PTHREAD_PROCESS_SHARED) == 0);
	CHECK(pthread_condattr_setpshared(&attr, 3) == EINVAL);
	CHECK(pthread_condattr_getpshared(&attr, &shared) == 0 && shared == PTHREAD_PROCESS_SHARED);
	NEED(pthread_cond_init(&made, &attr) == 0);
	pthread_mutex_lock(&lock);
	struct timespec until = in_ns(CLOCK_MONOTONIC, 500000);

	CHECK(pthread_cond_timedwait(&made, &lock, &until) == ETIMEDOUT);
	pthread_mutex_unlock(&lock);
	CHECK(pthread_cond_init(&made, &none) == EINVAL);
	CHECK(pthread_condattr_destroy(&attr) == 0);
	CHECK(pthread_cond_init(&made, &attr) == EINVAL);
}

static void null_is_EINVAL(void)
{
	CHECK(pthread_cond_init(NULL, NULL) == EINVAL);
	CHECK(pthread_cond_signal(NULL) == EINVAL);
	CHECK(pthread_cond_broadcast(NULL) == EINVAL);
	CHECK(pthread_cond_wait(NULL, &lock) == EINVAL);
	CHECK(pthread_cond_wait(&cond, NULL) == EINVAL);
	CHECK(pthread_cond_destroy(NULL) == EINVAL);
}

CASES(CASE(signal_unblocks_at_least_one), CASE(signal_without_the_mutex_unblocks_too), CASE(broadcast_unblocks_all),
      CASE(a_signal_that_nobody_waits_for_is_not_remembered), CASE(no_signal_is_lost_between_producers_and_consumers),
      CASE(destroy_of_one_that_is_waited_for_is_EBUSY), CASE(attributes_are_remembered_or_refused),
      CASE(null_is_EINVAL))

/* XSH pthread_mutex_timedlock, pthread_mutex_clocklock. */
#include "tap.h"

static void init_kind(pthread_mutex_t *mutex, int kind)
{
	pthread_mutexattr_t attr;

	NEED(pthread_mutexattr_init(&attr) == 0);
	NEED(pthread_mutexattr_settype(&attr, kind) == 0);
	NEED(pthread_mutex_init(mutex, &attr) == 0);
	CHECK(pthread_mutexattr_destroy(&attr) == 0);
}

struct attempt {
	pthread_mutex_t *mutex;
	int result;
};

static void *tries(void *arg)
{
	struct attempt *attempt = arg;

	attempt->result = pthread_mutex_trylock(attempt->mutex);
	if (attempt->result == 0)
		pthread_mutex_unlock(attempt->mutex);
	return NULL;
}

static int by_another(void *(*what)(void *), pthread_mutex_t *mutex)
{
	struct attempt attempt = {mutex, -1};
	pthread_t thread;

	CHECK(pthread_create(&thread, NULL, what, &attempt) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
	return attempt.result;
}

/* pthread_mutex_timedlock, DESCRIPTION and ERRORS: ETIMEDOUT, not before the time. */
static void timedlock_is_ETIMEDOUT_when_the_time_has_come(void)
{
	pthread_mutex_t mutex;
	struct timespec until, now;

	init_kind(&mutex, PTHREAD_MUTEX_NORMAL);
	CHECK(pthread_mutex_lock(&mutex) == 0);
	until = in_ns(CLOCK_REALTIME, 2000000);
	CHECK(pthread_mutex_timedlock(&mutex, &until) == ETIMEDOUT);
	clock_gettime(CLOCK_REALTIME, &now);
	CHECK(!earlier(now, until));
	until = in_ns(CLOCK_MONOTONIC, 1000000);
	CHECK(pthread_mutex_clocklock(&mutex, CLOCK_MONOTONIC, &until) == ETIMEDOUT);
	/* A time that has passed. */
	until.tv_sec = 0;
	CHECK(pthread_mutex_timedlock(&mutex, &until) == ETIMEDOUT);
	until.tv_sec = -5;
	CHECK(pthread_mutex_timedlock(&mutex, &until) == ETIMEDOUT);
	CHECK(pthread_mutex_unlock(&mutex) == 0);
	/* Who gave up is not on the list any more. */
	CHECK(by_another(tries, &mutex) == 0);
}

/* DESCRIPTION: the time need not be valid if the lock can be taken at once. */
static void timedlock_of_a_free_one_looks_at_no_time(void)
{
	pthread_mutex_t mutex;
	struct timespec odd = {0, 0};

	init_kind(&mutex, PTHREAD_MUTEX_NORMAL);
	CHECK(pthread_mutex_timedlock(&mutex, &odd) == 0);
	CHECK(pthread_mutex_unlock(&mutex) == 0);
}

/* ERRORS: EINVAL, nanoseconds less than 0 or not less than 1000 million. */
static void timedlock_that_would_wait_for_a_bad_time_is_EINVAL(void)
{
	pthread_mutex_t mutex;
	struct timespec bad = in_ns(CLOCK_REALTIME, 1000000);

	init_kind(&mutex, PTHREAD_MUTEX_NORMAL);
	CHECK(pthread_mutex_lock(&mutex) == 0);
	bad.tv_nsec = 1000000000;
	CHECK(pthread_mutex_timedlock(&mutex, &bad) == EINVAL);
	bad.tv_nsec = -1;
	CHECK(pthread_mutex_timedlock(&mutex, &bad) == EINVAL);
	CHECK(pthread_mutex_timedlock(&mutex, NULL) == EINVAL);
	bad.tv_nsec = 0;
	CHECK(pthread_mutex_clocklock(&mutex, 77, &bad) == EINVAL);
	CHECK(pthread_mutex_unlock(&mutex) == 0);
}

static int gate;

static void *holds_for_a_while(void *arg)
{
	pthread_mutex_lock(arg);
	store(&gate, 1);
	others();
	pthread_mutex_unlock(arg);
	return NULL;
}

static void timedlock_gets_the_lock_when_it_is_let_go_in_time(void)
{
	pthread_mutex_t mutex;
	pthread_t thread;
	struct timespec far;

	init_kind(&mutex, PTHREAD_MUTEX_ERRORCHECK);
	store(&gate, 0);
	NEED(pthread_create(&thread, NULL, holds_for_a_while, &mutex) == 0);
	UNTIL(load(&gate) == 1);
	far = in_ns(CLOCK_REALTIME, 3600l * 1000000000l);
	CHECK(pthread_mutex_timedlock(&mutex, &far) == 0);
	CHECK(pthread_mutex_lock(&mutex) == EDEADLK);
	CHECK(pthread_mutex_unlock(&mutex) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
}

CASES(CASE(timedlock_is_ETIMEDOUT_when_the_time_has_come), CASE(timedlock_of_a_free_one_looks_at_no_time),
      CASE(timedlock_that_would_wait_for_a_bad_time_is_EINVAL), CASE(timedlock_gets_the_lock_when_it_is_let_go_in_time))

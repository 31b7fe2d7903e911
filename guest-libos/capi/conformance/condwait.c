/* XSH pthread_cond_timedwait, pthread_cond_clockwait, and what a wait does with its mutex. */
#include "tap.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;

static int waiting, tokens;

static int locked(const int *word)
{
	pthread_mutex_lock(&lock);
	int value = *word;

	pthread_mutex_unlock(&lock);
	return value;
}

/* pthread_cond_timedwait, ERRORS: ETIMEDOUT; DESCRIPTION: the mutex is locked again all the same. */
static void timedwait_is_ETIMEDOUT_not_before_the_time_and_holds_the_mutex(void)
{
	struct timespec until, now;

	pthread_mutex_lock(&lock);
	until = in_ns(CLOCK_REALTIME, 2000000);
	CHECK(pthread_cond_timedwait(&cond, &lock, &until) == ETIMEDOUT);
	clock_gettime(CLOCK_REALTIME, &now);
	CHECK(!earlier(now, until));
	CHECK(pthread_mutex_trylock(&lock) == EBUSY);
	until.tv_sec = 0;
	CHECK(pthread_cond_timedwait(&cond, &lock, &until) == ETIMEDOUT);
	CHECK(pthread_mutex_unlock(&lock) == 0);
}

static void timedwait_for_a_bad_time_is_EINVAL_and_holds_the_mutex(void)
{
	struct timespec bad = {1, 1000000000};

	pthread_mutex_lock(&lock);
	CHECK(pthread_cond_timedwait(&cond, &lock, &bad) == EINVAL);
	bad.tv_nsec = -1;
	CHECK(pthread_cond_timedwait(&cond, &lock, &bad) == EINVAL);
	CHECK(pthread_cond_timedwait(&cond, &lock, NULL) == EINVAL);
	CHECK(pthread_mutex_unlock(&lock) == 0);
}

static void *waits_long(void *arg)
{
	struct timespec far = in_ns(CLOCK_MONOTONIC, 3600l * 1000000000l);
	int result = 0;

	pthread_mutex_lock(&lock);
	waiting = 1;
	while (tokens == 0 && result == 0)
		result = pthread_cond_clockwait(&cond, &lock, CLOCK_MONOTONIC, &far);
	pthread_mutex_unlock(&lock);
	return result == 0 ? arg : NULL;
}

static void a_timed_wait_is_ended_by_a_signal(void)
{
	pthread_t thread;
	void *value;

	waiting = tokens = 0;
	NEED(pthread_create(&thread, NULL, waits_long, &cond) == 0);
	UNTIL(locked(&waiting));
	pthread_mutex_lock(&lock);
	tokens = 1;
	CHECK(pthread_cond_signal(&cond) == 0);
	pthread_mutex_unlock(&lock);
	CHECK(pthread_join(thread, &value) == 0 && value == &cond);
}

/* pthread_cond_wait, ERRORS: EPERM, the mutex is not the caller's. */
static void wait_without_the_mutex_is_EPERM(void)
{
	struct timespec until = in_ns(CLOCK_REALTIME, 1000000);
	pthread_mutexattr_t attr;
	pthread_mutex_t checking;

	CHECK(pthread_cond_wait(&cond, &lock) == EPERM);
	CHECK(pthread_cond_timedwait(&cond, &lock, &until) == EPERM);
	NEED(pthread_mutexattr_init(&attr) == 0);
	NEED(pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ERRORCHECK) == 0);
	NEED(pthread_mutex_init(&checking, &attr) == 0);
	CHECK(pthread_cond_wait(&cond, &checking) == EPERM);
}

/* pthread_cond_wait with a recursive mutex locked once: as with any other. */
static void an_errorcheck_or_recursive_mutex_is_the_callers_again_after_a_wait(void)
{
	static const int kinds[] = {PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_ERRORCHECK};
	pthread_mutexattr_t attr;
	pthread_mutex_t mutex;

	for (int i = 0; i < 2; i++) {
		struct timespec until = in_ns(CLOCK_REALTIME, 500000);

		NEED(pthread_mutexattr_init(&attr) == 0);
		NEED(pthread_mutexattr_settype(&attr, kinds[i]) == 0);
		NEED(pthread_mutex_init(&mutex, &attr) == 0);
		CHECK(pthread_mutex_lock(&mutex) == 0);
		CHECK(pthread_cond_timedwait(&cond, &mutex, &until) == ETIMEDOUT);
		CHECK(pthread_mutex_unlock(&mutex) == 0);
		CHECK(pthread_mutex_unlock(&mutex) == EPERM);
	}
}

static void a_recursive_mutex_has_its_depth_again_after_a_wait(void)
{
	pthread_mutex_t mutex = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
	struct timespec until = in_ns(CLOCK_REALTIME, 500000);

	for (int i = 0; i < 3; i++)
		CHECK(pthread_mutex_lock(&mutex) == 0);
	CHECK(pthread_cond_timedwait(&cond, &mutex, &until) == ETIMEDOUT);
	for (int i = 0; i < 3; i++)
		CHECK(pthread_mutex_unlock(&mutex) == 0);
	CHECK(pthread_mutex_unlock(&mutex) == EPERM);
}

CASES(CASE(timedwait_is_ETIMEDOUT_not_before_the_time_and_holds_the_mutex),
      CASE(timedwait_for_a_bad_time_is_EINVAL_and_holds_the_mutex), CASE(a_timed_wait_is_ended_by_a_signal),
      CASE(wait_without_the_mutex_is_EPERM), CASE(an_errorcheck_or_recursive_mutex_is_the_callers_again_after_a_wait),
      CASE(a_recursive_mutex_has_its_depth_again_after_a_wait))

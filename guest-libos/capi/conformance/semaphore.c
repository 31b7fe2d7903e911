/* XSH sem_init, sem_wait, sem_trywait, sem_timedwait, sem_post, sem_getvalue, sem_destroy. */
#include "tap.h"

static sem_t sem;
static int passed;

static void *passes(void *arg)
{
	if (sem_wait(&sem) != 0)
		return NULL;
	add(&passed, 1);
	return arg;
}

static int value_of(sem_t *which)
{
	int value = -77;

	CHECK(sem_getvalue(which, &value) == 0);
	return value;
}

static void the_initial_value_is_what_can_be_taken(void)
{
	NEED(sem_init(&sem, 0, 2) == 0);
	CHECK(value_of(&sem) == 2);
	CHECK(sem_wait(&sem) == 0);
	CHECK(sem_trywait(&sem) == 0);
	CHECK(value_of(&sem) == 0);
	errno = 0;
	CHECK(sem_trywait(&sem) == -1 && errno == EAGAIN);
	CHECK(sem_destroy(&sem) == 0);
}

/* sem_post, DESCRIPTION: one of the threads that are blocked returns. */
static void a_post_lets_one_pass(void)
{
	pthread_t threads[3];

	NEED(sem_init(&sem, 0, 0) == 0);
	store(&passed, 0);
	for (int i = 0; i < 3; i++)
		NEED(pthread_create(&threads[i], NULL, passes, &sem) == 0);
	for (int i = 1; i <= 3; i++) {
		CHECK(sem_post(&sem) == 0);
		UNTIL(load(&passed) == i);
		others();
		CHECK(load(&passed) == i);
	}
	for (int i = 0; i < 3; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	CHECK(value_of(&sem) == 0);
	CHECK(sem_destroy(&sem) == 0);
}

/* sem_post, DESCRIPTION: if nobody is blocked, the value is incremented. */
static void posts_that_nobody_waits_for_are_kept(void)
{
	NEED(sem_init(&sem, 1, 0) == 0);
	for (int i = 0; i < 5; i++)
		CHECK(sem_post(&sem) == 0);
	CHECK(value_of(&sem) == 5);
	for (int i = 0; i < 5; i++)
		CHECK(sem_wait(&sem) == 0);
	CHECK(sem_trywait(&sem) == -1);
	CHECK(sem_destroy(&sem) == 0);
}

/* sem_timedwait, ERRORS: ETIMEDOUT, not before the time; EINVAL. */
static void timedwait_is_ETIMEDOUT_when_the_time_has_come(void)
{
	struct timespec until, now;

	NEED(sem_init(&sem, 0, 0) == 0);
	until = in_ns(CLOCK_REALTIME, 2000000);
	CHECK(sem_timedwait(&sem, &until) == -1 && errno == ETIMEDOUT);
	clock_gettime(CLOCK_REALTIME, &now);
	CHECK(!earlier(now, until));
	until = in_ns(CLOCK_MONOTONIC, 500000);
	CHECK(sem_clockwait(&sem, CLOCK_MONOTONIC, &until) == -1 && errno == ETIMEDOUT);
	until.tv_sec = 0;
	CHECK(sem_timedwait(&sem, &until) == -1 && errno == ETIMEDOUT);
	until.tv_nsec = 1000000000;
	CHECK(sem_timedwait(&sem, &until) == -1 && errno == EINVAL);
	CHECK(sem_post(&sem) == 0);
	/* DESCRIPTION: the time need not be valid if the semaphore can be taken at once. */
	CHECK(sem_timedwait(&sem, &until) == 0);
	CHECK(value_of(&sem) == 0);
	CHECK(sem_destroy(&sem) == 0);
}

static void *passes_in_time(void *arg)
{
	struct timespec far = in_ns(CLOCK_REALTIME, 3600l * 1000000000l);

	return sem_timedwait(&sem, &far) == 0 ? arg : NULL;
}

static void a_timed_wait_is_ended_by_a_post(void)
{
	pthread_t thread;
	void *value;

	NEED(sem_init(&sem, 0, 0) == 0);
	NEED(pthread_create(&thread, NULL, passes_in_time, &sem) == 0);
	others();
	CHECK(sem_post(&sem) == 0);
	CHECK(pthread_join(thread, &value) == 0 && value == &sem);
	CHECK(value_of(&sem) == 0);
}

static int gave_up;

static void *hurries(void *arg)
{
	for (int i = 0; i < 100; i++) {
		struct timespec soon = in_ns(CLOCK_REALTIME, 20000);

		if (sem_timedwait(&sem, &soon) == 0)
			add(&passed, 1);
		else if (errno == ETIMEDOUT)
			add(&gave_up, 1);
		else
			return NULL;
	}
	return arg;
}

/* No post is lost to somebody who gives up at the same time. */
static void posts_and_timeouts_that_meet_lose_nothing(void)
{
	pthread_t threads[4];
	void *value;
	int posts = 0;

	NEED(sem_init(&sem, 0, 0) == 0);
	store(&passed, 0);
	store(&gave_up, 0);
	for (int i = 0; i < 4; i++)
		NEED(pthread_create(&threads[i], NULL, hurries, &sem) == 0);
	while (load(&passed) + load(&gave_up) < 400) {
		if (posts < 1000 && value_of(&sem) == 0) {
			CHECK(sem_post(&sem) == 0);
			posts++;
		}
		sched_yield();
	}
	for (int i = 0; i < 4; i++)
		CHECK(pthread_join(threads[i], &value) == 0 && value == &sem);
	CHECK(load(&passed) + value_of(&sem) == posts);
}

/* sem_init, ERRORS: EINVAL, the value exceeds SEM_VALUE_MAX. sem_post, ERRORS: EOVERFLOW. */
static void values_beyond_SEM_VALUE_MAX_are_refused(void)
{
	CHECK(sem_init(&sem, 0, SEM_VALUE_MAX + 1u) == -1 && errno == EINVAL);
	NEED(sem_init(&sem, 0, SEM_VALUE_MAX) == 0);
	CHECK(sem_post(&sem) == -1 && errno == EOVERFLOW);
	CHECK(value_of(&sem) == SEM_VALUE_MAX);
	CHECK(sem_destroy(&sem) == 0);
}

/* sem_destroy, ERRORS: EBUSY (may fail; here it does). */
static void destroy_of_one_that_is_waited_for_is_EBUSY(void)
{
	pthread_t thread;

	/* With one vCPU it is known that the other one waits; else nothing tells. */
	if (flux_vcpus() > 1)
		return;
	NEED(sem_init(&sem, 0, 0) == 0);
	NEED(pthread_create(&thread, NULL, passes, &sem) == 0);
	others();
	CHECK(sem_destroy(&sem) == -1 && errno == EBUSY);
	CHECK(sem_post(&sem) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
	CHECK(sem_destroy(&sem) == 0);
}

/* ERRORS: EINVAL, not a valid semaphore. */
static void one_that_is_none_is_EINVAL(void)
{
	int value;

	NEED(sem_init(&sem, 0, 1) == 0);
	CHECK(sem_getvalue(&sem, NULL) == -1 && errno == EINVAL);
	CHECK(sem_destroy(&sem) == 0);
	CHECK(sem_wait(&sem) == -1 && errno == EINVAL);
	CHECK(sem_post(&sem) == -1 && errno == EINVAL);
	CHECK(sem_trywait(&sem) == -1 && errno == EINVAL);
	CHECK(sem_getvalue(&sem, &value) == -1 && errno == EINVAL);
	CHECK(sem_destroy(&sem) == -1 && errno == EINVAL);
	CHECK(sem_init(NULL, 0, 1) == -1 && errno == EINVAL);
	CHECK(sem_wait(NULL) == -1 && errno == EINVAL);
	CHECK(sem_post(NULL) == -1 && errno == EINVAL);
}

CASES(CASE(the_initial_value_is_what_can_be_taken), CASE(a_post_lets_one_pass),
      CASE(posts_that_nobody_waits_for_are_kept), CASE(timedwait_is_ETIMEDOUT_when_the_time_has_come),
      CASE(a_timed_wait_is_ended_by_a_post), CASE(posts_and_timeouts_that_meet_lose_nothing),
      CASE(values_beyond_SEM_VALUE_MAX_are_refused), CASE(destroy_of_one_that_is_waited_for_is_EBUSY),
      CASE(one_that_is_none_is_EINVAL))

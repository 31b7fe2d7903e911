/* XSH pthread_barrier_*, pthread_barrierattr_*. */
#include "tap.h"

enum { THREADS = 5, ROUNDS = 100 };

static pthread_barrier_t barrier;
static int came[ROUNDS], serial[ROUNDS], bad;

static void *goes_round(void *arg)
{
	for (int round = 0; round < ROUNDS; round++) {
		add(&came[round], 1);
		int result = pthread_barrier_wait(&barrier);

		/* DESCRIPTION: nobody goes on before all have called it. */
		if (load(&came[round]) != THREADS)
			store(&bad, 1);
		if (result == PTHREAD_BARRIER_SERIAL_THREAD)
			add(&serial[round], 1);
		else if (result != 0)
			store(&bad, 2);
	}
	return arg;
}

/* pthread_barrier_wait, DESCRIPTION: SERIAL_THREAD to one, 0 to each other; then it is as after init. */
static void all_wait_for_all_and_one_is_the_serial_thread(void)
{
	pthread_t threads[THREADS];

	memset(came, 0, sizeof(came));
	memset(serial, 0, sizeof(serial));
	NEED(pthread_barrier_init(&barrier, NULL, THREADS) == 0);
	for (int i = 0; i < THREADS; i++)
		NEED(pthread_create(&threads[i], NULL, goes_round, NULL) == 0);
	for (int i = 0; i < THREADS; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	CHECK(bad == 0);
	for (int round = 0; round < ROUNDS; round++)
		CHECK(serial[round] == 1);
	CHECK(pthread_barrier_destroy(&barrier) == 0);
}

static void a_barrier_of_one_does_not_wait(void)
{
	NEED(pthread_barrier_init(&barrier, NULL, 1) == 0);
	for (int i = 0; i < 3; i++)
		CHECK(pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD);
	CHECK(pthread_barrier_destroy(&barrier) == 0);
}

static void *waits(void *arg)
{
	int result = pthread_barrier_wait(arg);

	return result == 0 || result == PTHREAD_BARRIER_SERIAL_THREAD ? arg : NULL;
}

/* The memory is the caller's again once destroy has returned, however late the others wake. */
static void it_can_be_destroyed_as_soon_as_one_wait_has_returned(void)
{
	pthread_t thread;
	void *value;

	for (int i = 0; i < 200; i++) {
		pthread_barrier_t own;

		NEED(pthread_barrier_init(&own, NULL, 2) == 0);
		NEED(pthread_create(&thread, NULL, waits, &own) == 0);
		int result = pthread_barrier_wait(&own);

		NEED(result == 0 || result == PTHREAD_BARRIER_SERIAL_THREAD);
		NEED(pthread_barrier_destroy(&own) == 0);
		memset(&own, 0xff, sizeof(own));
		NEED(pthread_join(thread, &value) == 0 && value == &own);
	}
}

/* pthread_barrier_init, ERRORS: EINVAL, the count is 0. */
static void a_count_of_0_is_EINVAL(void)
{
	CHECK(pthread_barrier_init(&barrier, NULL, 0) == EINVAL);
	CHECK(pthread_barrier_init(NULL, NULL, 1) == EINVAL);
	CHECK(pthread_barrier_wait(NULL) == EINVAL);
}

static void one_that_was_not_made_is_EINVAL(void)
{
	pthread_barrier_t own;

	memset(&own, 0, sizeof(own));
	CHECK(pthread_barrier_wait(&own) == EINVAL);
	CHECK(pthread_barrier_destroy(&own) == EINVAL);
	NEED(pthread_barrier_init(&own, NULL, 1) == 0);
	CHECK(pthread_barrier_destroy(&own) == 0);
	CHECK(pthread_barrier_wait(&own) == EINVAL);
}

/* pthread_barrier_destroy, ERRORS: EBUSY (may fail; here it does). */
static void destroy_of_one_that_is_waited_at_is_EBUSY(void)
{
	pthread_t thread;
	void *value;

	/* With one vCPU it is known that the other one waits; else nothing tells. */
	if (flux_vcpus() > 1)
		return;
	NEED(pthread_barrier_init(&barrier, NULL, 2) == 0);
	NEED(pthread_create(&thread, NULL, waits, &barrier) == 0);
	others();
	CHECK(pthread_barrier_destroy(&barrier) == EBUSY);
	CHECK(pthread_barrier_wait(&barrier) != EINVAL);
	CHECK(pthread_join(thread, &value) == 0 && value == &barrier);
	CHECK(pthread_barrier_destroy(&barrier) == 0);
}

static void attributes_are_remembered_or_refused(void)
{
	pthread_barrierattr_t attr, none;
	int shared = -1;

	memset(&none, 0, sizeof(none));
	NEED(pthread_barrierattr_init(&attr) == 0);
	CHECK(pthread_barrierattr_setpshared(&attr, PTHREAD_PROCESS_SHARED) == 0);
	CHECK(pthread_barrierattr_getpshared(&attr, &shared) == 0 && shared == PTHREAD_PROCESS_SHARED);
	CHECK(pthread_barrierattr_setpshared(&attr, -1) == EINVAL);
	CHECK(pthread_barrier_init(&barrier, &attr, 2) == 0);
	CHECK(pthread_barrier_destroy(&barrier) == 0);
	CHECK(pthread_barrier_init(&barrier, &none, 2) == EINVAL);
	CHECK(pthread_barrierattr_destroy(&attr) == 0);
	CHECK(pthread_barrier_init(&barrier, &attr, 2) == EINVAL);
}

CASES(CASE(all_wait_for_all_and_one_is_the_serial_thread), CASE(a_barrier_of_one_does_not_wait),
      CASE(it_can_be_destroyed_as_soon_as_one_wait_has_returned), CASE(a_count_of_0_is_EINVAL),
      CASE(one_that_was_not_made_is_EINVAL), CASE(destroy_of_one_that_is_waited_at_is_EBUSY),
      CASE(attributes_are_remembered_or_refused))

/* XSH clock_gettime, clock_getres, nanosleep, clock_nanosleep; sched_yield. */
#include "tap.h"

static const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC};

static void clocks_do_not_go_back_and_go_on(void)
{
	for (int i = 0; i < 2; i++) {
		struct timespec first, last, now;

		NEED(clock_gettime(clocks[i], &first) == 0);
		last = first;
		do {
			NEED(clock_gettime(clocks[i], &now) == 0);
			NEED(now.tv_nsec >= 0 && now.tv_nsec < 1000000000);
			NEED(!earlier(now, last));
			last = now;
		} while (!earlier(first, now));
	}
}

static void getres_is_at_most_a_microsecond(void)
{
	struct timespec resolution = {9, 9};

	for (int i = 0; i < 2; i++) {
		CHECK(clock_getres(clocks[i], &resolution) == 0);
		CHECK(resolution.tv_sec == 0 && resolution.tv_nsec > 0 && resolution.tv_nsec <= 1000);
		CHECK(clock_getres(clocks[i], NULL) == 0);
	}
}

/* ERRORS: EINVAL. */
static void clocks_that_are_not_there_are_EINVAL(void)
{
	struct timespec time = {0, 0};

	CHECK(clock_gettime(42, &time) == -1 && errno == EINVAL);
	CHECK(clock_gettime(CLOCK_MONOTONIC, NULL) == -1 && errno == EINVAL);
	CHECK(clock_getres(-1, &time) == -1 && errno == EINVAL);
	CHECK(clock_nanosleep(42, 0, &time, NULL) == EINVAL);
}

/* nanosleep, DESCRIPTION: the suspension time is not less than requested. */
static void nanosleep_is_not_shorter_than_asked_for(void)
{
	static const long lengths[] = {0, 1, 20000, 3000000};

	for (int i = 0; i < 4; i++) {
		struct timespec length = {0, lengths[i]}, until = in_ns(CLOCK_MONOTONIC, lengths[i]), now;

		CHECK(nanosleep(&length, NULL) == 0);
		CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0 && !earlier(now, until));
	}
}

/* clock_nanosleep, DESCRIPTION: TIMER_ABSTIME; at once if the time has passed. It returns the error number. */
static void clock_nanosleep_sleeps_until_a_time(void)
{
	for (int i = 0; i < 2; i++) {
		struct timespec until = in_ns(clocks[i], 2000000), now, past = {0, 1}, length = {0, 1000};

		CHECK(clock_nanosleep(clocks[i], TIMER_ABSTIME, &until, NULL) == 0);
		CHECK(clock_gettime(clocks[i], &now) == 0 && !earlier(now, until));
		CHECK(clock_nanosleep(clocks[i], TIMER_ABSTIME, &past, NULL) == 0);
		CHECK(clock_nanosleep(clocks[i], 0, &length, NULL) == 0);
		CHECK(clock_nanosleep(clocks[i], 7, &length, NULL) == EINVAL);
	}
}

/* ERRORS: EINVAL, nanoseconds less than 0 or not less than 1000 million. */
static void bad_times_are_EINVAL(void)
{
	struct timespec bad = {0, 1000000000};

	CHECK(nanosleep(&bad, NULL) == -1 && errno == EINVAL);
	CHECK(clock_nanosleep(CLOCK_MONOTONIC, 0, &bad, NULL) == EINVAL);
	bad.tv_nsec = -1;
	CHECK(nanosleep(&bad, NULL) == -1 && errno == EINVAL);
	bad.tv_nsec = 0;
	bad.tv_sec = -1;
	CHECK(nanosleep(&bad, NULL) == -1 && errno == EINVAL);
	CHECK(nanosleep(NULL, NULL) == -1 && errno == EINVAL);
	CHECK(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, NULL, NULL) == EINVAL);
}

static int order[3], at;

static void *sleeps(void *arg)
{
	int turn = (int)(long)arg;
	struct timespec length = {0, (3 - turn) * 3000000l};

	nanosleep(&length, NULL);
	order[add(&at, 1) - 1] = turn;
	return NULL;
}

static void others_run_while_one_sleeps(void)
{
	pthread_t threads[3];
	int seen = 0;

	store(&at, 0);
	for (long i = 0; i < 3; i++)
		NEED(pthread_create(&threads[i], NULL, sleeps, (void *)i) == 0);
	for (int i = 0; i < 3; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	for (int i = 0; i < 3; i++)
		seen |= 1 << order[i];
	CHECK(load(&at) == 3 && seen == 7);
}

static int ran;

static void *runs(void *arg)
{
	store(&ran, 1);
	return arg;
}

/* sched_yield, DESCRIPTION: relinquishes the processor to others. */
static void sched_yield_lets_others_run(void)
{
	pthread_t thread;

	store(&ran, 0);
	NEED(pthread_create(&thread, NULL, runs, NULL) == 0);
	while (!load(&ran))
		NEED(sched_yield() == 0);
	CHECK(pthread_join(thread, NULL) == 0);
}

CASES(CASE(clocks_do_not_go_back_and_go_on), CASE(getres_is_at_most_a_microsecond),
      CASE(clocks_that_are_not_there_are_EINVAL), CASE(nanosleep_is_not_shorter_than_asked_for),
      CASE(clock_nanosleep_sleeps_until_a_time), CASE(bad_times_are_EINVAL), CASE(others_run_while_one_sleeps),
      CASE(sched_yield_lets_others_run))

/* XSH pthread_rwlock_*, pthread_rwlockattr_*. */
#include "tap.h"

static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
static int readers, most, writers, bad;

static void *reads(void *arg)
{
	for (int i = 0; i < 200; i++) {
		if (pthread_rwlock_rdlock(&lock) != 0)
			return NULL;
		add(&readers, 1);
		if (load(&writers) != 0)
			store(&bad, 1);
		if (i % 10 == 0)
			sched_yield();
		add(&readers, -1);
		if (pthread_rwlock_unlock(&lock) != 0)
			return NULL;
	}
	return arg;
}

static void *writes(void *arg)
{
	for (int i = 0; i < 200; i++) {
		if (pthread_rwlock_wrlock(&lock) != 0)
			return NULL;
		if (add(&writers, 1) != 1 || load(&readers) != 0)
			store(&bad, 1);
		if (i % 10 == 0)
			sched_yield();
		add(&writers, -1);
		if (pthread_rwlock_unlock(&lock) != 0)
			return NULL;
	}
	return arg;
}

static void writers_exclude_all_others(void)
{
	pthread_t threads[6];
	void *value;

	for (int i = 0; i < 6; i++)
		NEED(pthread_create(&threads[i], NULL, i % 2 ? reads : writes, &lock) == 0);
	for (int i = 0; i < 6; i++)
		CHECK(pthread_join(threads[i], &value) == 0 && value == &lock);
	CHECK(bad == 0);
}

static void *meets_others(void *arg)
{
	pthread_rwlock_rdlock(&lock);
	add(&most, 1);
	UNTIL(load(&most) == 3);
	pthread_rwlock_unlock(&lock);
	return arg;
}

/* pthread_rwlock_rdlock, DESCRIPTION: several may hold it for reading at a time. */
static void readers_share(void)
{
	pthread_t threads[3];

	store(&most, 0);
	for (int i = 0; i < 3; i++)
		NEED(pthread_create(&threads[i], NULL, meets_others, NULL) == 0);
	for (int i = 0; i < 3; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
}

/* DESCRIPTION: a thread may hold multiple concurrent read locks, and unlocks each. */
static void a_reader_may_read_again(void)
{
	CHECK(pthread_rwlock_rdlock(&lock) == 0);
	CHECK(pthread_rwlock_rdlock(&lock) == 0);
	CHECK(pthread_rwlock_tryrdlock(&lock) == 0);
	CHECK(pthread_rwlock_trywrlock(&lock) == EBUSY);
	for (int i = 0; i < 3; i++)
		CHECK(pthread_rwlock_unlock(&lock) == 0);
	CHECK(pthread_rwlock_trywrlock(&lock) == 0);
	CHECK(pthread_rwlock_unlock(&lock) == 0);
}

static int results[4];

static void *tries(void *arg)
{
	struct timespec past = {0, 1};

	(void)arg;
	results[0] = pthread_rwlock_tryrdlock(&lock);
	results[1] = pthread_rwlock_trywrlock(&lock);
	results[2] = pthread_rwlock_timedrdlock(&lock, &past);
	results[3] = pthread_rwlock_timedwrlock(&lock, &past);
	if (results[0] == 0)
		pthread_rwlock_unlock(&lock);
	if (results[2] == 0)
		pthread_rwlock_unlock(&lock);
	return NULL;
}

static void others_try(void)
{
	pthread_t thread;

	NEED(pthread_create(&thread, NULL, tries, NULL) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
}

/* ERRORS: EBUSY of the try functions, ETIMEDOUT of the timed ones. */
static void what_a_writer_holds_is_EBUSY_or_ETIMEDOUT(void)
{
	CHECK(pthread_rwlock_wrlock(&lock) == 0);
	others_try();
	CHECK(results[0] == EBUSY && results[1] == EBUSY && results[2] == ETIMEDOUT && results[3] == ETIMEDOUT);
	CHECK(pthread_rwlock_unlock(&lock) == 0);
}

static void what_a_reader_holds_can_be_read_and_not_written(void)
{
	CHECK(pthread_rwlock_rdlock(&lock) == 0);
	others_try();
	CHECK(results[0] == 0 && results[1] == EBUSY && results[2] == 0 && results[3] == ETIMEDOUT);
	CHECK(pthread_rwlock_unlock(&lock) == 0);
	/* Nobody is left behind who gave up. */
	CHECK(pthread_rwlock_trywrlock(&lock) == 0);
	CHECK(pthread_rwlock_unlock(&lock) == 0);
}

static void timed_waits_end_not_before_the_time(void)
{
	struct timespec until, now;
	pthread_rwlock_t own;

	NEED(pthread_rwlock_init(&own, NULL) == 0);
	CHECK(pthread_rwlock_rdlock(&own) == 0);
	until = in_ns(CLOCK_REALTIME, 2000000);
	CHECK(pthread_rwlock_timedwrlock(&own, &until) == ETIMEDOUT);
	clock_gettime(CLOCK_REALTIME, &now);
	CHECK(!earlier(now, until));
	until.tv_nsec = 1000000000;
	CHECK(pthread_rwlock_timedwrlock(&own, &until) == EINVAL);
	CHECK(pthread_rwlock_timedrdlock(&own, &until) == 0);
	CHECK(pthread_rwlock_unlock(&own) == 0);
	CHECK(pthread_rwlock_unlock(&own) == 0);
	CHECK(pthread_rwlock_destroy(&own) == 0);
}

/* pthread_rwlock_rdlock, pthread_rwlock_wrlock, ERRORS: EDEADLK, the caller holds it for writing. */
static void a_writer_that_locks_again_is_EDEADLK(void)
{
	struct timespec far = in_ns(CLOCK_REALTIME, 3600l * 1000000000l);

	CHECK(pthread_rwlock_wrlock(&lock) == 0);
	CHECK(pthread_rwlock_wrlock(&lock) == EDEADLK);
	CHECK(pthread_rwlock_rdlock(&lock) == EDEADLK);
	CHECK(pthread_rwlock_timedwrlock(&lock, &far) == EDEADLK);
	CHECK(pthread_rwlock_timedrdlock(&lock, &far) == EDEADLK);
	CHECK(pthread_rwlock_trywrlock(&lock) == EBUSY);
	CHECK(pthread_rwlock_unlock(&lock) == 0);
}

static void *unlocks(void *arg)
{
	(void)arg;
	results[0] = pthread_rwlock_unlock(&lock);
	return NULL;
}

/* pthread_rwlock_unlock: undefined in POSIX; refused here where it can be seen. */
static void unlock_of_a_free_one_or_anothers_write_lock_is_EPERM(void)
{
	pthread_t thread;

	CHECK(pthread_rwlock_unlock(&lock) == EPERM);
	CHECK(pthread_rwlock_wrlock(&lock) == 0);
	NEED(pthread_create(&thread, NULL, unlocks, NULL) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
	CHECK(results[0] == EPERM);
	CHECK(pthread_rwlock_unlock(&lock) == 0);
	CHECK(pthread_rwlock_unlock(&lock) == EPERM);
}

static void destroy_of_a_locked_one_is_EBUSY(void)
{
	pthread_rwlock_t own;

	NEED(pthread_rwlock_init(&own, NULL) == 0);
	CHECK(pthread_rwlock_rdlock(&own) == 0);
	CHECK(pthread_rwlock_destroy(&own) == EBUSY);
	CHECK(pthread_rwlock_unlock(&own) == 0);
	CHECK(pthread_rwlock_destroy(&own) == 0);
	CHECK(pthread_rwlock_rdlock(&own) == EINVAL);
}

static void attributes_are_remembered_or_refused(void)
{
	pthread_rwlockattr_t attr, none;
	pthread_rwlock_t own;
	int shared = -1;

	memset(&none, 0, sizeof(none));
	NEED(pthread_rwlockattr_init(&attr) == 0);
	CHECK(pthread_rwlockattr_getpshared(&attr, &shared) == 0 && shared == PTHREAD_PROCESS_PRIVATE);
	CHECK(pthread_rwlockattr_setpshared(&attr, PTHREAD_PROCESS_SHARED) == 0);
	CHECK(pthread_rwlockattr_getpshared(&attr, &shared) == 0 && shared == PTHREAD_PROCESS_SHARED);
	CHECK(pthread_rwlockattr_setpshared(&attr, 4) == EINVAL);
	CHECK(pthread_rwlock_init(&own, &attr) == 0);
	CHECK(pthread_rwlock_init(&own, &none) == EINVAL);
	CHECK(pthread_rwlockattr_destroy(&attr) == 0);
	CHECK(pthread_rwlock_init(&own, &attr) == EINVAL);
}

static void null_is_EINVAL(void)
{
	CHECK(pthread_rwlock_init(NULL, NULL) == EINVAL);
	CHECK(pthread_rwlock_rdlock(NULL) == EINVAL);
	CHECK(pthread_rwlock_wrlock(NULL) == EINVAL);
	CHECK(pthread_rwlock_unlock(NULL) == EINVAL);
	CHECK(pthread_rwlock_destroy(NULL) == EINVAL);
}

CASES(CASE(writers_exclude_all_others), CASE(readers_share), CASE(a_reader_may_read_again),
      CASE(what_a_writer_holds_is_EBUSY_or_ETIMEDOUT), CASE(what_a_reader_holds_can_be_read_and_not_written),
      CASE(timed_waits_end_not_before_the_time), CASE(a_writer_that_locks_again_is_EDEADLK),
      CASE(unlock_of_a_free_one_or_anothers_write_lock_is_EPERM), CASE(destroy_of_a_locked_one_is_EBUSY),
      CASE(attributes_are_remembered_or_refused), CASE(null_is_EINVAL))

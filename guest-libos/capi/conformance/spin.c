/* XSH pthread_spin_init, pthread_spin_lock, pthread_spin_trylock, pthread_spin_unlock, pthread_spin_destroy. */
#include "tap.h"

static pthread_spinlock_t lock;
static long counter;

static void *counts(void *arg)
{
	for (int i = 0; i < 2000; i++) {
		if (pthread_spin_lock(&lock) != 0)
			return NULL;
		counter++;
		if (i % 100 == 0)
			sched_yield();
		if (pthread_spin_unlock(&lock) != 0)
			return NULL;
	}
	return arg;
}

static void one_thread_at_a_time_has_it_even_if_it_gives_way(void)
{
	pthread_t threads[6];
	void *value;

	NEED(pthread_spin_init(&lock, PTHREAD_PROCESS_PRIVATE) == 0);
	counter = 0;
	for (int i = 0; i < 6; i++)
		NEED(pthread_create(&threads[i], NULL, counts, &lock) == 0);
	for (int i = 0; i < 6; i++)
		CHECK(pthread_join(threads[i], &value) == 0 && value == &lock);
	CHECK(counter == 6 * 2000);
	CHECK(pthread_spin_destroy(&lock) == 0);
}

static int gate, result;

static void *tries(void *arg)
{
	(void)arg;
	result = pthread_spin_trylock(&lock);
	return NULL;
}

/* pthread_spin_trylock, ERRORS: EBUSY. */
static void trylock_of_anothers_is_EBUSY(void)
{
	pthread_t thread;

	NEED(pthread_spin_init(&lock, PTHREAD_PROCESS_SHARED) == 0);
	CHECK(pthread_spin_trylock(&lock) == 0);
	NEED(pthread_create(&thread, NULL, tries, NULL) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
	CHECK(result == EBUSY);
	CHECK(pthread_spin_trylock(&lock) == EBUSY);
	CHECK(pthread_spin_unlock(&lock) == 0);
	CHECK(pthread_spin_trylock(&lock) == 0);
	CHECK(pthread_spin_unlock(&lock) == 0);
}

/* pthread_spin_lock, ERRORS: EDEADLK, the caller has it. */
static void relock_is_EDEADLK(void)
{
	NEED(pthread_spin_init(&lock, PTHREAD_PROCESS_PRIVATE) == 0);
	CHECK(pthread_spin_lock(&lock) == 0);
	CHECK(pthread_spin_lock(&lock) == EDEADLK);
	CHECK(pthread_spin_unlock(&lock) == 0);
}

static void *unlocks(void *arg)
{
	(void)arg;
	result = pthread_spin_unlock(&lock);
	store(&gate, 1);
	return NULL;
}

/* pthread_spin_unlock: undefined in POSIX if the caller does not have it; refused here. */
static void unlock_by_another_or_of_a_free_one_is_EPERM(void)
{
	pthread_t thread;

	NEED(pthread_spin_init(&lock, PTHREAD_PROCESS_PRIVATE) == 0);
	CHECK(pthread_spin_unlock(&lock) == EPERM);
	CHECK(pthread_spin_lock(&lock) == 0);
	NEED(pthread_create(&thread, NULL, unlocks, NULL) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
	CHECK(result == EPERM && load(&gate) == 1);
	CHECK(pthread_spin_destroy(&lock) == EBUSY);
	CHECK(pthread_spin_unlock(&lock) == 0);
	CHECK(pthread_spin_unlock(&lock) == EPERM);
	CHECK(pthread_spin_destroy(&lock) == 0);
}

static void nonsense_is_EINVAL(void)
{
	CHECK(pthread_spin_init(NULL, PTHREAD_PROCESS_PRIVATE) == EINVAL);
	CHECK(pthread_spin_init(&lock, 9) == EINVAL);
	CHECK(pthread_spin_lock(NULL) == EINVAL);
	CHECK(pthread_spin_trylock(NULL) == EINVAL);
	CHECK(pthread_spin_unlock(NULL) == EINVAL);
	CHECK(pthread_spin_destroy(NULL) == EINVAL);
}

CASES(CASE(one_thread_at_a_time_has_it_even_if_it_gives_way), CASE(trylock_of_anothers_is_EBUSY),
      CASE(relock_is_EDEADLK), CASE(unlock_by_another_or_of_a_free_one_is_EPERM), CASE(nonsense_is_EINVAL))

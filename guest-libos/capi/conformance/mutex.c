/* XSH pthread_mutex_*, pthread_mutexattr_*: kinds of mutexes, and their errors. */
#include "tap.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static long counter;

static void *counts(void *arg)
{
	pthread_mutex_t *mutex = arg;

	for (int i = 0; i < 1000; i++) {
		if (pthread_mutex_lock(mutex) != 0)
			return NULL;
		long seen = counter;

		if (i % 10 == 0)
			sched_yield();
		counter = seen + 1;
		if (pthread_mutex_unlock(mutex) != 0)
			return NULL;
	}
	return arg;
}

static void exclude(pthread_mutex_t *mutex)
{
	pthread_t threads[6];
	void *value;

	counter = 0;
	for (int i = 0; i < 6; i++)
		NEED(pthread_create(&threads[i], NULL, counts, mutex) == 0);
	for (int i = 0; i < 6; i++)
		CHECK(pthread_join(threads[i], &value) == 0 && value == mutex);
	CHECK(counter == 6000);
}

static void init_kind(pthread_mutex_t *mutex, int kind)
{
	pthread_mutexattr_t attr;

	NEED(pthread_mutexattr_init(&attr) == 0);
	NEED(pthread_mutexattr_settype(&attr, kind) == 0);
	NEED(pthread_mutex_init(mutex, &attr) == 0);
	CHECK(pthread_mutexattr_destroy(&attr) == 0);
}

/* pthread_mutex_init, DESCRIPTION: PTHREAD_MUTEX_INITIALIZER is equivalent to init with default attributes. */
static void the_static_initialiser_makes_a_mutex(void)
{
	exclude(&lock);
}

static void every_kind_excludes(void)
{
	static const int kinds[] = {PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_ERRORCHECK};
	pthread_mutex_t mutex;

	for (int i = 0; i < 3; i++) {
		init_kind(&mutex, kinds[i]);
		exclude(&mutex);
		CHECK(pthread_mutex_destroy(&mutex) == 0);
	}
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

static void *unlocks(void *arg)
{
	struct attempt *attempt = arg;

	attempt->result = pthread_mutex_unlock(attempt->mutex);
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

/* pthread_mutex_trylock, ERRORS: EBUSY. */
static void trylock_of_a_locked_one_is_EBUSY(void)
{
	pthread_mutex_t mutex;

	init_kind(&mutex, PTHREAD_MUTEX_NORMAL);
	CHECK(pthread_mutex_trylock(&mutex) == 0);
	CHECK(pthread_mutex_trylock(&mutex) == EBUSY);
	CHECK(by_another(tries, &mutex) == EBUSY);
	CHECK(pthread_mutex_unlock(&mutex) == 0);
	CHECK(by_another(tries, &mutex) == 0);
	init_kind(&mutex, PTHREAD_MUTEX_ERRORCHECK);
	CHECK(pthread_mutex_trylock(&mutex) == 0);
	CHECK(pthread_mutex_trylock(&mutex) == EBUSY);
	CHECK(pthread_mutex_unlock(&mutex) == 0);
}

/* pthread_mutex_lock, DESCRIPTION: the table of kinds; ERRORS: EDEADLK. */
static void relock_of_an_errorcheck_mutex_is_EDEADLK(void)
{
	pthread_mutex_t mutex;
	struct timespec never = {1000000000, 0};

	init_kind(&mutex, PTHREAD_MUTEX_ERRORCHECK);
	CHECK(pthread_mutex_lock(&mutex) == 0);
	CHECK(pthread_mutex_lock(&mutex) == EDEADLK);
	CHECK(pthread_mutex_timedlock(&mutex, &never) == EDEADLK);
	CHECK(pthread_mutex_unlock(&mutex) == 0);
	CHECK(pthread_mutex_lock(&mutex) == 0);
	CHECK(pthread_mutex_unlock(&mutex) == 0);
}

static void a_recursive_mutex_is_free_after_as_many_unlocks_as_locks(void)
{
	pthread_mutex_t mutex;

	init_kind(&mutex, PTHREAD_MUTEX_RECURSIVE);
	for (int i = 0; i < 10; i++)
		CHECK((i % 2 ? pthread_mutex_lock(&mutex) : pthread_mutex_trylock(&mutex)) == 0);
	for (int i = 0; i < 10; i++) {
		CHECK(by_another(tries, &mutex) == EBUSY);
		CHECK(pthread_mutex_unlock(&mutex) == 0);
	}
	CHECK(by_another(tries, &mutex) == 0);
	CHECK(pthread_mutex_unlock(&mutex) == EPERM);
}

static pthread_mutex_t statically_recursive = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;

static pthread_mutex_t statically_checking = PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP;

static void static_initialisers_of_other_kinds_make_them(void)
{
	CHECK(pthread_mutex_lock(&statically_recursive) == 0);
	CHECK(pthread_mutex_lock(&statically_recursive) == 0);
	CHECK(pthread_mutex_unlock(&statically_recursive) == 0);
	CHECK(pthread_mutex_unlock(&statically_recursive) == 0);
	CHECK(pthread_mutex_lock(&statically_checking) == 0);
	CHECK(pthread_mutex_lock(&statically_checking) == EDEADLK);
	CHECK(pthread_mutex_unlock(&statically_checking) == 0);
}

/* pthread_mutex_unlock, ERRORS: EPERM. For normal mutexes POSIX leaves it undefined. */
static void unlock_of_anothers_is_EPERM_for_kinds_with_an_owner(void)
{
	static const int kinds[] = {PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_ERRORCHECK};
	pthread_mutex_t mutex;

	for (int i = 0; i < 2; i++) {
		init_kind(&mutex, kinds[i]);
		CHECK(pthread_mutex_lock(&mutex) == 0);
		CHECK(by_another(unlocks, &mutex) == EPERM);
		CHECK(by_another(tries, &mutex) == EBUSY);
		CHECK(pthread_mutex_unlock(&mutex) == 0);
	}
}

/* Undefined in POSIX for normal mutexes; refused here. */
static void unlock_of_a_free_one_is_EPERM_for_every_kind(void)
{
	static const int kinds[] = {PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_ERRORCHECK};
	pthread_mutex_t mutex;

	for (int i = 0; i < 3; i++) {
		init_kind(&mutex, kinds[i]);
		CHECK(pthread_mutex_unlock(&mutex) == EPERM);
		CHECK(pthread_mutex_lock(&mutex) == 0);
		CHECK(pthread_mutex_unlock(&mutex) == 0);
		CHECK(pthread_mutex_unlock(&mutex) == EPERM);
		CHECK(pthread_mutex_lock(&mutex) == 0);
		CHECK(pthread_mutex_unlock(&mutex) == 0);
	}
}

/* pthread_mutex_destroy, ERRORS: EBUSY (may fail; here it does). */
static void destroy_of_a_locked_one_is_EBUSY(void)
{
	pthread_mutex_t mutex;

	init_kind(&mutex, PTHREAD_MUTEX_NORMAL);
	CHECK(pthread_mutex_lock(&mutex) == 0);
	CHECK(pthread_mutex_destroy(&mutex) == EBUSY);
	CHECK(pthread_mutex_unlock(&mutex) == 0);
	CHECK(pthread_mutex_destroy(&mutex) == 0);
	CHECK(pthread_mutex_lock(&mutex) == EINVAL);
	CHECK(pthread_mutex_destroy(&mutex) == EINVAL);
	CHECK(pthread_mutex_init(&mutex, NULL) == 0);
	CHECK(pthread_mutex_lock(&mutex) == 0);
	CHECK(pthread_mutex_unlock(&mutex) == 0);
}

static void attributes_are_remembered_or_refused(void)
{
	pthread_mutexattr_t attr, none;
	pthread_mutex_t mutex;
	int value = -1;

	memset(&none, 0, sizeof(none));
	NEED(pthread_mutexattr_init(&attr) == 0);
	CHECK(pthread_mutexattr_gettype(&attr, &value) == 0 && value == PTHREAD_MUTEX_DEFAULT);
	CHECK(pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE) == 0);
	CHECK(pthread_mutexattr_settype(&attr, 17) == EINVAL);
	CHECK(pthread_mutexattr_gettype(&attr, &value) == 0 && value == PTHREAD_MUTEX_RECURSIVE);
	CHECK(pthread_mutexattr_getpshared(&attr, &value) == 0 && value == PTHREAD_PROCESS_PRIVATE);
	CHECK(pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED) == 0);
	CHECK(pthread_mutexattr_getpshared(&attr, &value) == 0 && value == PTHREAD_PROCESS_SHARED);
	CHECK(pthread_mutexattr_setpshared(&attr, 2) == EINVAL);
	CHECK(pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_NONE) == 0);
	CHECK(pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_INHERIT) == ENOTSUP);
	CHECK(pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_PROTECT) == ENOTSUP);
	CHECK(pthread_mutexattr_setprotocol(&attr, 9) == EINVAL);
	CHECK(pthread_mutexattr_getprotocol(&attr, &value) == 0 && value == PTHREAD_PRIO_NONE);
	CHECK(pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_STALLED) == 0);
	CHECK(pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST) == ENOTSUP);
	CHECK(pthread_mutexattr_setrobust(&attr, 9) == EINVAL);
	CHECK(pthread_mutexattr_getrobust(&attr, &value) == 0 && value == PTHREAD_MUTEX_STALLED);
	CHECK(pthread_mutexattr_gettype(&none, &value) == EINVAL);
	CHECK(pthread_mutex_init(&mutex, &none) == EINVAL);
	CHECK(pthread_mutexattr_destroy(&attr) == 0);
	CHECK(pthread_mutex_init(&mutex, &attr) == EINVAL);
}

static void null_is_EINVAL(void)
{
	CHECK(pthread_mutex_init(NULL, NULL) == EINVAL);
	CHECK(pthread_mutex_lock(NULL) == EINVAL);
	CHECK(pthread_mutex_trylock(NULL) == EINVAL);
	CHECK(pthread_mutex_unlock(NULL) == EINVAL);
	CHECK(pthread_mutex_destroy(NULL) == EINVAL);
}

static int order[4], arrived;

static void *takes_its_turn(void *arg)
{
	pthread_mutex_lock(&lock);
	order[arrived++] = (int)(long)arg;
	pthread_mutex_unlock(&lock);
	return NULL;
}

/* FluxOS: handed over in the order of arrival, so nobody starves. */
static void nobody_is_left_out_while_others_come_and_go(void)
{
	pthread_t threads[4];
	int seen = 0;

	arrived = 0;
	CHECK(pthread_mutex_lock(&lock) == 0);
	for (long i = 0; i < 4; i++)
		NEED(pthread_create(&threads[i], NULL, takes_its_turn, (void *)(i + 1)) == 0);
	others();
	CHECK(pthread_mutex_unlock(&lock) == 0);
	for (int i = 0; i < 4; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	for (int i = 0; i < 4; i++)
		seen |= 1 << order[i];
	CHECK(arrived == 4 && seen == 0x1e);
}

CASES(CASE(the_static_initialiser_makes_a_mutex), CASE(every_kind_excludes), CASE(trylock_of_a_locked_one_is_EBUSY),
      CASE(relock_of_an_errorcheck_mutex_is_EDEADLK), CASE(a_recursive_mutex_is_free_after_as_many_unlocks_as_locks),
      CASE(static_initialisers_of_other_kinds_make_them), CASE(unlock_of_anothers_is_EPERM_for_kinds_with_an_owner),
      CASE(unlock_of_a_free_one_is_EPERM_for_every_kind), CASE(destroy_of_a_locked_one_is_EBUSY),
      CASE(attributes_are_remembered_or_refused), CASE(null_is_EINVAL),
      CASE(nobody_is_left_out_while_others_come_and_go))

/* fluxos.h: the native functions. */
#include "tap.h"

/* As libfluxos has them. */
_Static_assert(sizeof(flux_mutex_t) == 64 && sizeof(pthread_mutex_t) == 64 && sizeof(sem_t) == 64, "objects");
_Static_assert(sizeof(pthread_once_t) == 32 && sizeof(pthread_spinlock_t) == 4, "small objects");

static void *give_back(void *arg)
{
	return arg;
}

static void spawn_and_join_pass_the_argument_and_the_value(void)
{
	flux_thread_t thread;
	void *value = NULL;
	int mark;

	NEED(flux_spawn(&thread, give_back, &mark) == 0);
	CHECK(flux_join(thread, &value) == 0 && value == &mark);
	CHECK(flux_join(thread, NULL) == ESRCH);
	CHECK(flux_join(flux_self(), NULL) == EDEADLK);
	CHECK(flux_spawn(&thread, NULL, NULL) == EINVAL);
}

static int ended;

static void *counts(void *arg)
{
	flux_set_name("counter");
	add(&ended, 1);
	return arg;
}

static void uthreads_that_nobody_waits_for_give_their_stack_back(void)
{
	store(&ended, 0);
	for (int i = 1; i <= 3000; i++) {
		int result;

		UNTIL((result = flux_spawn(NULL, counts, NULL)) != EAGAIN);
		NEED(result == 0);
	}
	UNTIL(load(&ended) == 3000);
}

static flux_mutex_t mutex;

static long sum;

static void *adds(void *arg)
{
	for (int i = 0; i < 500; i++) {
		flux_mutex_lock(&mutex);
		long seen = sum;

		if (i % 20 == 0)
			flux_yield();
		else
			flux_poll();
		sum = seen + 1;
		flux_mutex_unlock(&mutex);
	}
	return arg;
}

static void a_zero_mutex_excludes(void)
{
	flux_thread_t threads[4];

	sum = 0;
	for (int i = 0; i < 4; i++)
		NEED(flux_spawn(&threads[i], adds, NULL) == 0);
	for (int i = 0; i < 4; i++)
		CHECK(flux_join(threads[i], NULL) == 0);
	CHECK(sum == 2000);
}

static void *tries_all(void *arg)
{
	int *results = arg;

	results[0] = flux_mutex_trylock(&mutex);
	results[1] = flux_mutex_lock_until(&mutex, flux_now_ns() + 100000);
	results[2] = flux_mutex_unlock(&mutex);
	return NULL;
}

static void a_mutex_tells_what_is_done_wrong_with_it(void)
{
	flux_thread_t thread;
	int results[3];

	CHECK(flux_mutex_unlock(&mutex) == EPERM);
	CHECK(flux_mutex_lock(&mutex) == 0);
	CHECK(flux_mutex_lock(&mutex) == EDEADLK);
	CHECK(flux_mutex_lock_until(&mutex, FLUX_NEVER) == EDEADLK);
	NEED(flux_spawn(&thread, tries_all, results) == 0);
	CHECK(flux_join(thread, NULL) == 0);
	CHECK(results[0] == EBUSY && results[1] == ETIMEDOUT && results[2] == EPERM);
	CHECK(flux_mutex_unlock(&mutex) == 0);
	CHECK(flux_mutex_lock(NULL) == EINVAL);
}

static flux_cond_t cond;

static int turn;

static void *plays(void *arg)
{
	int mine = (int)(long)arg;

	flux_mutex_lock(&mutex);
	for (int i = 0; i < 200; i++) {
		while (turn != mine)
			flux_cond_wait(&cond, &mutex);
		turn = !mine;
		flux_cond_broadcast(&cond);
	}
	flux_mutex_unlock(&mutex);
	return NULL;
}

static void two_take_turns_by_a_condition(void)
{
	flux_thread_t threads[2];
	uint64_t until;

	for (long i = 0; i < 2; i++)
		NEED(flux_spawn(&threads[i], plays, (void *)i) == 0);
	for (int i = 0; i < 2; i++)
		CHECK(flux_join(threads[i], NULL) == 0);
	CHECK(turn == 0);
	CHECK(flux_cond_wait(&cond, &mutex) == EPERM);
	CHECK(flux_mutex_lock(&mutex) == 0);
	until = flux_now_ns() + 1000000;
	CHECK(flux_cond_wait_until(&cond, &mutex, until) == ETIMEDOUT);
	CHECK(flux_now_ns() >= until);
	CHECK(flux_cond_signal(&cond) == 0);
	CHECK(flux_mutex_unlock(&mutex) == 0);
}

static flux_sem_t sem;

static void *releases(void *arg)
{
	flux_sem_release(&sem);
	return arg;
}

static void a_semaphore_counts(void)
{
	flux_thread_t thread;

	/* All bytes 0. */
	memset(&sem, 0, sizeof(sem));
	CHECK(flux_sem_tryacquire(&sem) == EAGAIN);
	CHECK(flux_sem_acquire_until(&sem, flux_now_ns() + 100000) == ETIMEDOUT);
	NEED(flux_spawn(&thread, releases, NULL) == 0);
	CHECK(flux_sem_acquire(&sem) == 0);
	CHECK(flux_join(thread, NULL) == 0);
	CHECK(flux_sem_init(&sem, 0x80000000u) == EINVAL);
	NEED(flux_sem_init(&sem, 0x7fffffff) == 0);
	CHECK(flux_sem_release(&sem) == EOVERFLOW);
}

static void sleep_is_not_shorter_than_asked_for(void)
{
	uint64_t until = flux_now_ns() + 2000000;

	flux_sleep_until_ns(until);
	CHECK(flux_now_ns() >= until);
	until = flux_now_ns() + 1000000;
	flux_sleep_ns(1000000);
	CHECK(flux_now_ns() >= until);
	flux_sleep_until_ns(0);
}

CASES(CASE(spawn_and_join_pass_the_argument_and_the_value), CASE(uthreads_that_nobody_waits_for_give_their_stack_back),
      CASE(a_zero_mutex_excludes), CASE(a_mutex_tells_what_is_done_wrong_with_it), CASE(two_take_turns_by_a_condition),
      CASE(a_semaphore_counts), CASE(sleep_is_not_shorter_than_asked_for))

/* XSH 2.9.5 Thread Cancellation; pthread_cancel, pthread_setcancelstate, pthread_cleanup_push and others. */
#include "tap.h"

static int gate, cleaned;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;

static sem_t sem;

static void *value_of(pthread_t thread)
{
	void *value = NULL;

	CHECK(pthread_join(thread, &value) == 0);
	return value;
}

static pthread_t start(void *(*what)(void *))
{
	pthread_t thread = 0;

	store(&gate, 0);
	CHECK(pthread_create(&thread, NULL, what, &gate) == 0);
	UNTIL(load(&gate) == 1);
	return thread;
}

static void cancelled(void *(*what)(void *))
{
	pthread_t thread = start(what);

	CHECK(pthread_cancel(thread) == 0);
	CHECK(value_of(thread) == PTHREAD_CANCELED);
	/* And once it had time to come as far as it can. */
	thread = start(what);
	others();
	CHECK(pthread_cancel(thread) == 0);
	CHECK(value_of(thread) == PTHREAD_CANCELED);
}

static void *tests(void *arg)
{
	store(&gate, 1);
	for (;;) {
		pthread_testcancel();
		sched_yield();
	}
	return arg;
}

/* 2.9.5.2 Cancellation Points. */
static void testcancel_is_a_cancellation_point(void)
{
	cancelled(tests);
}

static void *sleeps(void *arg)
{
	struct timespec hour = {3600, 0};

	store(&gate, 1);
	nanosleep(&hour, NULL);
	return arg;
}

static void nanosleep_is_a_cancellation_point(void)
{
	cancelled(sleeps);
}

static void *waits_for_sem(void *arg)
{
	store(&gate, 1);
	sem_wait(&sem);
	return arg;
}

static void *waits_for_sem_with_deadline(void *arg)
{
	struct timespec far = in_ns(CLOCK_REALTIME, 3600l * 1000000000l);

	store(&gate, 1);
	sem_timedwait(&sem, &far);
	return arg;
}

static void sem_wait_and_sem_timedwait_are_cancellation_points(void)
{
	int value = -1;

	NEED(sem_init(&sem, 0, 0) == 0);
	cancelled(waits_for_sem);
	cancelled(waits_for_sem_with_deadline);
	/* Who was cancelled takes nothing. */
	CHECK(sem_post(&sem) == 0);
	CHECK(sem_getvalue(&sem, &value) == 0 && value == 1);
	CHECK(sem_trywait(&sem) == 0);
}

static void unlock(void *mutex)
{
	if (pthread_mutex_unlock(mutex) == 0)
		add(&cleaned, 1);
}

static void *waits_for_cond(void *arg)
{
	pthread_mutex_lock(&lock);
	pthread_cleanup_push(unlock, &lock);
	store(&gate, 1);
	for (;;)
		pthread_cond_wait(&cond, &lock);
	pthread_cleanup_pop(1);
	return arg;
}

static void *waits_for_cond_with_deadline(void *arg)
{
	struct timespec far = in_ns(CLOCK_REALTIME, 3600l * 1000000000l);

	pthread_mutex_lock(&lock);
	pthread_cleanup_push(unlock, &lock);
	store(&gate, 1);
	for (;;)
		pthread_cond_timedwait(&cond, &lock, &far);
	pthread_cleanup_pop(1);
	return arg;
}

/* pthread_cond_wait, DESCRIPTION: the mutex is reacquired before the first cleanup handler is called. */
static void a_cancelled_cond_wait_has_the_mutex_in_its_handlers(void)
{
	cleaned = 0;
	cancelled(waits_for_cond);
	cancelled(waits_for_cond_with_deadline);
	CHECK(cleaned == 4);
	CHECK(pthread_mutex_trylock(&lock) == 0);
	CHECK(pthread_mutex_unlock(&lock) == 0);
}

static pthread_t target;

static void *joins(void *arg)
{
	store(&gate, 1);
	pthread_join(target, NULL);
	return arg;
}

static int open_it;

static void *waits_to_open(void *arg)
{
	UNTIL(load(&open_it));
	return arg;
}

/* pthread_join, DESCRIPTION: if the caller is cancelled, the target is not detached. */
static void a_cancelled_join_leaves_its_target_joinable(void)
{
	store(&open_it, 0);
	NEED(pthread_create(&target, NULL, waits_to_open, &cond) == 0);
	cancelled(joins);
	store(&open_it, 1);
	CHECK(value_of(target) == &cond);
}

static void *not_before_it_allows(void *arg)
{
	int old = -1;

	CHECK(pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old) == 0 && old == PTHREAD_CANCEL_ENABLE);
	store(&gate, 1);
	UNTIL(load(&gate) == 2);
	pthread_testcancel();
	/* Neither does a wait end early, nor does it return as if it had. */
	if (sem_wait(&sem) != 0)
		return NULL;
	struct timespec shortly = {0, 1000000};

	if (nanosleep(&shortly, NULL) != 0)
		return NULL;
	add(&cleaned, 1);
	CHECK(pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &old) == 0 && old == PTHREAD_CANCEL_DISABLE);
	pthread_testcancel();
	add(&cleaned, 1);
	return arg;
}

/* pthread_setcancelstate: a request is held pending while cancelability is disabled. */
static void a_request_waits_while_cancellation_is_disabled(void)
{
	NEED(sem_init(&sem, 0, 0) == 0);
	cleaned = 0;
	pthread_t thread = start(not_before_it_allows);

	CHECK(pthread_cancel(thread) == 0);
	store(&gate, 2);
	others();
	CHECK(sem_post(&sem) == 0);
	CHECK(value_of(thread) == PTHREAD_CANCELED);
	CHECK(cleaned == 1);
}

static void *locks_a_mutex(void *arg)
{
	store(&gate, 1);
	UNTIL(load(&gate) == 2);
	/* 2.9.5.2: pthread_mutex_lock is not a cancellation point. */
	if (pthread_mutex_lock(&lock) != 0)
		return NULL;
	add(&cleaned, 1);
	pthread_mutex_unlock(&lock);
	pthread_testcancel();
	return arg;
}

static void mutex_lock_is_no_cancellation_point(void)
{
	cleaned = 0;
	CHECK(pthread_mutex_lock(&lock) == 0);
	pthread_t thread = start(locks_a_mutex);

	CHECK(pthread_cancel(thread) == 0);
	store(&gate, 2);
	others();
	CHECK(pthread_mutex_unlock(&lock) == 0);
	CHECK(value_of(thread) == PTHREAD_CANCELED);
	CHECK(cleaned == 1);
}

static void *cancels_itself(void *arg)
{
	CHECK(pthread_cancel(pthread_self()) == 0);
	/* Deferred: it acts at the next cancellation point, and not before. */
	add(&cleaned, 1);
	pthread_testcancel();
	add(&cleaned, 1);
	return arg;
}

static void a_thread_can_cancel_itself(void)
{
	pthread_t thread;

	cleaned = 0;
	NEED(pthread_create(&thread, NULL, cancels_itself, NULL) == 0);
	CHECK(value_of(thread) == PTHREAD_CANCELED);
	CHECK(cleaned == 1);
}

static void *ends_at_once(void *arg)
{
	store(&gate, 1);
	return arg;
}

/* pthread_cancel of a thread that has ended and was not joined: its id is valid, and nothing happens. */
static void cancel_of_one_that_has_ended_does_not_matter(void)
{
	pthread_t thread = start(ends_at_once);

	others();
	CHECK(pthread_cancel(thread) == 0);
	CHECK(value_of(thread) == &gate);
	CHECK(pthread_cancel(thread) == ESRCH);
}

/* The next thread on the same stack is not cancelled for the old one. */
static void a_request_does_not_outlive_its_thread(void)
{
	for (int i = 0; i < 50; i++) {
		pthread_t thread = start(ends_at_once);

		pthread_cancel(thread);
		CHECK(value_of(thread) == &gate);
	}
	pthread_testcancel();
}

/* ERRORS: EINVAL. */
static void states_and_types_are_remembered_and_nonsense_is_EINVAL(void)
{
	int old = -1;

	CHECK(pthread_setcancelstate(7, &old) == EINVAL);
	CHECK(pthread_setcanceltype(7, &old) == EINVAL);
	CHECK(pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old) == 0 && old == PTHREAD_CANCEL_DEFERRED);
	CHECK(pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &old) == 0 && old == PTHREAD_CANCEL_ASYNCHRONOUS);
	CHECK(pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL) == 0);
	CHECK(pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &old) == 0 && old == PTHREAD_CANCEL_DISABLE);
}

static void *races(void *arg)
{
	store(&gate, 1);
	for (;;) {
		if (sem_wait(&sem) != 0)
			return arg;
		add(&cleaned, 1);
	}
}

/* However the two meet: the request is not lost, and neither is a post. */
static void posts_and_requests_that_meet_lose_nothing(void)
{
	int posts = 0, left = 0;

	NEED(sem_init(&sem, 0, 0) == 0);
	cleaned = 0;
	for (int i = 0; i < 200; i++) {
		pthread_t thread = start(races);

		for (int j = 0; j < i % 7; j++) {
			CHECK(sem_post(&sem) == 0);
			posts++;
			if (i % 2)
				sched_yield();
		}
		NEED(pthread_cancel(thread) == 0);
		NEED(value_of(thread) == PTHREAD_CANCELED);
	}
	CHECK(sem_getvalue(&sem, &left) == 0);
	CHECK(cleaned + left == posts);
}

CASES(CASE(testcancel_is_a_cancellation_point), CASE(nanosleep_is_a_cancellation_point),
      CASE(sem_wait_and_sem_timedwait_are_cancellation_points),
      CASE(a_cancelled_cond_wait_has_the_mutex_in_its_handlers), CASE(a_cancelled_join_leaves_its_target_joinable),
      CASE(a_request_waits_while_cancellation_is_disabled), CASE(mutex_lock_is_no_cancellation_point),
      CASE(a_thread_can_cancel_itself), CASE(cancel_of_one_that_has_ended_does_not_matter),
      CASE(a_request_does_not_outlive_its_thread), CASE(states_and_types_are_remembered_and_nonsense_is_EINVAL),
      CASE(posts_and_requests_that_meet_lose_nothing))

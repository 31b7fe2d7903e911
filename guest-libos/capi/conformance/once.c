/* XSH pthread_once. */
#include "tap.h"

static pthread_once_t control = PTHREAD_ONCE_INIT;
static int calls, done;

static void init(void)
{
	add(&calls, 1);
	others();
	store(&done, 1);
}

static void *comes(void *arg)
{
	if (pthread_once(&control, init) != 0)
		return NULL;
	return load(&done) ? arg : NULL;
}

/* DESCRIPTION: on return from pthread_once, init_routine shall have completed. */
static void init_is_called_once_and_all_return_after_it(void)
{
	pthread_t threads[8];
	void *value;

	for (int i = 0; i < 8; i++)
		NEED(pthread_create(&threads[i], NULL, comes, &calls) == 0);
	for (int i = 0; i < 8; i++)
		CHECK(pthread_join(threads[i], &value) == 0 && value == &calls);
	CHECK(pthread_once(&control, init) == 0);
	CHECK(calls == 1);
}

static pthread_once_t cut = PTHREAD_ONCE_INIT;
static int began;

static void is_cancelled(void)
{
	if (add(&began, 1) == 1)
		for (;;) {
			pthread_testcancel();
			sched_yield();
		}
}

static void *begins(void *arg)
{
	pthread_once(&cut, is_cancelled);
	return arg;
}

/* DESCRIPTION: if init_routine is a cancellation point and is cancelled, it is as if it was never called. */
static void a_cancelled_init_is_as_if_never_called(void)
{
	pthread_t first, second;
	void *value;

	NEED(pthread_create(&first, NULL, begins, NULL) == 0);
	UNTIL(load(&began) == 1);
	/* It may come while the first is inside, and then takes its place. */
	NEED(pthread_create(&second, NULL, begins, &began) == 0);
	others();
	CHECK(pthread_cancel(first) == 0);
	CHECK(pthread_join(first, &value) == 0 && value == PTHREAD_CANCELED);
	CHECK(pthread_join(second, &value) == 0 && value == &began);
	CHECK(began == 2);
	CHECK(pthread_once(&cut, is_cancelled) == 0);
	CHECK(began == 2);
}

static void null_is_EINVAL(void)
{
	pthread_once_t fresh = PTHREAD_ONCE_INIT;

	CHECK(pthread_once(NULL, init) == EINVAL);
	CHECK(pthread_once(&fresh, NULL) == EINVAL);
}

CASES(CASE(init_is_called_once_and_all_return_after_it), CASE(a_cancelled_init_is_as_if_never_called),
      CASE(null_is_EINVAL))

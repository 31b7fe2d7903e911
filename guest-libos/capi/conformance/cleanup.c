/* XSH pthread_cleanup_push, pthread_cleanup_pop; what happens at a thread's end, and when. */
#include "tap.h"

static int gate, cleaned;

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

static void *tests(void *arg)
{
	store(&gate, 1);
	for (;;) {
		pthread_testcancel();
		sched_yield();
	}
	return arg;
}

static char order[8];

static int at;

static void notes(void *arg)
{
	order[at++] = *(const char *)arg;
}

static void *pushes(void *arg)
{
	pthread_cleanup_push(notes, "a");
	pthread_cleanup_push(notes, "b");
	pthread_cleanup_push(notes, "x");
	pthread_cleanup_pop(0);
	pthread_cleanup_push(notes, "c");
	pthread_cleanup_pop(1);
	store(&gate, 1);
	for (;;) {
		pthread_testcancel();
		sched_yield();
	}
	pthread_cleanup_pop(0);
	pthread_cleanup_pop(0);
	return arg;
}

/* pthread_cleanup_push, DESCRIPTION: handlers are executed in last-in, first-out order; pop(1) executes. */
static void handlers_run_last_in_first_out(void)
{
	memset(order, 0, sizeof(order));
	at = 0;
	pthread_t thread = start(pushes);

	CHECK(strcmp(order, "c") == 0);
	CHECK(pthread_cancel(thread) == 0);
	CHECK(value_of(thread) == PTHREAD_CANCELED);
	CHECK(strcmp(order, "cba") == 0);
}

static void *exits(void *arg)
{
	pthread_cleanup_push(notes, "a");
	pthread_cleanup_push(notes, "b");
	pthread_exit(arg);
	pthread_cleanup_pop(0);
	pthread_cleanup_pop(0);
	return NULL;
}

static pthread_key_t key;

static void notes_key(void *value)
{
	notes(value);
}

static void *exits_with_value(void *arg)
{
	pthread_setspecific(key, "k");
	return exits(arg);
}

/* pthread_exit, DESCRIPTION: handlers are popped and executed, after all of them the destructors. */
static void exit_runs_handlers_and_then_destructors(void)
{
	pthread_t thread;

	memset(order, 0, sizeof(order));
	at = 0;
	NEED(pthread_key_create(&key, notes_key) == 0);
	NEED(pthread_create(&thread, NULL, exits_with_value, &key) == 0);
	CHECK(value_of(thread) == &key);
	CHECK(strcmp(order, "bak") == 0);
	CHECK(pthread_key_delete(key) == 0);
}

static void *returns_from_pop(void *arg)
{
	pthread_cleanup_push(notes, "a");
	pthread_cleanup_pop(0);
	return arg;
}

static void a_handler_that_was_popped_is_not_run_at_the_end(void)
{
	pthread_t thread;

	memset(order, 0, sizeof(order));
	at = 0;
	NEED(pthread_create(&thread, NULL, returns_from_pop, &key) == 0);
	CHECK(value_of(thread) == &key);
	CHECK(order[0] == 0);
}

static void sleeps_in_handler(void *arg)
{
	struct timespec shortly = {0, 100000};

	/* 2.9.5: what was cancelled is not cancelled once more in its handlers. */
	if (nanosleep(&shortly, NULL) == 0)
		add(&cleaned, 1);
	pthread_testcancel();
	add(&cleaned, 1);
	(void)arg;
}

static void *is_cancelled_with_handler(void *arg)
{
	pthread_cleanup_push(sleeps_in_handler, NULL);
	tests(arg);
	pthread_cleanup_pop(0);
	return arg;
}

static void handlers_are_not_cancelled(void)
{
	cleaned = 0;
	pthread_t thread = start(is_cancelled_with_handler);

	CHECK(pthread_cancel(thread) == 0);
	pthread_cancel(thread);
	CHECK(value_of(thread) == PTHREAD_CANCELED);
	CHECK(cleaned == 2);
}

CASES(CASE(handlers_run_last_in_first_out), CASE(exit_runs_handlers_and_then_destructors),
      CASE(a_handler_that_was_popped_is_not_run_at_the_end), CASE(handlers_are_not_cancelled))

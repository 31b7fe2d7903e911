/* XSH pthread_create, pthread_join, pthread_detach, pthread_exit, pthread_self, pthread_equal. */
#include "tap.h"

static void *give_back(void *arg)
{
	return arg;
}

/* pthread_create, DESCRIPTION: start_routine with arg as its sole argument. pthread_join, DESCRIPTION: the value. */
static void create_passes_its_argument_and_join_returns_the_value(void)
{
	pthread_t thread;
	void *value = NULL;
	int mark;

	NEED(pthread_create(&thread, NULL, give_back, &mark) == 0);
	CHECK(pthread_join(thread, &value) == 0);
	CHECK(value == &mark);
}

static void join_takes_a_null_value_pointer(void)
{
	pthread_t thread;

	NEED(pthread_create(&thread, NULL, give_back, NULL) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
}

static int gate;

static void *wait_at_gate(void *arg)
{
	UNTIL(load(&gate));
	return arg;
}

/* pthread_join, DESCRIPTION: suspends the caller until the target terminates. */
static void *opens_gate(void *arg)
{
	(void)arg;
	others();
	store(&gate, 1);
	return NULL;
}

static void join_waits_for_a_thread_that_still_runs(void)
{
	pthread_t waiter, opener;
	void *value;

	store(&gate, 0);
	NEED(pthread_create(&waiter, NULL, wait_at_gate, &gate) == 0);
	NEED(pthread_create(&opener, NULL, opens_gate, NULL) == 0);
	CHECK(pthread_join(waiter, &value) == 0 && value == &gate);
	CHECK(load(&gate) == 1);
	CHECK(pthread_join(opener, NULL) == 0);
}

static void join_returns_at_once_for_a_thread_that_has_ended(void)
{
	pthread_t thread;
	void *value;

	NEED(pthread_create(&thread, NULL, give_back, &gate) == 0);
	others();
	CHECK(pthread_join(thread, &value) == 0 && value == &gate);
}

static void *exits_below(void *arg)
{
	volatile char room[256];

	room[0] = 1;
	(void)room;
	pthread_exit(arg);
}

static void *exits(void *arg)
{
	exits_below(arg);
	return NULL;
}

/* pthread_exit, DESCRIPTION: makes value_ptr available to any successful join. */
static void exit_from_a_nested_function_gives_its_value_to_join(void)
{
	pthread_t thread;
	void *value;

	NEED(pthread_create(&thread, NULL, exits, &gate) == 0);
	CHECK(pthread_join(thread, &value) == 0 && value == &gate);
}

static void *joins_itself(void *arg)
{
	int *result = arg;

	*result = pthread_join(pthread_self(), NULL);
	return NULL;
}

/* pthread_join, ERRORS: EDEADLK. */
static void join_of_self_is_EDEADLK(void)
{
	pthread_t thread;
	int result = -1;

	NEED(pthread_create(&thread, NULL, joins_itself, &result) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
	CHECK(result == EDEADLK);
	CHECK(pthread_join(pthread_self(), NULL) == EDEADLK);
}

/* pthread_join, RATIONALE: ESRCH for an id whose lifetime has ended. */
static void join_of_a_joined_thread_is_ESRCH(void)
{
	pthread_t thread;

	NEED(pthread_create(&thread, NULL, give_back, NULL) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
	CHECK(pthread_join(thread, NULL) == ESRCH);
	CHECK(pthread_detach(thread) == ESRCH);
	CHECK(pthread_cancel(thread) == ESRCH);
}

static pthread_t wanted;

static int came_back;

static void *joins_wanted(void *arg)
{
	int *result = arg;

	*result = pthread_join(wanted, NULL);
	add(&came_back, 1);
	return NULL;
}

/* pthread_join, ERRORS: EINVAL, another thread is already waiting to join. */
static void join_of_a_thread_that_another_one_joins_is_EINVAL(void)
{
	pthread_t joiners[2];
	int results[2] = {-1, -1};

	store(&gate, 0);
	store(&came_back, 0);
	NEED(pthread_create(&wanted, NULL, wait_at_gate, NULL) == 0);
	for (int i = 0; i < 2; i++)
		NEED(pthread_create(&joiners[i], NULL, joins_wanted, &results[i]) == 0);
	/* It has not ended, so one of them waits; the other one is refused, and so is everybody now. */
	UNTIL(load(&came_back) == 1);
	CHECK(pthread_join(wanted, NULL) == EINVAL);
	CHECK(pthread_detach(wanted) == EINVAL);
	store(&gate, 1);
	for (int i = 0; i < 2; i++)
		CHECK(pthread_join(joiners[i], NULL) == 0);
	CHECK(results[0] + results[1] == EINVAL && results[0] * results[1] == 0);
}

static void create_refuses_null_pointers_with_EINVAL(void)
{
	pthread_t thread;

	CHECK(pthread_create(NULL, NULL, give_back, NULL) == EINVAL);
	CHECK(pthread_create(&thread, NULL, NULL, NULL) == EINVAL);
}

static pthread_t seen;

static void *looks_at_itself(void *arg)
{
	/* pthread_create: the id is stored before the thread is relied upon to see it; self needs no such care. */
	seen = pthread_self();
	return arg;
}

static void self_is_what_create_returned(void)
{
	pthread_t thread;

	NEED(pthread_create(&thread, NULL, looks_at_itself, NULL) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
	CHECK(pthread_equal(seen, thread));
	CHECK(!pthread_equal(seen, pthread_self()));
	CHECK(pthread_equal(pthread_self(), pthread_self()));
	CHECK(pthread_self() != 0);
}

static void *sets_errno(void *arg)
{
	int *found = arg;

	*found = errno;
	errno = EPERM;
	others();
	return errno == EPERM ? arg : NULL;
}

/* XSH 2.3: errno is local to the thread. */
static void errno_of_one_thread_is_not_anothers(void)
{
	pthread_t thread;
	void *value;
	int found = -1;

	errno = EBUSY;
	NEED(pthread_create(&thread, NULL, sets_errno, &found) == 0);
	CHECK(pthread_join(thread, &value) == 0 && value == &found);
	CHECK(found == 0);
	CHECK(errno == EBUSY);
}

static void *adds_tree(void *arg)
{
	long depth = (long)arg;
	pthread_t parts[2];
	void *value;
	long sum = 1;

	if (depth == 0)
		return (void *)1;
	for (int i = 0; i < 2; i++)
		if (pthread_create(&parts[i], NULL, adds_tree, (void *)(depth - 1)) != 0)
			return NULL;
	for (int i = 0; i < 2; i++) {
		if (pthread_join(parts[i], &value) != 0)
			return NULL;
		sum += (long)value;
	}
	return (void *)sum;
}

static void threads_make_and_join_threads(void)
{
	CHECK(adds_tree((void *)6) == (void *)127);
}

CASES(CASE(create_passes_its_argument_and_join_returns_the_value), CASE(join_takes_a_null_value_pointer),
      CASE(join_waits_for_a_thread_that_still_runs), CASE(join_returns_at_once_for_a_thread_that_has_ended),
      CASE(exit_from_a_nested_function_gives_its_value_to_join), CASE(join_of_self_is_EDEADLK),
      CASE(join_of_a_joined_thread_is_ESRCH), CASE(join_of_a_thread_that_another_one_joins_is_EINVAL),
      CASE(create_refuses_null_pointers_with_EINVAL), CASE(self_is_what_create_returned),
      CASE(errno_of_one_thread_is_not_anothers), CASE(threads_make_and_join_threads))

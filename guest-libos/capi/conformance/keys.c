/* XSH pthread_key_create, pthread_key_delete, pthread_setspecific, pthread_getspecific. */
#include "tap.h"

static pthread_key_t key;
static int destroyed;
static void *last;

static void note(void *value)
{
	last = value;
	add(&destroyed, 1);
}

/* pthread_key_create, DESCRIPTION: NULL in all active threads; each thread has its own. */
static void *has_its_own(void *arg)
{
	if (pthread_getspecific(key) != NULL)
		return NULL;
	if (pthread_setspecific(key, arg) != 0)
		return NULL;
	others();
	return pthread_getspecific(key) == arg ? arg : NULL;
}

static void a_value_is_null_at_first_and_each_threads_own(void)
{
	pthread_t threads[4];
	int marks[5];
	void *value;

	NEED(pthread_key_create(&key, NULL) == 0);
	CHECK(pthread_getspecific(key) == NULL);
	CHECK(pthread_setspecific(key, &marks[4]) == 0);
	for (int i = 0; i < 4; i++)
		NEED(pthread_create(&threads[i], NULL, has_its_own, &marks[i]) == 0);
	for (int i = 0; i < 4; i++)
		CHECK(pthread_join(threads[i], &value) == 0 && value == &marks[i]);
	CHECK(pthread_getspecific(key) == &marks[4]);
	CHECK(pthread_key_delete(key) == 0);
}

static void *sets(void *arg)
{
	pthread_setspecific(key, arg);
	return NULL;
}

/* pthread_key_create, DESCRIPTION: the destructor is called with the value, which is NULL before. */
static void *seen_in_destructor;

static void looks(void *value)
{
	seen_in_destructor = pthread_getspecific(key);
	note(value);
}

static void the_destructor_is_called_at_the_threads_end_with_its_value(void)
{
	pthread_t thread;
	int mark;

	destroyed = 0;
	seen_in_destructor = &mark;
	NEED(pthread_key_create(&key, looks) == 0);
	NEED(pthread_create(&thread, NULL, sets, &mark) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
	CHECK(destroyed == 1 && last == &mark);
	CHECK(seen_in_destructor == NULL);
	CHECK(pthread_key_delete(key) == 0);
}

static void *exits(void *arg)
{
	pthread_setspecific(key, arg);
	pthread_exit(NULL);
}

static void the_destructor_is_called_at_pthread_exit(void)
{
	pthread_t thread;
	int mark;

	destroyed = 0;
	NEED(pthread_key_create(&key, note) == 0);
	NEED(pthread_create(&thread, NULL, exits, &mark) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
	CHECK(destroyed == 1 && last == &mark);
	CHECK(pthread_key_delete(key) == 0);
}

static void a_null_value_is_not_destroyed(void)
{
	pthread_t thread;

	destroyed = 0;
	NEED(pthread_key_create(&key, note) == 0);
	NEED(pthread_create(&thread, NULL, sets, NULL) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
	CHECK(destroyed == 0);
	CHECK(pthread_key_delete(key) == 0);
}

/* pthread_key_create, DESCRIPTION: repeated while there are values, but at most so often. */
static void sets_again(void *value)
{
	add(&destroyed, 1);
	pthread_setspecific(key, value);
}

static void destructors_are_repeated_PTHREAD_DESTRUCTOR_ITERATIONS_times(void)
{
	pthread_t thread;
	int mark;

	destroyed = 0;
	NEED(pthread_key_create(&key, sets_again) == 0);
	NEED(pthread_create(&thread, NULL, sets, &mark) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
	CHECK(destroyed == PTHREAD_DESTRUCTOR_ITERATIONS);
	CHECK(pthread_key_delete(key) == 0);
}

static pthread_key_t other;

static void sets_other(void *value)
{
	pthread_setspecific(other, value);
}

static void a_value_left_by_a_destructor_is_destroyed_in_its_turn(void)
{
	pthread_t thread;
	int mark;

	destroyed = 0;
	/* The first made is the first gone through: whichever way round, the other is found again. */
	NEED(pthread_key_create(&other, note) == 0);
	NEED(pthread_key_create(&key, sets_other) == 0);
	NEED(pthread_create(&thread, NULL, sets, &mark) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
	CHECK(destroyed == 1 && last == &mark);
	CHECK(pthread_key_delete(key) == 0 && pthread_key_delete(other) == 0);
}

/* pthread_key_delete, DESCRIPTION: no destructor is invoked by it, nor at the end of a thread with a value. */
static int gate;

static void *waits_with_value(void *arg)
{
	pthread_setspecific(key, arg);
	add(&gate, 1);
	UNTIL(load(&gate) == 2);
	return NULL;
}

static void no_destructor_is_called_for_a_deleted_key(void)
{
	pthread_t thread;
	int mark;

	destroyed = 0;
	store(&gate, 0);
	NEED(pthread_key_create(&key, note) == 0);
	NEED(pthread_create(&thread, NULL, waits_with_value, &mark) == 0);
	UNTIL(load(&gate) == 1);
	CHECK(pthread_key_delete(key) == 0);
	CHECK(destroyed == 0);
	store(&gate, 2);
	CHECK(pthread_join(thread, NULL) == 0);
	CHECK(destroyed == 0);
}

static void a_new_key_does_not_find_the_value_of_a_deleted_one(void)
{
	int mark;

	for (int i = 0; i < 2 * PTHREAD_KEYS_MAX; i++) {
		NEED(pthread_key_create(&key, NULL) == 0);
		NEED(pthread_getspecific(key) == NULL);
		NEED(pthread_setspecific(key, &mark) == 0);
		NEED(pthread_key_delete(key) == 0);
	}
}

/* pthread_key_create, ERRORS: EAGAIN. */
static void keys_up_to_PTHREAD_KEYS_MAX_and_then_EAGAIN(void)
{
	static pthread_key_t keys[PTHREAD_KEYS_MAX];
	int count = 0, result;

	while ((result = pthread_key_create(&key, NULL)) == 0) {
		NEED(count < PTHREAD_KEYS_MAX);
		keys[count++] = key;
	}
	CHECK(result == EAGAIN);
	CHECK(count == PTHREAD_KEYS_MAX);
	for (int i = 0; i < count; i++)
		CHECK(pthread_setspecific(keys[i], &keys[i]) == 0);
	for (int i = 0; i < count; i++)
		CHECK(pthread_getspecific(keys[i]) == &keys[i]);
	while (count > 0)
		CHECK(pthread_key_delete(keys[--count]) == 0);
}

/* pthread_setspecific and pthread_key_delete, ERRORS: EINVAL. */
static void keys_that_are_not_there_are_EINVAL(void)
{
	static const pthread_key_t strange[] = {PTHREAD_KEYS_MAX, 0xffffffff, 5};
	int mark;

	for (int i = 0; i < 3; i++) {
		CHECK(pthread_setspecific(strange[i], &mark) == EINVAL);
		CHECK(pthread_key_delete(strange[i]) == EINVAL);
		CHECK(pthread_getspecific(strange[i]) == NULL);
	}
	CHECK(pthread_key_create(NULL, NULL) == EINVAL);
}

CASES(CASE(a_value_is_null_at_first_and_each_threads_own),
      CASE(the_destructor_is_called_at_the_threads_end_with_its_value), CASE(the_destructor_is_called_at_pthread_exit),
      CASE(a_null_value_is_not_destroyed), CASE(destructors_are_repeated_PTHREAD_DESTRUCTOR_ITERATIONS_times),
      CASE(a_value_left_by_a_destructor_is_destroyed_in_its_turn), CASE(no_destructor_is_called_for_a_deleted_key),
      CASE(a_new_key_does_not_find_the_value_of_a_deleted_one), CASE(keys_up_to_PTHREAD_KEYS_MAX_and_then_EAGAIN),
      CASE(keys_that_are_not_there_are_EINVAL))

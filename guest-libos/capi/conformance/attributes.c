/* XSH pthread_attr_*: what an attributes object accepts, refuses and remembers. */
#include "tap.h"

static int mark;

static void *give_back(void *arg)
{
	return arg;
}

/* pthread_attr_init: default values. */
static void defaults_are_joinable_inherited_other(void)
{
	pthread_attr_t attr;
	int state = -1, scope = -1, inherit = -1, policy = -1;
	size_t stack = 0, guard = 1;
	struct sched_param param = {-1};

	NEED(pthread_attr_init(&attr) == 0);
	CHECK(pthread_attr_getdetachstate(&attr, &state) == 0 && state == PTHREAD_CREATE_JOINABLE);
	CHECK(pthread_attr_getscope(&attr, &scope) == 0 && scope == PTHREAD_SCOPE_PROCESS);
	CHECK(pthread_attr_getinheritsched(&attr, &inherit) == 0 && inherit == PTHREAD_INHERIT_SCHED);
	CHECK(pthread_attr_getschedpolicy(&attr, &policy) == 0 && policy == SCHED_OTHER);
	CHECK(pthread_attr_getschedparam(&attr, &param) == 0 && param.sched_priority == 0);
	CHECK(pthread_attr_getstacksize(&attr, &stack) == 0 && stack >= PTHREAD_STACK_MIN);
	CHECK(pthread_attr_getguardsize(&attr, &guard) == 0 && guard == 4096);
	CHECK(pthread_attr_destroy(&attr) == 0);
}

static void detachstate_is_remembered_and_nonsense_is_EINVAL(void)
{
	pthread_attr_t attr;
	int state = -1;

	NEED(pthread_attr_init(&attr) == 0);
	CHECK(pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED) == 0);
	CHECK(pthread_attr_getdetachstate(&attr, &state) == 0 && state == PTHREAD_CREATE_DETACHED);
	CHECK(pthread_attr_setdetachstate(&attr, 2) == EINVAL);
	CHECK(pthread_attr_setdetachstate(&attr, -1) == EINVAL);
	CHECK(pthread_attr_getdetachstate(&attr, &state) == 0 && state == PTHREAD_CREATE_DETACHED);
	CHECK(pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_JOINABLE) == 0);
	CHECK(pthread_attr_getdetachstate(&attr, &state) == 0 && state == PTHREAD_CREATE_JOINABLE);
}

static void *uses_stack(void *arg)
{
	volatile char room[PTHREAD_STACK_MIN - 4096];

	for (size_t i = 0; i < sizeof(room); i++)
		room[i] = (char)i;
	for (size_t i = 0; i < sizeof(room); i++)
		if (room[i] != (char)i)
			return NULL;
	return arg;
}

/* pthread_attr_setstacksize, ERRORS: EINVAL below PTHREAD_STACK_MIN or above the system's limit. */
static void stacksize_within_its_limits_is_there_and_others_are_EINVAL(void)
{
	pthread_attr_t attr;
	pthread_t thread;
	size_t stack = 0, most = 0;
	void *value;

	NEED(pthread_attr_init(&attr) == 0);
	NEED(pthread_attr_getstacksize(&attr, &most) == 0);
	CHECK(pthread_attr_setstacksize(&attr, PTHREAD_STACK_MIN - 1) == EINVAL);
	CHECK(pthread_attr_setstacksize(&attr, 0) == EINVAL);
	CHECK(pthread_attr_setstacksize(&attr, most + 1) == EINVAL);
	CHECK(pthread_attr_setstacksize(&attr, ~(size_t)0) == EINVAL);
	CHECK(pthread_attr_setstacksize(&attr, PTHREAD_STACK_MIN) == 0);
	CHECK(pthread_attr_getstacksize(&attr, &stack) == 0 && stack == PTHREAD_STACK_MIN);
	NEED(pthread_create(&thread, &attr, uses_stack, &mark) == 0);
	CHECK(pthread_join(thread, &value) == 0 && value == &mark);
}

static char own_stack[256 * 1024] __attribute__((aligned(16)));

static void *uses_own_stack(void *arg)
{
	volatile char room[sizeof(own_stack) / 2];

	for (size_t i = 0; i < sizeof(room); i += 512)
		room[i] = 1;
	sched_yield();
	/* XSH pthread_attr_setstack: it is the storage that was given. */
	return &room[0] >= own_stack && &room[0] < own_stack + sizeof(own_stack) ? arg : NULL;
}

static void a_stack_of_the_programs_own_is_used_and_bad_ones_are_EINVAL(void)
{
	pthread_attr_t attr;
	pthread_t thread;
	void *base = NULL, *value;
	size_t bytes = 0;

	NEED(pthread_attr_init(&attr) == 0);
	CHECK(pthread_attr_setstack(&attr, own_stack, PTHREAD_STACK_MIN - 16) == EINVAL);
	CHECK(pthread_attr_setstack(&attr, own_stack + 1, sizeof(own_stack) - 16) == EINVAL);
	CHECK(pthread_attr_setstack(&attr, NULL, sizeof(own_stack)) == EINVAL);
	CHECK(pthread_attr_setstack(&attr, own_stack, ~(size_t)0 - 15) == EINVAL);
	NEED(pthread_attr_setstack(&attr, own_stack, sizeof(own_stack)) == 0);
	CHECK(pthread_attr_getstack(&attr, &base, &bytes) == 0);
	CHECK(base == own_stack && bytes == sizeof(own_stack));
	for (int i = 0; i < 20; i++) {
		NEED(pthread_create(&thread, &attr, uses_own_stack, &mark) == 0);
		CHECK(pthread_join(thread, &value) == 0 && value == &mark);
	}
}

static size_t all_of_it;

static void *uses_all(void *arg)
{
	volatile char room[all_of_it - 2048];

	for (size_t i = 0; i < sizeof(room); i += 512)
		room[i] = 1;
	room[sizeof(room) - 1] = 1;
	return arg;
}

static void all_of_the_default_stacksize_can_be_used(void)
{
	pthread_attr_t attr;
	pthread_t thread;
	void *value;

	NEED(pthread_attr_init(&attr) == 0);
	NEED(pthread_attr_getstacksize(&attr, &all_of_it) == 0);
	NEED(pthread_create(&thread, &attr, uses_all, &mark) == 0);
	CHECK(pthread_join(thread, &value) == 0 && value == &mark);
}

static void guardsize_up_to_a_page_is_accepted(void)
{
	pthread_attr_t attr;
	size_t guard = 1;

	NEED(pthread_attr_init(&attr) == 0);
	CHECK(pthread_attr_setguardsize(&attr, 0) == 0);
	CHECK(pthread_attr_getguardsize(&attr, &guard) == 0 && guard == 0);
	CHECK(pthread_attr_setguardsize(&attr, 4096) == 0);
	CHECK(pthread_attr_setguardsize(&attr, 4097) == EINVAL);
}

/* pthread_attr_setscope, ERRORS: ENOTSUP for a scope that is not offered. */
static void scope_system_is_ENOTSUP(void)
{
	pthread_attr_t attr;

	NEED(pthread_attr_init(&attr) == 0);
	CHECK(pthread_attr_setscope(&attr, PTHREAD_SCOPE_PROCESS) == 0);
	CHECK(pthread_attr_setscope(&attr, PTHREAD_SCOPE_SYSTEM) == ENOTSUP);
	CHECK(pthread_attr_setscope(&attr, 7) == EINVAL);
}

/* pthread_attr_setschedpolicy, ERRORS: ENOTSUP. pthread_attr_setschedparam, ERRORS: EINVAL. */
static void realtime_policies_are_ENOTSUP_and_priorities_EINVAL(void)
{
	pthread_attr_t attr;
	struct sched_param param = {1};
	int inherit = -1;

	NEED(pthread_attr_init(&attr) == 0);
	CHECK(pthread_attr_setschedpolicy(&attr, SCHED_OTHER) == 0);
	CHECK(pthread_attr_setschedpolicy(&attr, SCHED_FIFO) == ENOTSUP);
	CHECK(pthread_attr_setschedpolicy(&attr, SCHED_RR) == ENOTSUP);
	CHECK(pthread_attr_setschedpolicy(&attr, 99) == EINVAL);
	CHECK(pthread_attr_setschedparam(&attr, &param) == EINVAL);
	param.sched_priority = 0;
	CHECK(pthread_attr_setschedparam(&attr, &param) == 0);
	CHECK(pthread_attr_setinheritsched(&attr, PTHREAD_EXPLICIT_SCHED) == 0);
	CHECK(pthread_attr_getinheritsched(&attr, &inherit) == 0 && inherit == PTHREAD_EXPLICIT_SCHED);
	CHECK(pthread_attr_setinheritsched(&attr, 5) == EINVAL);
}

static void attributes_that_were_not_made_are_EINVAL(void)
{
	pthread_attr_t attr;
	pthread_t thread;
	int state;

	memset(&attr, 0, sizeof(attr));
	CHECK(pthread_attr_getdetachstate(&attr, &state) == EINVAL);
	CHECK(pthread_create(&thread, &attr, give_back, NULL) == EINVAL);
	CHECK(pthread_attr_init(NULL) == EINVAL);
	NEED(pthread_attr_init(&attr) == 0);
	CHECK(pthread_attr_getdetachstate(&attr, NULL) == EINVAL);
	CHECK(pthread_attr_destroy(&attr) == 0);
	CHECK(pthread_attr_destroy(&attr) == EINVAL);
	CHECK(pthread_create(&thread, &attr, give_back, NULL) == EINVAL);
}

/* pthread_attr_init: an object can be used for several threads, and a change afterwards affects none of them. */
static void one_object_makes_several_threads_and_later_changes_do_not_matter(void)
{
	pthread_attr_t attr;
	pthread_t threads[3];

	NEED(pthread_attr_init(&attr) == 0);
	for (int i = 0; i < 3; i++)
		NEED(pthread_create(&threads[i], &attr, give_back, NULL) == 0);
	CHECK(pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED) == 0);
	CHECK(pthread_attr_destroy(&attr) == 0);
	for (int i = 0; i < 3; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
}

CASES(CASE(defaults_are_joinable_inherited_other), CASE(detachstate_is_remembered_and_nonsense_is_EINVAL),
      CASE(stacksize_within_its_limits_is_there_and_others_are_EINVAL), CASE(all_of_the_default_stacksize_can_be_used),
      CASE(a_stack_of_the_programs_own_is_used_and_bad_ones_are_EINVAL), CASE(guardsize_up_to_a_page_is_accepted),
      CASE(scope_system_is_ENOTSUP), CASE(realtime_policies_are_ENOTSUP_and_priorities_EINVAL),
      CASE(attributes_that_were_not_made_are_EINVAL),
      CASE(one_object_makes_several_threads_and_later_changes_do_not_matter))

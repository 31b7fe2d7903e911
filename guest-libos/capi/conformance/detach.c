/* XSH pthread_detach, and what threads leave behind: stacks and ids. */
#include "tap.h"

static void *give_back(void *arg)
{
	return arg;
}

static int gate;

static void *wait_at_gate(void *arg)
{
	UNTIL(load(&gate));
	return arg;
}

static void a_stale_id_is_ESRCH_when_its_stack_has_a_new_thread(void)
{
	pthread_t old, new;

	NEED(pthread_create(&old, NULL, give_back, NULL) == 0);
	CHECK(pthread_join(old, NULL) == 0);
	store(&gate, 0);
	NEED(pthread_create(&new, NULL, wait_at_gate, NULL) == 0);
	CHECK(!pthread_equal(old, new));
	CHECK(pthread_join(old, NULL) == ESRCH);
	store(&gate, 1);
	CHECK(pthread_join(new, NULL) == 0);
}

static void an_id_from_nowhere_is_ESRCH(void)
{
	static const pthread_t strange[] = {0, 1, 0xffffffff, 0x7fffffffffffffff, ~0ul, 0x100000000};

	for (unsigned i = 0; i < sizeof(strange) / sizeof(*strange); i++) {
		if (strange[i] == pthread_self())
			continue;
		CHECK(pthread_join(strange[i], NULL) == ESRCH);
		CHECK(pthread_detach(strange[i]) == ESRCH);
		CHECK(pthread_cancel(strange[i]) == ESRCH);
	}
}

/* pthread_join, ERRORS: EINVAL, the thread is not joinable. */
static void join_and_detach_of_a_detached_thread_are_EINVAL(void)
{
	pthread_t thread;

	store(&gate, 0);
	NEED(pthread_create(&thread, NULL, wait_at_gate, NULL) == 0);
	CHECK(pthread_detach(thread) == 0);
	CHECK(pthread_join(thread, NULL) == EINVAL);
	CHECK(pthread_detach(thread) == EINVAL);
	store(&gate, 1);
}

static int ended;

static void *counts_its_end(void *arg)
{
	add(&ended, 1);
	return arg;
}

/* pthread_detach, DESCRIPTION: storage is reclaimed when the thread terminates. */
static void a_thread_detached_after_its_end_gives_its_stack_back(void)
{
	pthread_t thread;

	/* More than there are stacks. */
	for (int i = 0; i < 5000; i++) {
		store(&ended, 0);
		NEED(pthread_create(&thread, NULL, counts_its_end, NULL) == 0);
		UNTIL(load(&ended));
		if (i % 2)
			others();
		NEED(pthread_detach(thread) == 0);
	}
}

static void a_thread_made_detached_gives_its_stack_back(void)
{
	pthread_t thread;
	pthread_attr_t attr;

	NEED(pthread_attr_init(&attr) == 0);
	NEED(pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED) == 0);
	store(&ended, 0);
	for (int i = 1; i <= 5000; i++) {
		int result;

		UNTIL((result = pthread_create(&thread, &attr, counts_its_end, NULL)) != EAGAIN);
		NEED(result == 0);
	}
	UNTIL(load(&ended) == 5000);
	CHECK(pthread_attr_destroy(&attr) == 0);
}

static void ignore(void *unused)
{
	(void)unused;
}

/* pthread_create, ERRORS: EAGAIN, resources. Timers take a stack each. */
static void create_is_EAGAIN_when_stacks_run_out_and_works_again_afterwards(void)
{
	static pthread_t threads[5000];
	flux_timer_t timer = {0};
	int count = 0, result = 0;

	store(&gate, 0);
	while (count < 5000 && (result = pthread_create(&threads[count], NULL, wait_at_gate, NULL)) == 0)
		count++;
	CHECK(result == EAGAIN);
	CHECK(count > 1);
	CHECK(flux_spawn(NULL, wait_at_gate, NULL) == EAGAIN);
	CHECK(flux_timer_arm(&timer, FLUX_NEVER, ignore, NULL) == EAGAIN);
	store(&gate, 1);
	for (int i = 0; i < count; i++)
		NEED(pthread_join(threads[i], NULL) == 0);
	NEED(pthread_create(&threads[0], NULL, give_back, NULL) == 0);
	CHECK(pthread_join(threads[0], NULL) == 0);
}

CASES(CASE(a_stale_id_is_ESRCH_when_its_stack_has_a_new_thread), CASE(an_id_from_nowhere_is_ESRCH),
      CASE(join_and_detach_of_a_detached_thread_are_EINVAL), CASE(a_thread_detached_after_its_end_gives_its_stack_back),
      CASE(a_thread_made_detached_gives_its_stack_back),
      CASE(create_is_EAGAIN_when_stacks_run_out_and_works_again_afterwards))

/* C11 6.2.4: objects of thread storage duration. In KVM guests only; see README.md. */
#include "tap.h"

#ifdef FLUX_KVM

static _Thread_local long initialised = 42;
static __thread char zeroes[300];
static __thread int aligned __attribute__((aligned(64))) = 7;

static void each_begins_with_its_initialiser(void)
{
	CHECK(initialised == 42);
	CHECK(aligned == 7 && (uintptr_t)&aligned % 64 == 0);
	for (unsigned i = 0; i < sizeof(zeroes); i++)
		NEED(zeroes[i] == 0);
}

static int rounds_done;

static void *keeps(void *arg)
{
	long mine = (long)arg;

	if (initialised != 42 || zeroes[299] != 0 || aligned != 7 || (uintptr_t)&aligned % 64 != 0)
		return NULL;
	initialised = mine;
	zeroes[299] = (char)mine;
	aligned = -(int)mine;
	for (int i = 0; i < 500; i++) {
		/* Each time perhaps on another vCPU, and after others that have theirs. */
		sched_yield();
		if (initialised != mine || zeroes[299] != (char)mine || aligned != -(int)mine)
			return NULL;
	}
	add(&rounds_done, 1);
	return arg;
}

static void each_thread_has_its_own_wherever_it_runs(void)
{
	pthread_t threads[16];
	void *value;

	store(&rounds_done, 0);
	initialised = -1;
	for (long i = 0; i < 16; i++)
		NEED(pthread_create(&threads[i], NULL, keeps, (void *)(i + 1)) == 0);
	for (long i = 0; i < 16; i++)
		CHECK(pthread_join(threads[i], &value) == 0 && value == (void *)(i + 1));
	CHECK(initialised == -1);
	CHECK(load(&rounds_done) == 16);
	initialised = 42;
}

static void *finds_and_leaves(void *arg)
{
	if (initialised != 42 || aligned != 7)
		return NULL;
	for (unsigned i = 0; i < sizeof(zeroes); i++) {
		if (zeroes[i] != 0)
			return NULL;
		zeroes[i] = 1;
	}
	initialised = aligned = 1;
	return arg;
}

static void the_next_thread_on_the_same_stack_begins_anew(void)
{
	pthread_t thread;
	void *value;

	for (int i = 0; i < 10; i++) {
		NEED(pthread_create(&thread, NULL, finds_and_leaves, &rounds_done) == 0);
		CHECK(pthread_join(thread, &value) == 0 && value == &rounds_done);
	}
}

static void *waits_and_looks(void *arg)
{
	sem_t *sem = arg;

	initialised = 5;
	if (sem_wait(sem) != 0)
		return NULL;
	return initialised == 5 ? arg : NULL;
}

static void it_is_there_after_a_wait(void)
{
	pthread_t thread;
	void *value;
	sem_t sem;

	NEED(sem_init(&sem, 0, 0) == 0);
	NEED(pthread_create(&thread, NULL, waits_and_looks, &sem) == 0);
	others();
	initialised = 6;
	CHECK(sem_post(&sem) == 0);
	CHECK(pthread_join(thread, &value) == 0 && value == &sem);
	CHECK(initialised == 6);
	initialised = 42;
}

static void *spins(void *arg)
{
	int *stop = arg;
	long mine = (long)pthread_self();

	initialised = mine;
	/* No scheduling point: it is taken over as it stands, if it is. */
	while (!load(stop))
		if (*(volatile long *)&initialised != mine)
			return NULL;
	return arg;
}

static void it_is_there_at_every_instruction(void)
{
	pthread_t thread;
	void *value;
	int stop = 0;

	/* With one vCPU nobody would stop it. */
	if (flux_vcpus() < 2)
		return;
	NEED(pthread_create(&thread, NULL, spins, &stop) == 0);
	others();
	store(&stop, 1);
	CHECK(pthread_join(thread, &value) == 0 && value == &stop);
}

CASES(CASE(each_begins_with_its_initialiser), CASE(each_thread_has_its_own_wherever_it_runs),
      CASE(the_next_thread_on_the_same_stack_begins_anew), CASE(it_is_there_after_a_wait),
      CASE(it_is_there_at_every_instruction))

#else

static void hosted_programs_have_pthread_getspecific_instead(void)
{
	pthread_key_t key;

	CHECK(pthread_key_create(&key, NULL) == 0);
	CHECK(pthread_setspecific(key, &key) == 0);
	sched_yield();
	CHECK(pthread_getspecific(key) == &key);
}

CASES(CASE(hosted_programs_have_pthread_getspecific_instead))

#endif

/* The ERRORS sections of what the other programs do not come to: objects, attributes and places for results that
 * are not there, and locks that others have. README: null pointers are EINVAL, and never the end. */
#include "tap.h"

/* Says that it failed, and why. */
#define FAILS(call, error) (errno = 0, (call) == -1 && errno == (error))

static void attributes_of_threads_that_are_not_there_are_EINVAL(void)
{
	pthread_attr_t attr;
	struct sched_param param = {0};
	size_t bytes;
	void *base;
	int value;

	CHECK(pthread_attr_destroy(NULL) == EINVAL);
	CHECK(pthread_attr_setdetachstate(NULL, PTHREAD_CREATE_JOINABLE) == EINVAL);
	CHECK(pthread_attr_getdetachstate(NULL, &value) == EINVAL);
	CHECK(pthread_attr_setstacksize(NULL, PTHREAD_STACK_MIN) == EINVAL);
	CHECK(pthread_attr_getstacksize(NULL, &bytes) == EINVAL);
	CHECK(pthread_attr_setstack(NULL, &attr, PTHREAD_STACK_MIN) == EINVAL);
	CHECK(pthread_attr_getstack(NULL, &base, &bytes) == EINVAL);
	CHECK(pthread_attr_setguardsize(NULL, 0) == EINVAL);
	CHECK(pthread_attr_getguardsize(NULL, &bytes) == EINVAL);
	CHECK(pthread_attr_setscope(NULL, PTHREAD_SCOPE_PROCESS) == EINVAL);
	CHECK(pthread_attr_getscope(NULL, &value) == EINVAL);
	CHECK(pthread_attr_setinheritsched(NULL, PTHREAD_INHERIT_SCHED) == EINVAL);
	CHECK(pthread_attr_getinheritsched(NULL, &value) == EINVAL);
	CHECK(pthread_attr_setschedpolicy(NULL, SCHED_OTHER) == EINVAL);
	CHECK(pthread_attr_getschedpolicy(NULL, &value) == EINVAL);
	CHECK(pthread_attr_setschedparam(NULL, &param) == EINVAL);
	CHECK(pthread_attr_getschedparam(NULL, &param) == EINVAL);
}

static void places_for_attributes_of_threads_that_are_not_there_are_EINVAL(void)
{
	pthread_attr_t attr;
	size_t bytes;
	void *base;

	NEED(pthread_attr_init(&attr) == 0);
	CHECK(pthread_attr_getdetachstate(&attr, NULL) == EINVAL);
	CHECK(pthread_attr_getstacksize(&attr, NULL) == EINVAL);
	CHECK(pthread_attr_getstack(&attr, NULL, &bytes) == EINVAL);
	CHECK(pthread_attr_getstack(&attr, &base, NULL) == EINVAL);
	CHECK(pthread_attr_getguardsize(&attr, NULL) == EINVAL);
	CHECK(pthread_attr_getscope(&attr, NULL) == EINVAL);
	CHECK(pthread_attr_getinheritsched(&attr, NULL) == EINVAL);
	CHECK(pthread_attr_getschedpolicy(&attr, NULL) == EINVAL);
	CHECK(pthread_attr_setschedparam(&attr, NULL) == EINVAL);
	CHECK(pthread_attr_getschedparam(&attr, NULL) == EINVAL);
	CHECK(pthread_attr_destroy(&attr) == 0);
}

static void attributes_of_objects_that_are_not_there_are_EINVAL(void)
{
	clockid_t clock;
	int value;

	CHECK(pthread_mutexattr_init(NULL) == EINVAL);
	CHECK(pthread_mutexattr_destroy(NULL) == EINVAL);
	CHECK(pthread_mutexattr_settype(NULL, PTHREAD_MUTEX_NORMAL) == EINVAL);
	CHECK(pthread_mutexattr_gettype(NULL, &value) == EINVAL);
	CHECK(pthread_mutexattr_setpshared(NULL, PTHREAD_PROCESS_PRIVATE) == EINVAL);
	CHECK(pthread_mutexattr_getpshared(NULL, &value) == EINVAL);
	CHECK(pthread_mutexattr_setprotocol(NULL, PTHREAD_PRIO_NONE) == EINVAL);
	CHECK(pthread_mutexattr_getprotocol(NULL, &value) == EINVAL);
	CHECK(pthread_mutexattr_setrobust(NULL, PTHREAD_MUTEX_STALLED) == EINVAL);
	CHECK(pthread_mutexattr_getrobust(NULL, &value) == EINVAL);
	CHECK(pthread_condattr_init(NULL) == EINVAL);
	CHECK(pthread_condattr_destroy(NULL) == EINVAL);
	CHECK(pthread_condattr_setclock(NULL, CLOCK_MONOTONIC) == EINVAL);
	CHECK(pthread_condattr_getclock(NULL, &clock) == EINVAL);
	CHECK(pthread_condattr_setpshared(NULL, PTHREAD_PROCESS_PRIVATE) == EINVAL);
	CHECK(pthread_condattr_getpshared(NULL, &value) == EINVAL);
	CHECK(pthread_rwlockattr_init(NULL) == EINVAL);
	CHECK(pthread_rwlockattr_destroy(NULL) == EINVAL);
	CHECK(pthread_rwlockattr_setpshared(NULL, PTHREAD_PROCESS_PRIVATE) == EINVAL);
	CHECK(pthread_rwlockattr_getpshared(NULL, &value) == EINVAL);
	CHECK(pthread_barrierattr_init(NULL) == EINVAL);
	CHECK(pthread_barrierattr_destroy(NULL) == EINVAL);
	CHECK(pthread_barrierattr_setpshared(NULL, PTHREAD_PROCESS_PRIVATE) == EINVAL);
	CHECK(pthread_barrierattr_getpshared(NULL, &value) == EINVAL);
}

/* pthread_cond_clockwait, ERRORS: EINVAL, EPERM, ETIMEDOUT, as pthread_cond_timedwait; a clock that is none. */
static void clockwait_fails_as_timedwait_does(void)
{
	pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
	pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
	struct timespec past = {0, 0}, bad = {0, 1000000000};

	CHECK(pthread_cond_clockwait(&cond, &mutex, CLOCK_MONOTONIC, &past) == EPERM);
	NEED(pthread_mutex_lock(&mutex) == 0);
	CHECK(pthread_cond_clockwait(&cond, &mutex, CLOCK_MONOTONIC, &past) == ETIMEDOUT);
	CHECK(pthread_cond_clockwait(&cond, &mutex, CLOCK_MONOTONIC, &bad) == EINVAL);
	CHECK(pthread_cond_clockwait(&cond, &mutex, 77, &past) == EINVAL);
	CHECK(pthread_cond_clockwait(NULL, &mutex, CLOCK_MONOTONIC, &past) == EINVAL);
	CHECK(pthread_cond_clockwait(&cond, NULL, CLOCK_MONOTONIC, &past) == EINVAL);
	CHECK(pthread_cond_clockwait(&cond, &mutex, CLOCK_MONOTONIC, NULL) == EINVAL);
	CHECK(pthread_mutex_unlock(&mutex) == 0);
}

static pthread_rwlock_t shared = PTHREAD_RWLOCK_INITIALIZER;
static int gate;

static void *has_it_to_write(void *unused)
{
	(void)unused;
	CHECK(pthread_rwlock_wrlock(&shared) == 0);
	store(&gate, 1);
	UNTIL(load(&gate) == 2);
	CHECK(pthread_rwlock_unlock(&shared) == 0);
	return NULL;
}

/* pthread_rwlock_tryrdlock, pthread_rwlock_timedrdlock and their like, ERRORS: EBUSY, ETIMEDOUT, EINVAL. */
static void a_lock_that_another_writes_is_EBUSY_or_ETIMEDOUT_for_all(void)
{
	struct timespec past = {0, 0}, bad = {0, -1};
	pthread_t thread;

	store(&gate, 0);
	NEED(pthread_create(&thread, NULL, has_it_to_write, NULL) == 0);
	UNTIL(load(&gate) == 1);
	CHECK(pthread_rwlock_tryrdlock(&shared) == EBUSY);
	CHECK(pthread_rwlock_trywrlock(&shared) == EBUSY);
	CHECK(pthread_rwlock_timedrdlock(&shared, &past) == ETIMEDOUT);
	CHECK(pthread_rwlock_timedwrlock(&shared, &past) == ETIMEDOUT);
	CHECK(pthread_rwlock_timedrdlock(&shared, &bad) == EINVAL);
	CHECK(pthread_rwlock_timedwrlock(&shared, &bad) == EINVAL);
	CHECK(pthread_rwlock_timedrdlock(&shared, NULL) == EINVAL);
	store(&gate, 2);
	CHECK(pthread_join(thread, NULL) == 0);
	CHECK(pthread_rwlock_tryrdlock(NULL) == EINVAL);
	CHECK(pthread_rwlock_trywrlock(NULL) == EINVAL);
	CHECK(pthread_rwlock_timedrdlock(NULL, &past) == EINVAL);
	CHECK(pthread_rwlock_timedwrlock(NULL, &past) == EINVAL);
	CHECK(pthread_rwlock_unlock(NULL) == EINVAL);
}

/* ERRORS: EINVAL, not a valid semaphore; ETIMEDOUT; a clock that is none. */
static void semaphores_that_are_not_there_are_EINVAL(void)
{
	struct timespec past = {0, 0}, bad = {0, 1000000000};
	sem_t sem;

	NEED(sem_init(&sem, 0, 0) == 0);
	CHECK(FAILS(sem_clockwait(&sem, CLOCK_REALTIME, &past), ETIMEDOUT));
	CHECK(FAILS(sem_clockwait(&sem, CLOCK_REALTIME, &bad), EINVAL));
	CHECK(FAILS(sem_clockwait(&sem, 77, &past), EINVAL));
	CHECK(sem_destroy(&sem) == 0);
	CHECK(FAILS(sem_clockwait(NULL, CLOCK_REALTIME, &past), EINVAL));
	CHECK(FAILS(sem_timedwait(NULL, &past), EINVAL));
	CHECK(FAILS(sem_wait(NULL), EINVAL));
	CHECK(FAILS(sem_trywait(NULL), EINVAL));
	CHECK(FAILS(sem_post(NULL), EINVAL));
	CHECK(FAILS(sem_destroy(NULL), EINVAL));
}

/* setspecific, delete: EINVAL for a key that is none; getspecific has no errors, and no value then. */
static void a_key_that_is_none_has_no_value(void)
{
	CHECK(pthread_key_create(NULL, NULL) == EINVAL);
	CHECK(pthread_setspecific(PTHREAD_KEYS_MAX + 1, &gate) == EINVAL);
	CHECK(pthread_getspecific(PTHREAD_KEYS_MAX + 1) == NULL);
	CHECK(pthread_key_delete(PTHREAD_KEYS_MAX + 1) == EINVAL);
}

/* A lock is held or it is not: trying never waits. */
static void *tries_the_native_mutex(void *mutex)
{
	CHECK(flux_mutex_trylock(mutex) == EBUSY);
	CHECK(flux_mutex_lock_until(mutex, 1) == ETIMEDOUT);
	CHECK(flux_mutex_unlock(mutex) == EPERM);
	return NULL;
}

static void *waits_at_the_gate(void *unused)
{
	UNTIL(load(&gate) == 1);
	return unused;
}

/* As pthread_join of a detached thread. */
static void a_detached_thread_is_not_joined_natively(void)
{
	pthread_t thread;

	store(&gate, 0);
	NEED(pthread_create(&thread, NULL, waits_at_the_gate, NULL) == 0);
	CHECK(pthread_detach(thread) == 0);
	CHECK(flux_join(thread, NULL) == EINVAL);
	store(&gate, 1);
}

static void native_objects_say_what_is_done_wrong_with_them(void)
{
	flux_mutex_t mutex = {{0}};
	flux_cond_t cond = {{0}};
	flux_sem_t sem = {{0}};
	flux_thread_t thread;

	CHECK(flux_mutex_trylock(&mutex) == 0);
	CHECK(flux_mutex_trylock(&mutex) == EBUSY);
	CHECK(flux_mutex_lock(&mutex) == EDEADLK);
	CHECK(flux_mutex_lock_until(&mutex, 1) == EDEADLK);
	NEED(flux_spawn(&thread, tries_the_native_mutex, &mutex) == 0);
	CHECK(flux_join(thread, NULL) == 0);
	CHECK(flux_join(thread, NULL) == ESRCH);
	CHECK(flux_join(flux_self(), NULL) == EDEADLK);
	CHECK(flux_cond_wait_until(&cond, &mutex, 1) == ETIMEDOUT);
	CHECK(flux_cond_broadcast(&cond) == 0);
	CHECK(flux_mutex_unlock(&mutex) == 0);
	CHECK(flux_cond_wait(&cond, &mutex) == EPERM);
	CHECK(flux_cond_wait_until(&cond, &mutex, 1) == EPERM);
	CHECK(flux_mutex_lock(NULL) == EINVAL);
	CHECK(flux_mutex_trylock(NULL) == EINVAL);
	CHECK(flux_mutex_lock_until(NULL, 1) == EINVAL);
	CHECK(flux_mutex_unlock(NULL) == EINVAL);
	CHECK(flux_cond_wait(NULL, &mutex) == EINVAL);
	CHECK(flux_cond_signal(NULL) == EINVAL);
	CHECK(flux_cond_broadcast(NULL) == EINVAL);
	CHECK(flux_sem_acquire_until(&sem, 1) == ETIMEDOUT);
	CHECK(flux_sem_init(NULL, 1) == EINVAL);
	CHECK(flux_sem_acquire(NULL) == EINVAL);
	CHECK(flux_sem_tryacquire(NULL) == EINVAL);
	CHECK(flux_sem_acquire_until(NULL, 1) == EINVAL);
	CHECK(flux_sem_release(NULL) == EINVAL);
	CHECK(flux_channel_init(NULL, &gate, 1, 1) == EINVAL);
	CHECK(flux_channel_send(NULL, &gate, 0) == EINVAL);
	CHECK(flux_channel_receive(NULL, &gate, 0) == EINVAL);
	CHECK(flux_channel_close(NULL) == EINVAL);
	CHECK(flux_timer_arm(NULL, 1, NULL, NULL) == EINVAL);
	CHECK(flux_timer_disarm(NULL) == EINVAL);
}

CASES(CASE(attributes_of_threads_that_are_not_there_are_EINVAL),
      CASE(places_for_attributes_of_threads_that_are_not_there_are_EINVAL),
      CASE(attributes_of_objects_that_are_not_there_are_EINVAL), CASE(clockwait_fails_as_timedwait_does),
      CASE(a_lock_that_another_writes_is_EBUSY_or_ETIMEDOUT_for_all), CASE(semaphores_that_are_not_there_are_EINVAL),
      CASE(a_key_that_is_none_has_no_value), CASE(a_detached_thread_is_not_joined_natively),
      CASE(native_objects_say_what_is_done_wrong_with_them))

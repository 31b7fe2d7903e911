/*
 * POSIX threads as uThreads of FluxOS.
 *
 * For programs that are linked with libfluxos.a. The functions have names of their own in the
 * object file, so that a hosted program can have a C library's threads beside them. What deviates
 * from POSIX is said in guest-libos/capi/README.md.
 */
#ifndef FLUXOS_PTHREAD_H
#define FLUXOS_PTHREAD_H

#include <sched.h>
#include <stddef.h>
#include <time.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FLUX_PTHREAD(name) __asm__("flux_pthread_" #name)

typedef unsigned long pthread_t; /* never 0 */
typedef unsigned int pthread_key_t;

/* Objects. All bytes 0 is a valid, unlocked object with default attributes. */
typedef union {
	char opaque[64];
	int kind; /* the first word */
	long align;
} pthread_mutex_t;
typedef union {
	char opaque[64];
	int clock; /* the first word */
	long align;
} pthread_cond_t;
typedef union {
	char opaque[64];
	long align;
} pthread_rwlock_t;
typedef union {
	char opaque[64];
	long align;
} pthread_barrier_t;
typedef union {
	char opaque[32];
	long align;
} pthread_once_t;
typedef int pthread_spinlock_t;

/* Attributes. They are made by their init function only. */
typedef union {
	char opaque[64];
	long align;
} pthread_attr_t;
typedef struct {
	unsigned opaque[2];
} pthread_mutexattr_t, pthread_condattr_t, pthread_rwlockattr_t, pthread_barrierattr_t;

#define PTHREAD_CREATE_JOINABLE 0
#define PTHREAD_CREATE_DETACHED 1
#define PTHREAD_INHERIT_SCHED 0
#define PTHREAD_EXPLICIT_SCHED 1
#define PTHREAD_SCOPE_SYSTEM 0
#define PTHREAD_SCOPE_PROCESS 1
#define PTHREAD_PROCESS_PRIVATE 0
#define PTHREAD_PROCESS_SHARED 1

#define PTHREAD_MUTEX_NORMAL 0
#define PTHREAD_MUTEX_RECURSIVE 1
#define PTHREAD_MUTEX_ERRORCHECK 2
#define PTHREAD_MUTEX_DEFAULT PTHREAD_MUTEX_NORMAL
#define PTHREAD_PRIO_NONE 0
#define PTHREAD_PRIO_INHERIT 1
#define PTHREAD_PRIO_PROTECT 2
#define PTHREAD_MUTEX_STALLED 0
#define PTHREAD_MUTEX_ROBUST 1

#define PTHREAD_CANCEL_ENABLE 0
#define PTHREAD_CANCEL_DISABLE 1
#define PTHREAD_CANCEL_DEFERRED 0
#define PTHREAD_CANCEL_ASYNCHRONOUS 1
#define PTHREAD_CANCELED ((void *)-1)

#define PTHREAD_BARRIER_SERIAL_THREAD (-1)

/* clang-format off */
#define PTHREAD_MUTEX_INITIALIZER { { 0 } }
#define PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP { .kind = PTHREAD_MUTEX_RECURSIVE }
#define PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP { .kind = PTHREAD_MUTEX_ERRORCHECK }
#define PTHREAD_COND_INITIALIZER { { 0 } }
#define PTHREAD_RWLOCK_INITIALIZER { { 0 } }
#define PTHREAD_ONCE_INIT { { 0 } }
/* clang-format on */

#define PTHREAD_KEYS_MAX 128
#define PTHREAD_DESTRUCTOR_ITERATIONS 4
#define PTHREAD_STACK_MIN 16384
#define PTHREAD_THREADS_MAX 16384

/* Threads. */
int pthread_create(pthread_t *__restrict thread, const pthread_attr_t *__restrict attr, void *(*start)(void *),
		   void *__restrict arg) FLUX_PTHREAD(create);
int pthread_join(pthread_t thread, void **value) FLUX_PTHREAD(join);
int pthread_detach(pthread_t thread) FLUX_PTHREAD(detach);
pthread_t pthread_self(void) FLUX_PTHREAD(self);
int pthread_equal(pthread_t a, pthread_t b) FLUX_PTHREAD(equal);
void pthread_exit(void *value) FLUX_PTHREAD(exit) __attribute__((noreturn));

int pthread_attr_init(pthread_attr_t *attr) FLUX_PTHREAD(attr_init);
int pthread_attr_destroy(pthread_attr_t *attr) FLUX_PTHREAD(attr_destroy);
int pthread_attr_setdetachstate(pthread_attr_t *attr, int state) FLUX_PTHREAD(attr_setdetachstate);
int pthread_attr_getdetachstate(const pthread_attr_t *attr, int *state) FLUX_PTHREAD(attr_getdetachstate);
int pthread_attr_setstacksize(pthread_attr_t *attr, size_t bytes) FLUX_PTHREAD(attr_setstacksize);
int pthread_attr_getstacksize(const pthread_attr_t *__restrict attr, size_t *__restrict bytes)
	FLUX_PTHREAD(attr_getstacksize);
int pthread_attr_setstack(pthread_attr_t *attr, void *base, size_t bytes) FLUX_PTHREAD(attr_setstack);
int pthread_attr_getstack(const pthread_attr_t *__restrict attr, void **__restrict base, size_t *__restrict bytes)
	FLUX_PTHREAD(attr_getstack);
int pthread_attr_setguardsize(pthread_attr_t *attr, size_t bytes) FLUX_PTHREAD(attr_setguardsize);
int pthread_attr_getguardsize(const pthread_attr_t *__restrict attr, size_t *__restrict bytes)
	FLUX_PTHREAD(attr_getguardsize);
int pthread_attr_setscope(pthread_attr_t *attr, int scope) FLUX_PTHREAD(attr_setscope);
int pthread_attr_getscope(const pthread_attr_t *__restrict attr, int *__restrict scope) FLUX_PTHREAD(attr_getscope);
int pthread_attr_setinheritsched(pthread_attr_t *attr, int inherit) FLUX_PTHREAD(attr_setinheritsched);
int pthread_attr_getinheritsched(const pthread_attr_t *__restrict attr, int *__restrict inherit)
	FLUX_PTHREAD(attr_getinheritsched);
int pthread_attr_setschedpolicy(pthread_attr_t *attr, int policy) FLUX_PTHREAD(attr_setschedpolicy);
int pthread_attr_getschedpolicy(const pthread_attr_t *__restrict attr, int *__restrict policy)
	FLUX_PTHREAD(attr_getschedpolicy);
int pthread_attr_setschedparam(pthread_attr_t *__restrict attr, const struct sched_param *__restrict param)
	FLUX_PTHREAD(attr_setschedparam);
int pthread_attr_getschedparam(const pthread_attr_t *__restrict attr, struct sched_param *__restrict param)
	FLUX_PTHREAD(attr_getschedparam);

/* Thread-specific data. */
int pthread_key_create(pthread_key_t *key, void (*destructor)(void *)) FLUX_PTHREAD(key_create);
int pthread_key_delete(pthread_key_t key) FLUX_PTHREAD(key_delete);
int pthread_setspecific(pthread_key_t key, const void *value) FLUX_PTHREAD(setspecific);
void *pthread_getspecific(pthread_key_t key) FLUX_PTHREAD(getspecific);

int pthread_once(pthread_once_t *once, void (*init)(void)) FLUX_PTHREAD(once);

/* Cancellation. */
int pthread_cancel(pthread_t thread) FLUX_PTHREAD(cancel);
int pthread_setcancelstate(int state, int *old) FLUX_PTHREAD(setcancelstate);
int pthread_setcanceltype(int type, int *old) FLUX_PTHREAD(setcanceltype);
void pthread_testcancel(void) FLUX_PTHREAD(testcancel);

struct flux_cleanup {
	void (*routine)(void *);
	void *arg;
	struct flux_cleanup *outer;
};
void flux_cleanup_push(struct flux_cleanup *cleanup);
void flux_cleanup_pop(struct flux_cleanup *cleanup, int execute);
/* clang-format off */
#define pthread_cleanup_push(routine, arg)                                    \
	do {                                                                  \
		struct flux_cleanup flux_cleanup_here = { routine, arg, 0 };  \
		flux_cleanup_push(&flux_cleanup_here);                        \
		do {
#define pthread_cleanup_pop(execute)                                          \
		} while (0);                                                  \
		flux_cleanup_pop(&flux_cleanup_here, execute);                \
	} while (0)
/* clang-format on */

/* Mutexes. */
int pthread_mutex_init(pthread_mutex_t *__restrict mutex, const pthread_mutexattr_t *__restrict attr)
	FLUX_PTHREAD(mutex_init);
int pthread_mutex_destroy(pthread_mutex_t *mutex) FLUX_PTHREAD(mutex_destroy);
int pthread_mutex_lock(pthread_mutex_t *mutex) FLUX_PTHREAD(mutex_lock);
int pthread_mutex_trylock(pthread_mutex_t *mutex) FLUX_PTHREAD(mutex_trylock);
int pthread_mutex_timedlock(pthread_mutex_t *__restrict mutex, const struct timespec *__restrict until)
	FLUX_PTHREAD(mutex_timedlock);
int pthread_mutex_clocklock(pthread_mutex_t *__restrict mutex, clockid_t clock, const struct timespec *__restrict until)
	FLUX_PTHREAD(mutex_clocklock);
int pthread_mutex_unlock(pthread_mutex_t *mutex) FLUX_PTHREAD(mutex_unlock);
int pthread_mutexattr_init(pthread_mutexattr_t *attr) FLUX_PTHREAD(mutexattr_init);
int pthread_mutexattr_destroy(pthread_mutexattr_t *attr) FLUX_PTHREAD(mutexattr_destroy);
int pthread_mutexattr_settype(pthread_mutexattr_t *attr, int type) FLUX_PTHREAD(mutexattr_settype);
int pthread_mutexattr_gettype(const pthread_mutexattr_t *__restrict attr, int *__restrict type)
	FLUX_PTHREAD(mutexattr_gettype);
int pthread_mutexattr_setpshared(pthread_mutexattr_t *attr, int shared) FLUX_PTHREAD(mutexattr_setpshared);
int pthread_mutexattr_getpshared(const pthread_mutexattr_t *__restrict attr, int *__restrict shared)
	FLUX_PTHREAD(mutexattr_getpshared);
int pthread_mutexattr_setprotocol(pthread_mutexattr_t *attr, int protocol) FLUX_PTHREAD(mutexattr_setprotocol);
int pthread_mutexattr_getprotocol(const pthread_mutexattr_t *__restrict attr, int *__restrict protocol)
	FLUX_PTHREAD(mutexattr_getprotocol);
int pthread_mutexattr_setrobust(pthread_mutexattr_t *attr, int robust) FLUX_PTHREAD(mutexattr_setrobust);
int pthread_mutexattr_getrobust(const pthread_mutexattr_t *__restrict attr, int *__restrict robust)
	FLUX_PTHREAD(mutexattr_getrobust);

/* Condition variables. */
int pthread_cond_init(pthread_cond_t *__restrict cond, const pthread_condattr_t *__restrict attr)
	FLUX_PTHREAD(cond_init);
int pthread_cond_destroy(pthread_cond_t *cond) FLUX_PTHREAD(cond_destroy);
int pthread_cond_wait(pthread_cond_t *__restrict cond, pthread_mutex_t *__restrict mutex) FLUX_PTHREAD(cond_wait);
int pthread_cond_timedwait(pthread_cond_t *__restrict cond, pthread_mutex_t *__restrict mutex,
			   const struct timespec *__restrict until) FLUX_PTHREAD(cond_timedwait);
int pthread_cond_clockwait(pthread_cond_t *__restrict cond, pthread_mutex_t *__restrict mutex, clockid_t clock,
			   const struct timespec *__restrict until) FLUX_PTHREAD(cond_clockwait);
int pthread_cond_signal(pthread_cond_t *cond) FLUX_PTHREAD(cond_signal);
int pthread_cond_broadcast(pthread_cond_t *cond) FLUX_PTHREAD(cond_broadcast);
int pthread_condattr_init(pthread_condattr_t *attr) FLUX_PTHREAD(condattr_init);
int pthread_condattr_destroy(pthread_condattr_t *attr) FLUX_PTHREAD(condattr_destroy);
int pthread_condattr_setclock(pthread_condattr_t *attr, clockid_t clock) FLUX_PTHREAD(condattr_setclock);
int pthread_condattr_getclock(const pthread_condattr_t *__restrict attr, clockid_t *__restrict clock)
	FLUX_PTHREAD(condattr_getclock);
int pthread_condattr_setpshared(pthread_condattr_t *attr, int shared) FLUX_PTHREAD(condattr_setpshared);
int pthread_condattr_getpshared(const pthread_condattr_t *__restrict attr, int *__restrict shared)
	FLUX_PTHREAD(condattr_getpshared);

/* Read-write locks. */
int pthread_rwlock_init(pthread_rwlock_t *__restrict lock, const pthread_rwlockattr_t *__restrict attr)
	FLUX_PTHREAD(rwlock_init);
int pthread_rwlock_destroy(pthread_rwlock_t *lock) FLUX_PTHREAD(rwlock_destroy);
int pthread_rwlock_rdlock(pthread_rwlock_t *lock) FLUX_PTHREAD(rwlock_rdlock);
int pthread_rwlock_tryrdlock(pthread_rwlock_t *lock) FLUX_PTHREAD(rwlock_tryrdlock);
int pthread_rwlock_timedrdlock(pthread_rwlock_t *__restrict lock, const struct timespec *__restrict until)
	FLUX_PTHREAD(rwlock_timedrdlock);
int pthread_rwlock_wrlock(pthread_rwlock_t *lock) FLUX_PTHREAD(rwlock_wrlock);
int pthread_rwlock_trywrlock(pthread_rwlock_t *lock) FLUX_PTHREAD(rwlock_trywrlock);
int pthread_rwlock_timedwrlock(pthread_rwlock_t *__restrict lock, const struct timespec *__restrict until)
	FLUX_PTHREAD(rwlock_timedwrlock);
int pthread_rwlock_unlock(pthread_rwlock_t *lock) FLUX_PTHREAD(rwlock_unlock);
int pthread_rwlockattr_init(pthread_rwlockattr_t *attr) FLUX_PTHREAD(rwlockattr_init);
int pthread_rwlockattr_destroy(pthread_rwlockattr_t *attr) FLUX_PTHREAD(rwlockattr_destroy);
int pthread_rwlockattr_setpshared(pthread_rwlockattr_t *attr, int shared) FLUX_PTHREAD(rwlockattr_setpshared);
int pthread_rwlockattr_getpshared(const pthread_rwlockattr_t *__restrict attr, int *__restrict shared)
	FLUX_PTHREAD(rwlockattr_getpshared);

/* Barriers. */
int pthread_barrier_init(pthread_barrier_t *__restrict barrier, const pthread_barrierattr_t *__restrict attr,
			 unsigned count) FLUX_PTHREAD(barrier_init);
int pthread_barrier_destroy(pthread_barrier_t *barrier) FLUX_PTHREAD(barrier_destroy);
int pthread_barrier_wait(pthread_barrier_t *barrier) FLUX_PTHREAD(barrier_wait);
int pthread_barrierattr_init(pthread_barrierattr_t *attr) FLUX_PTHREAD(barrierattr_init);
int pthread_barrierattr_destroy(pthread_barrierattr_t *attr) FLUX_PTHREAD(barrierattr_destroy);
int pthread_barrierattr_setpshared(pthread_barrierattr_t *attr, int shared) FLUX_PTHREAD(barrierattr_setpshared);
int pthread_barrierattr_getpshared(const pthread_barrierattr_t *__restrict attr, int *__restrict shared)
	FLUX_PTHREAD(barrierattr_getpshared);

/* Spin locks. */
int pthread_spin_init(pthread_spinlock_t *lock, int shared) FLUX_PTHREAD(spin_init);
int pthread_spin_destroy(pthread_spinlock_t *lock) FLUX_PTHREAD(spin_destroy);
int pthread_spin_lock(pthread_spinlock_t *lock) FLUX_PTHREAD(spin_lock);
int pthread_spin_trylock(pthread_spinlock_t *lock) FLUX_PTHREAD(spin_trylock);
int pthread_spin_unlock(pthread_spinlock_t *lock) FLUX_PTHREAD(spin_unlock);

#ifdef __cplusplus
}
#endif

#endif

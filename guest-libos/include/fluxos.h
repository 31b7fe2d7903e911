/*
 * The native C face of FluxOS, for programs that are linked with libfluxos.a.
 *
 * Functions that return int return 0 or an error number of errno.h, unless their text says
 * otherwise. Times are nanoseconds of flux_now_ns(); FLUX_NEVER is no deadline at all.
 */
#ifndef FLUXOS_H
#define FLUXOS_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FLUX_NEVER UINT64_MAX

/* A uThread. A number is not used again for another one for 2^32 uThreads. */
typedef unsigned long flux_thread_t;

/* Starts a uThread; `thread` may be null, and then nobody can wait for it. EAGAIN: all stacks are in use. */
int flux_spawn(flux_thread_t *thread, void *(*start)(void *), void *arg);
/* Waits for its end; `value` may be null. ESRCH, EDEADLK, EINVAL as pthread_join; not a cancellation point. */
int flux_join(flux_thread_t thread, void **value);
flux_thread_t flux_self(void);
/* Lets other uThreads run. */
void flux_yield(void);
/* A scheduling point that only gives the core back if the host wants it: a few instructions else. */
void flux_poll(void);

/* Names the calling uThread in logs, traces and the last words of a VM; 15 bytes are kept. */
void flux_set_name(const char *name);

/* Ends the VM. */
void flux_exit(int code) __attribute__((noreturn));
/* One line into the VM's log; what is longer than 255 bytes is cut. The host limits their rate. */
void flux_log(const char *text);
/* vCPUs of this VM, all of which may run uThreads at the same time. */
unsigned flux_vcpus(void);

uint64_t flux_now_ns(void);
void flux_sleep_ns(uint64_t length);
void flux_sleep_until_ns(uint64_t when);

/* Objects. All bytes 0 is a fresh one (a semaphore of 0). */
typedef union {
	char opaque[64];
	long align;
} flux_mutex_t;
typedef union {
	char opaque[64];
	long align;
} flux_cond_t;
typedef union {
	char opaque[64];
	long align;
} flux_sem_t;

/* Handed over in the order of arrival. EDEADLK: it is the caller's already. EPERM: it is not. */
int flux_mutex_lock(flux_mutex_t *mutex);
int flux_mutex_trylock(flux_mutex_t *mutex);
int flux_mutex_lock_until(flux_mutex_t *mutex, uint64_t until);
int flux_mutex_unlock(flux_mutex_t *mutex);

int flux_cond_wait(flux_cond_t *cond, flux_mutex_t *mutex);
int flux_cond_wait_until(flux_cond_t *cond, flux_mutex_t *mutex, uint64_t until);
int flux_cond_signal(flux_cond_t *cond);
int flux_cond_broadcast(flux_cond_t *cond);

int flux_sem_init(flux_sem_t *sem, uint32_t value);
int flux_sem_acquire(flux_sem_t *sem);
int flux_sem_tryacquire(flux_sem_t *sem);
int flux_sem_acquire_until(flux_sem_t *sem, uint64_t until);
int flux_sem_release(flux_sem_t *sem);

/* A channel of `capacity` items of `item` bytes each, in memory of the caller's: capacity * item bytes. */
typedef struct {
	flux_mutex_t lock;
	flux_cond_t room;
	flux_cond_t items;
	unsigned char *buffer;
	size_t item;
	size_t capacity;
	size_t first;
	size_t count;
	int closed;
} flux_channel_t;

int flux_channel_init(flux_channel_t *channel, void *buffer, size_t item, size_t capacity);
/* EPIPE: it is closed. ETIMEDOUT: the deadline passed; with a deadline of 0 nothing is waited for. */
int flux_channel_send(flux_channel_t *channel, const void *item, uint64_t until);
int flux_channel_receive(flux_channel_t *channel, void *item, uint64_t until);
/* What is in it can still be received. */
int flux_channel_close(flux_channel_t *channel);

/* A timer calls `fire(arg)` once, in a uThread of its own. */
typedef struct {
	flux_thread_t thread;
	void (*fire)(void *);
	void *arg;
	uint64_t when;
	int state;
} flux_timer_t;

/* EAGAIN: all stacks are in use. EBUSY: it is armed already. */
int flux_timer_arm(flux_timer_t *timer, uint64_t when, void (*fire)(void *), void *arg);
/* When it returns, the timer has fired (ESRCH), or never will (0); it can be armed again. */
int flux_timer_disarm(flux_timer_t *timer);

#ifdef __cplusplus
}
#endif

#endif

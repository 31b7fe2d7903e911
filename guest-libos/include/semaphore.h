/* POSIX semaphores between uThreads. The functions return -1 and set errno. */
#ifndef FLUXOS_SEMAPHORE_H
#define FLUXOS_SEMAPHORE_H

#include <time.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SEM_VALUE_MAX 0x7fffffff

typedef union {
	char opaque[64];
	long align;
} sem_t;

int sem_init(sem_t *sem, int shared, unsigned value) __asm__("flux_posix_sem_init");
int sem_destroy(sem_t *sem) __asm__("flux_posix_sem_destroy");
int sem_wait(sem_t *sem) __asm__("flux_posix_sem_wait");
int sem_trywait(sem_t *sem) __asm__("flux_posix_sem_trywait");
int sem_timedwait(sem_t *__restrict sem, const struct timespec *__restrict until) __asm__("flux_posix_sem_timedwait");
int sem_clockwait(sem_t *__restrict sem, clockid_t clock,
		  const struct timespec *__restrict until) __asm__("flux_posix_sem_clockwait");
int sem_post(sem_t *sem) __asm__("flux_posix_sem_post");
int sem_getvalue(sem_t *__restrict sem, int *__restrict value) __asm__("flux_posix_sem_getvalue");

#ifdef __cplusplus
}
#endif

#endif

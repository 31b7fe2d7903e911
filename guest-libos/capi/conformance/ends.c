/* fluxos.h flux_exit, as C's exit: any thread ends the program, whatever the others do. */
#include "tap.h"

static void *ends_it(void *arg)
{
	(void)arg;
	others();
	flux_log("ok 1 - any_thread_ends_the_program_whatever_the_others_do");
	flux_log("1..1");
	flux_exit(0);
}

int main(void)
{
	pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
	pthread_t thread;

	if (pthread_create(&thread, NULL, ends_it, NULL) != 0)
		return 1;
	/* A normal mutex that is locked twice: this one waits for ever. XSH pthread_mutex_lock, the table. */
	pthread_mutex_lock(&mutex);
	pthread_mutex_lock(&mutex);
	return 2;
}

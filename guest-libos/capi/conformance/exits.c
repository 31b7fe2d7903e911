/* XSH pthread_exit: the process exits with 0 after the last thread has ended, main's thread or not. */
#include "tap.h"

static void *ends_later(void *arg)
{
	others();
	flux_log("ok 1 - the_other_threads_go_on_when_the_first_has_ended");
	flux_log("ok 2 - the_program_ends_with_0_after_its_last_thread");
	flux_log("1..2");
	return arg;
}

int main(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, ends_later, NULL) != 0)
		return 1;
	pthread_exit((void *)7);
}

/* A program that ends badly, as its first argument says: for hosted/tests/last_words.rs. */
#include <fluxos.h>
#include <pthread.h>
#include <string.h>

__attribute__((noinline)) static int dive(volatile int *above)
{
	volatile int room[32] = {*above + 1};

	/* Which is never so: the stack is used up before. */
	return room[0] < 0 ? 0 : dive(room) + room[0];
}

static void *diver(void *arg)
{
	int start = 0;

	flux_set_name("c diver");
	dive(&start);
	return arg;
}

__attribute__((noinline)) static void poke(int *at)
{
	/* So that the function has a frame before it does what is wrong. */
	volatile int one = 1;

	*(volatile int *)at = one;
}

static void *poker(void *arg)
{
	flux_set_name("c poker");
	poke(arg);
	return arg;
}

int main(int argc, char **argv)
{
	void *(*end)(void *) = argc > 1 && strcmp(argv[1], "overflow") == 0 ? diver : poker;
	pthread_t thread;

	if (pthread_create(&thread, 0, end, 0) != 0)
		return 2;
	return pthread_join(thread, 0) == 0 ? 0 : 3;
}

/* What a program finds when it begins: constructors have run, data is initialised, strings work. */
#include "tap.h"

static int constructed;

__attribute__((constructor)) static void construct(void)
{
	constructed = 7;
}

static void constructors_run_before_main(void)
{
	CHECK(constructed == 7);
}

static int data = 0x1234;
static int zeroes[1000];

static void data_is_initialised(void)
{
	CHECK(data == 0x1234);
	for (int i = 0; i < 1000; i++)
		NEED(zeroes[i] == 0);
}

/* Kept from the compiler, which knows these functions. */
static const char *volatile text = "uthread";

static void string_functions_do_what_c_says(void)
{
	char room[16] = "xxxxxxxxxxxxxxx";
	const char *t = text;

	CHECK(strlen(t) == 7);
	CHECK(strnlen(t, 3) == 3);
	CHECK(strcmp(t, "uthread") == 0 && strcmp(t, "uthreae") < 0 && strcmp(t, "uthrea") > 0);
	CHECK(strncmp(t, "uthxxx", 3) == 0 && strncmp(t, "uthxxx", 4) < 0);
	CHECK(strchr(t, 'r') == t + 3 && strchr(t, 'z') == NULL && strchr(t, 0) == t + 7);
	CHECK(strrchr("abcabc" + (t[0] == 0), 'b')[1] == 'c');
	CHECK(memchr(t, 'h', 2) == NULL && memchr(t, 'h', 3) == t + 2);
	CHECK(strcpy(room, t) == room && memcmp(room, "uthread\0x", 9) == 0);
	CHECK(strncpy(room, "ab", 5) == room && memcmp(room, "ab\0\0\0ad\0x", 9) == 0);
	CHECK(memcpy(room + 8, t, 8) == room + 8 && strcmp(room + 8, t) == 0);
	CHECK(strcat(room, "cd") == room && strcmp(room, "abcd") == 0);
	memmove(room + 1, room, 4);
	CHECK(memcmp(room, "aabcd", 5) == 0);
	memset(room, 'z', 3);
	CHECK(memcmp(room, "zzzcd", 5) == 0);
}

static void errno_belongs_to_each_thread_and_begins_at_0(void)
{
	CHECK(errno == 0);
	errno = EBUSY;
	others();
	CHECK(errno == EBUSY);
	errno = 0;
}

CASES(CASE(constructors_run_before_main), CASE(data_is_initialised), CASE(string_functions_do_what_c_says),
      CASE(errno_belongs_to_each_thread_and_begins_at_0))

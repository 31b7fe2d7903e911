/*
 * A harness for conformance programs: cases in order, one TAP line each into the VM's log.
 *
 * A case is named after the requirement it checks. Nothing in it waits for time to pass: it waits
 * for conditions, and the suite's own limit ends a program that hangs.
 */
#ifndef FLUXOS_TAP_H
#define FLUXOS_TAP_H

#include <errno.h>
#include <fluxos.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

struct tap_case {
	const char *name;
	void (*run)(void);
};

/* The first check of the case that failed; 0 if none did. */
static unsigned tap_line;
static const char *tap_text;

static inline bool tap_check(bool good, unsigned line, const char *text)
{
	unsigned none = 0;

	if (!good && __atomic_compare_exchange_n(&tap_line, &none, line, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		tap_text = text;
	return good;
}

#define CHECK(condition) tap_check(condition, __LINE__, #condition)
/* For what the rest of the case needs. */
#define NEED(condition)                                          \
	do {                                                     \
		if (!tap_check(condition, __LINE__, #condition)) \
			return;                                  \
	} while (0)

/* Gives way to others until the condition holds. */
#define UNTIL(condition)               \
	do {                           \
		while (!(condition))   \
			sched_yield(); \
	} while (0)

static inline int load(const int *word)
{
	return __atomic_load_n(word, __ATOMIC_SEQ_CST);
}

static inline void store(int *word, int value)
{
	__atomic_store_n(word, value, __ATOMIC_SEQ_CST);
}

static inline int add(int *word, int value)
{
	return __atomic_add_fetch(word, value, __ATOMIC_SEQ_CST);
}

/* Lets others come as far as they can: at least to where they wait. It is no proof that they did. */
static inline void others(void)
{
	for (int turn = 0; turn < 100; turn++)
		sched_yield();
}

/* The time that is `ns` from now on. */
static inline struct timespec in_ns(clockid_t clock, long ns)
{
	struct timespec at = {0, 0};

	clock_gettime(clock, &at);
	at.tv_sec += ns / 1000000000;
	at.tv_nsec += ns % 1000000000;
	if (at.tv_nsec >= 1000000000) {
		at.tv_sec++;
		at.tv_nsec -= 1000000000;
	}
	return at;
}

static inline bool earlier(struct timespec a, struct timespec b)
{
	return a.tv_sec < b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec < b.tv_nsec);
}

static inline char *tap_number(char *to, unsigned number)
{
	char digits[12];
	int count = 0;

	do {
		digits[count++] = (char)('0' + number % 10);
		number /= 10;
	} while (number > 0);
	while (count > 0)
		*to++ = digits[--count];
	*to = 0;
	return to;
}

static inline char *tap_append(char *to, const char *end, const char *text)
{
	while (*text && to < end)
		*to++ = *text++;
	*to = 0;
	return to;
}

/* Runs all cases, and logs what it must: all of them if they are to be told, else what fails. */
static inline int tap_round(const struct tap_case *cases, unsigned count, bool tell)
{
	char line[240];
	const char *end = line + sizeof(line) - 16;
	unsigned failed = 0;

	for (unsigned i = 0; i < count; i++) {
		char *at = line;

		__atomic_store_n(&tap_line, 0, __ATOMIC_SEQ_CST);
		cases[i].run();
		at = tap_append(at, end, tap_line == 0 ? "ok " : "not ok ");
		at = tap_number(at, i + 1);
		at = tap_append(at, end, " - ");
		at = tap_append(at, end, cases[i].name);
		if (tap_line != 0) {
			failed++;
			at = tap_append(at, end, " # line ");
			at = tap_number(at, tap_line);
			at = tap_append(at, end, ": ");
			tap_append(at, end, tap_text ? tap_text : "?");
		}
		if (tell || tap_line != 0)
			flux_log(line);
	}
	if (!tell)
		return failed == 0 ? 0 : 1;
	tap_number(tap_append(line, end, "1.."), count);
	flux_log(line);
	return failed == 0 ? 0 : 1;
}

/* The program's first argument, if there is one, is how often to do it all. */
static inline int tap_run(const struct tap_case *cases, unsigned count, int argc, char **argv)
{
	int rounds = 1;

	if (argc > 1) {
		rounds = 0;
		for (const char *digit = argv[1]; *digit >= '0' && *digit <= '9'; digit++)
			rounds = rounds * 10 + *digit - '0';
	}
	while (--rounds > 0)
		if (tap_round(cases, count, false) != 0)
			return 1;
	return tap_round(cases, count, true);
}

#define CASE(name)          \
	{                   \
#name, name \
	}
#define CASES(...)                                                                               \
	int main(int argc, char **argv)                                                          \
	{                                                                                        \
		static const struct tap_case cases[] = {__VA_ARGS__};                            \
                                                                                                 \
		return tap_run(cases, (unsigned)(sizeof(cases) / sizeof(cases[0])), argc, argv); \
	}

#endif

/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The harness of kFlux's test suite. A case is a function that runs in a process of
 * its own, in a process group of its own, under a time limit: a hang is a failure that
 * has a name. After each case the harness looks whether the module let go of all that
 * the case had, and whether the kernel complained.
 */
#ifndef KFLUX_TEST_HARNESS_H
#define KFLUX_TEST_HARNESS_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct kf_case {
	const char *group;
	const char *title;
	void (*run)(void);
	unsigned int limit_s; /* before --slow */
	struct kf_case *next;
};

struct kf_options {
	unsigned int seconds; /* of the stress; the fuzzers get a part of it */
	unsigned int slow; /* factor of every limit: a debug kernel needs one */
	unsigned int reloads; /* insmod/rmmod rounds */
	uint64_t seed;
	const char *module; /* path of kflux.ko; NULL: the module is there, and the module cases are skipped */
	const char *trace; /* file that gets the kernel's trace of the stress; NULL: none */
	bool verbose;
};

extern struct kf_options kf_opt;

void kf_register(struct kf_case *one);
_Noreturn void kf_fail(const char *file, int line, const char *format, ...) __attribute__((format(printf, 3, 4)));
_Noreturn void kf_skip(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* A line about the case that does not decide it. */
void kf_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Called by kf_fail before the process ends: shows what the pages said at that moment. */
extern void (*kf_dump)(void);

double kf_now(void);
/* How long a condition may take; generous, since no test is about time. */
double kf_patience(void);
void kf_pause(void);
/* How often a race is tried: fewer times where everything is slow. */
unsigned int kf_rounds(unsigned int of);
const char *kf_errname(int error);

#define KF_CAT2(a, b) a##b
#define KF_CAT(a, b) KF_CAT2(a, b)
/* GROUP is defined by each file before it includes this. */
#define CASE_LIMIT(title, limit)                                                                               \
	static void KF_CAT(case_, __LINE__)(void);                                                             \
	static struct kf_case KF_CAT(entry_, __LINE__) = {GROUP, title, KF_CAT(case_, __LINE__), limit, NULL}; \
	__attribute__((constructor)) static void KF_CAT(register_, __LINE__)(void)                             \
	{                                                                                                      \
		kf_register(&KF_CAT(entry_, __LINE__));                                                        \
	}                                                                                                      \
	static void KF_CAT(case_, __LINE__)(void)
#define CASE(title) CASE_LIMIT(title, 40)

#define FAIL(...) kf_fail(__FILE__, __LINE__, __VA_ARGS__)
#define CHECK(condition)                                  \
	do {                                              \
		if (!(condition))                         \
			FAIL("not true: %s", #condition); \
	} while (0)
#define SAME(have, want)                                                                                   \
	do {                                                                                               \
		long long have_ = (long long)(have), want_ = (long long)(want);                            \
		if (have_ != want_)                                                                        \
			FAIL("%s is %lld (%#llx), expected %s = %lld", #have, have_, have_, #want, want_); \
	} while (0)
/* An errno-style result: 0 or a negative errno. */
#define RESULT(call, want)                                                                            \
	do {                                                                                          \
		int have_ = (call), want_ = (want);                                                   \
		if (have_ != want_)                                                                   \
			FAIL("%s gave %s, expected %s", #call, kf_errname(have_), kf_errname(want_)); \
	} while (0)
#define OK(call) RESULT(call, 0)
/* One of several errors, where the contract leaves it open. */
#define RESULT_IN(call, ...)                                                                             \
	do {                                                                                             \
		int have_ = (call);                                                                      \
		const int allowed_[] = {__VA_ARGS__};                                                    \
		bool found_ = false;                                                                     \
		for (size_t i_ = 0; i_ < sizeof(allowed_) / sizeof(allowed_[0]); i_++)                   \
			found_ |= have_ == allowed_[i_];                                                 \
		if (!found_)                                                                             \
			FAIL("%s gave %s, expected one of: %s", #call, kf_errname(have_), #__VA_ARGS__); \
	} while (0)
/* Waits for a condition; the limit is only there so that a failure has a place and a name. */
#define UNTIL(condition)                                                          \
	do {                                                                      \
		double end_ = kf_now() + kf_patience();                           \
		while (!(condition)) {                                            \
			if (kf_now() > end_)                                      \
				FAIL("this did not become true: %s", #condition); \
			kf_pause();                                               \
		}                                                                 \
	} while (0)

/* Seeded and good enough to choose with (xorshift64*). */
struct kf_random {
	uint64_t state;
};
uint32_t kf_below(struct kf_random *random, uint32_t bound);
uint64_t kf_any(struct kf_random *random);

/* The kernel's log, from where it was when opened. */
struct kf_log {
	int fd;
};
void kf_log_open(struct kf_log *log);
/* Whether a new line has this text; reads what there is. */
bool kf_log_has(struct kf_log *log, const char *text);
/* Copies the first complaint of the kernel about itself; true if there is one. */
bool kf_log_complains(struct kf_log *log, char *text, size_t size);
void kf_log_close(struct kf_log *log);

/* What a case has taken offline comes back. */
void kf_all_cpus_online(void);
/* /proc/modules: how many hold the module; -1: not loaded. */
int kf_module_users(void);
int kf_read_text(const char *path, char *text, size_t size);
int kf_write_text(const char *path, const char *text);

#endif

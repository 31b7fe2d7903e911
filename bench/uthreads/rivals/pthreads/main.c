/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads one command a line, "<row> <samples> <ops>", and answers with one line: "ok" and the
 * nanoseconds of each sample, or "no" and why.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "rival.h"

#define SAMPLES_MAX 4096

static const struct row {
	const char *name;
	row_fn run;
} rows[] = {
	{ "floor", row_floor },	      { "clock", row_clock },
	{ "spawn", row_spawn },	      { "yield", row_yield },
	{ "fan", row_fan },	      { "mutex", row_mutex },
	{ "condvar", row_condvar },   { "wake", row_wake },
	{ "semaphore", row_semaphore }, { "baton", row_baton },
	{ "steal", row_steal },	      { "timed", row_timed },
	{ "late", row_late },	      { "sort", row_sort },
};

void give_up(const char *what, int error)
{
	printf("no %s: %s\n", what, strerror(error));
	fflush(stdout);
	exit(1);
}

static void block(row_fn run, uint64_t samples, uint64_t ops)
{
	static uint64_t taken[SAMPLES_MAX];

	for (uint64_t i = 0; i < samples; i++)
		taken[i] = run(ops);
	fputs("ok", stdout);
	for (uint64_t i = 0; i < samples; i++)
		printf(" %" PRIu64, taken[i]);
	putchar('\n');
}

int main(void)
{
	char line[256], name[64];
	uint64_t samples, ops;

	printf("ready gcc %s, glibc %d.%d\n", __VERSION__, __GLIBC__, __GLIBC_MINOR__);
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin) != NULL) {
		row_fn run = NULL;

		if (sscanf(line, "%63s %" SCNu64 " %" SCNu64, name, &samples, &ops) != 3 ||
		    samples < 1 || samples > SAMPLES_MAX || ops < 1) {
			puts("no such command");
			fflush(stdout);
			continue;
		}
		for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
			if (strcmp(rows[i].name, name) == 0)
				run = rows[i].run;
		if (run != NULL)
			block(run, samples, ops);
		else
			puts("no row of that name");
		fflush(stdout);
	}
	return 0;
}

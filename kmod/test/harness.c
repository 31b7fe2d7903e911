// SPDX-License-Identifier: GPL-2.0
/* Runs the cases one after the other and counts them, in TAP. */
#include "harness.h"
#include "holder.h"

#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#define EXIT_SKIP 77
#define EXIT_FAIL 78

struct kf_options kf_opt = {.seconds = 60, .slow = 1, .reloads = 200};
void (*kf_dump)(void);

static struct kf_case *cases, **cases_end = &cases;
/* What a case says about its end; shared with the process that runs it. */
static char *report;
#define REPORT_BYTES 4096

void kf_register(struct kf_case *one)
{
	*cases_end = one;
	cases_end = &one->next;
}

/* One report a case: the first thread that fails writes it, the others wait for the end. */
static void claim_report(void)
{
	static atomic_flag taken = ATOMIC_FLAG_INIT;

	while (atomic_flag_test_and_set(&taken))
		pause();
}

_Noreturn void kf_fail(const char *file, int line, const char *format, ...)
{
	va_list args;
	int n;

	claim_report();
	n = strlen(report);
	if (n > REPORT_BYTES - 512)
		_exit(EXIT_FAIL);
	/* Processes of one case share the report: what was said first stays first. */
	n += snprintf(report + n, REPORT_BYTES - n, "%s%s:%d: ", n ? "\n" : "",
		      strrchr(file, '/') ? strrchr(file, '/') + 1 : file, line);
	va_start(args, format);
	vsnprintf(report + n, REPORT_BYTES - n, format, args);
	va_end(args);
	if (kf_dump)
		kf_dump();
	fflush(NULL);
	_exit(EXIT_FAIL);
}

_Noreturn void kf_skip(const char *format, ...)
{
	va_list args;

	claim_report();
	va_start(args, format);
	vsnprintf(report, REPORT_BYTES, format, args);
	va_end(args);
	fflush(NULL);
	_exit(EXIT_SKIP);
}

void kf_note(const char *format, ...)
{
	char text[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	printf("# %s\n", text);
	fflush(stdout);
}

static void kill_group(pid_t group)
{
	kill(-group, SIGKILL);
	kill(group, SIGKILL);
}

/* Runs one case; how it went is in `report`. */
static int run_case(const struct kf_case *one)
{
	double end = kf_now() + (double)one->limit_s * kf_opt.slow;
	int status = 0;
	pid_t pid;

	report[0] = 0;
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		setpgid(0, 0);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		one->run();
		fflush(NULL);
		_exit(0);
	}
	setpgid(pid, pid);
	for (;;) {
		pid_t done = waitpid(pid, &status, WNOHANG);

		if (done == pid)
			break;
		if (kf_now() > end) {
			kill_group(pid);
			snprintf(report, REPORT_BYTES, "hangs: it had not ended after %u s",
				 one->limit_s * kf_opt.slow);
			for (int i = 0; i < 5000 && waitpid(pid, &status, WNOHANG) != pid; i++)
				kf_pause();
			return EXIT_FAIL;
		}
		kf_pause();
	}
	kill_group(pid); /* What the case has started and left. */
	if (WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == EXIT_SKIP))
		return WEXITSTATUS(status);
	if (!report[0]) {
		if (WIFSIGNALED(status))
			snprintf(report, REPORT_BYTES, "died of signal %d (%s)", WTERMSIG(status),
				 strsignal(WTERMSIG(status)));
		else
			snprintf(report, REPORT_BYTES, "ended with exit code %d", WEXITSTATUS(status));
	}
	return EXIT_FAIL;
}

/* What a case has had must be gone with its processes. */
static bool left_behind(char *text, size_t size)
{
	double end = kf_now() + kf_patience();

	while (kf_module_users() > 0) {
		if (kf_now() > end) {
			snprintf(text, size, "all its processes are gone, and the module still has %d users",
				 kf_module_users());
			return true;
		}
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		kf_pause();
	}
	return false;
}

static void print_indented(const char *text)
{
	for (const char *line = text; *line;) {
		size_t n = strcspn(line, "\n");

		printf("#   %.*s\n", (int)n, line);
		line += n + (line[n] == '\n');
	}
}

static bool wanted(const struct kf_case *one, const char *filter)
{
	char full[256];

	snprintf(full, sizeof(full), "%s: %s", one->group, one->title);
	for (const char *part = filter; part && *part;) {
		size_t n = strcspn(part, "|");
		char want[128];

		snprintf(want, sizeof(want), "%.*s", (int)n, part);
		if (strstr(full, want))
			return true;
		part += n + (part[n] == '|');
	}
	return !filter;
}

static int run_all(const char *filter)
{
	unsigned int number = 0, passed = 0, failed = 0, skipped = 0, total = 0;

	for (const struct kf_case *one = cases; one; one = one->next)
		total += wanted(one, filter);
	if (!total) {
		fprintf(stderr, "no case matches %s; see --list\n", filter);
		return 2;
	}
	printf("TAP version 13\n1..%u\n# seed %#llx, %u s of stress\n", total, (unsigned long long)kf_opt.seed,
	       kf_opt.seconds);
	for (const struct kf_case *one = cases; one; one = one->next) {
		struct kf_log log;
		char wrong[1024] = "";
		double begin = kf_now();
		int how;

		if (!wanted(one, filter))
			continue;
		kf_log_open(&log);
		if (kf_opt.verbose)
			printf("# %s: %s\n", one->group, one->title);
		how = run_case(one);
		kf_all_cpus_online();
		if (left_behind(wrong, sizeof(wrong)) || kf_log_complains(&log, wrong, sizeof(wrong)))
			how = EXIT_FAIL;
		kf_log_close(&log);
		number++;
		if (how == EXIT_SKIP) {
			skipped++;
			printf("ok %u - %s: %s # SKIP %s\n", number, one->group, one->title, report);
		} else if (how == 0) {
			passed++;
			printf("ok %u - %s: %s (%.1f s)\n", number, one->group, one->title, kf_now() - begin);
		} else {
			failed++;
			printf("not ok %u - %s: %s\n", number, one->group, one->title);
			print_indented(report);
			print_indented(wrong);
		}
		fflush(stdout);
	}
	printf("# %u passed, %u failed, %u skipped\n", passed, failed, skipped);
	return failed ? 1 : 0;
}

static const char usage[] =
	"kflux-test [--list] [--filter TEXT[|TEXT]...] [--seconds N] [--slow FACTOR] [--seed N]\n"
	"           [--module PATH] [--reloads N] [--trace FILE] [--verbose]\n"
	"Runs the cases against /dev/kflux, as root; loads the module if --module says where it is.\n";

static unsigned long number_of(const char *text, const char *option)
{
	char *end;
	unsigned long n = text ? strtoul(text, &end, 0) : 0;

	if (!text || *end || !*text) {
		fprintf(stderr, "%s needs a number, not '%s'\n%s", option, text ? text : "", usage);
		exit(2);
	}
	return n;
}

int main(int argc, char **argv)
{
	const char *filter = NULL;
	bool list = false;
	int result;

	kf_opt.seed = (uint64_t)time(NULL) << 20 | (unsigned int)getpid();
	for (int i = 1; i < argc; i++) {
		const char *next = i + 1 < argc ? argv[i + 1] : NULL;

		if (!strcmp(argv[i], "--list")) {
			list = true;
			continue;
		} else if (!strcmp(argv[i], "--verbose")) {
			kf_opt.verbose = true;
			continue;
		} else if (!strcmp(argv[i], "--filter"))
			filter = next;
		else if (!strcmp(argv[i], "--seconds"))
			kf_opt.seconds = number_of(next, argv[i]);
		else if (!strcmp(argv[i], "--slow"))
			kf_opt.slow = number_of(next, argv[i]) ?: 1;
		else if (!strcmp(argv[i], "--seed"))
			kf_opt.seed = number_of(next, argv[i]) ?: 1;
		else if (!strcmp(argv[i], "--reloads"))
			kf_opt.reloads = number_of(next, argv[i]);
		else if (!strcmp(argv[i], "--module"))
			kf_opt.module = next;
		else if (!strcmp(argv[i], "--trace"))
			kf_opt.trace = next;
		else {
			fprintf(stderr, "unknown argument %s\n%s", argv[i], usage);
			return 2;
		}
		i++;
	}
	if (list) {
		for (const struct kf_case *one = cases; one; one = one->next)
			printf("%s: %s\n", one->group, one->title);
		return 0;
	}
	/* Orphans of a case come here, so that they can be waited for. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	report = mmap(NULL, REPORT_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	setvbuf(stdout, NULL, _IOLBF, 0);
	result = kf_prepare();
	if (!result)
		result = run_all(filter);
	kf_finish();
	return result;
}

// SPDX-License-Identifier: GPL-2.0
/* The kernel's trace of kFlux, for the checker of the trace (test/lab-suite/trace). */
#include "trace.h"
#include "harness.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define TRACEFS "/sys/kernel/tracing/"
#define BUFFER_KB "16384" /* for each CPU */
/* Of the 300,000 events or so that fit: those that wait for their reader when no more are to be made. */
#define ENOUGH 100000

static pid_t copier;
static atomic_bool *stopping;

/* Sum of some of a CPU's figures. */
static unsigned long figures(unsigned int cpu, const char *const *names, size_t count)
{
	char path[96], text[1024], *at;
	unsigned long sum = 0;

	snprintf(path, sizeof(path), TRACEFS "per_cpu/cpu%u/stats", cpu);
	if (kf_read_text(path, text, sizeof(text)))
		return 0;
	for (size_t i = 0; i < count; i++) {
		at = strstr(text, names[i]);
		if (at)
			sum += strtoul(at + strlen(names[i]), NULL, 10);
	}
	return sum;
}

static unsigned long lost_on(unsigned int cpu)
{
	static const char *const names[] = {"\noverrun: ", "\ncommit overrun: ", "dropped events: "};

	return figures(cpu, names, 3);
}

static bool behind(void)
{
	static const char *const names[] = {"entries: "};

	for (unsigned int cpu = 0; cpu < (unsigned int)sysconf(_SC_NPROCESSORS_CONF); cpu++)
		if (figures(cpu, names, 1) > ENOUGH)
			return true;
	return false;
}

void trace_wait(const atomic_bool *stop)
{
	if (copier <= 0)
		return;
	while (!atomic_load(stop) && behind())
		usleep(10000);
}

static bool write_all(int fd, const char *text, size_t bytes)
{
	while (bytes) {
		ssize_t n = write(fd, text, bytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		text += n;
		bytes -= n;
	}
	return true;
}

/* Copies until it is told to stop and the buffer is empty. */
static _Noreturn void copy(int from, int to, pid_t parent)
{
	static char text[1 << 16];
	unsigned long lost = 0, bytes = 0;
	int empty = 0;

	for (;;) {
		ssize_t n = read(from, text, sizeof(text));

		if (n > 0) {
			bytes += n;
			empty = 0;
			if (!write_all(to, text, n))
				_exit(1);
		} else {
			struct pollfd wait = {.fd = from, .events = POLLIN};

			if (getppid() != parent && !atomic_exchange(stopping, true))
				kf_write_text(TRACEFS "tracing_on", "0"); /* The case failed. */
			if (atomic_load(stopping) && ++empty > 20)
				break;
			poll(&wait, 1, 20);
		}
	}
	for (unsigned int cpu = 0; cpu < (unsigned int)sysconf(_SC_NPROCESSORS_CONF); cpu++)
		lost += lost_on(cpu);
	int length = snprintf(text, sizeof(text), "# trace ended: %lu lost\n", lost);
	_exit(write_all(to, text, length) ? 0 : 1);
}

int trace_start(const char *target)
{
	int from, to, result;

	stopping = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	kf_write_text(TRACEFS "tracing_on", "0");
	kf_write_text(TRACEFS "events/enable", "0");
	/* A counter instead of a clock: it is one order for all CPUs, without ties. */
	result = kf_write_text(TRACEFS "trace_clock", "counter");
	if (!result)
		result = kf_write_text(TRACEFS "buffer_size_kb", BUFFER_KB);
	if (!result)
		result = kf_write_text(TRACEFS "events/kflux/enable", "1");
	if (result)
		return result;
	/* Opening for writing with O_TRUNC empties the buffer. */
	close(open(TRACEFS "trace", O_WRONLY | O_TRUNC | O_CLOEXEC));
	from = open(TRACEFS "trace_pipe", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	to = strncmp(target, "fd:", 3) ? open(target, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)
				       : dup(atoi(target + 3));
	if (from < 0 || to < 0)
		return -errno;
	pid_t parent = getpid();

	copier = fork();
	if (copier == 0) {
		setpgid(0, 0);
		signal(SIGINT, SIG_IGN);
		copy(from, to, parent);
	}
	close(from);
	close(to);
	return kf_write_text(TRACEFS "tracing_on", "1");
}

void trace_stop(void)
{
	int status;

	if (copier <= 0)
		return;
	kf_write_text(TRACEFS "tracing_on", "0");
	atomic_store(stopping, true);
	waitpid(copier, &status, 0);
	copier = 0;
	kf_write_text(TRACEFS "events/kflux/enable", "0");
	kf_write_text(TRACEFS "trace_clock", "local");
	kf_write_text(TRACEFS "buffer_size_kb", "64");
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		FAIL("the trace could not be written: nobody reads it, or the disk is full");
}

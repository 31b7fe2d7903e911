// SPDX-License-Identifier: GPL-2.0
/* What cases need of time, chance, files and the kernel's log. */
#include "harness.h"

#include <fcntl.h>
#include <time.h>

double kf_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

double kf_patience(void)
{
	return 15.0 * kf_opt.slow;
}

void kf_pause(void)
{
	struct timespec pause = {.tv_nsec = 200000};

	nanosleep(&pause, NULL);
}

unsigned int kf_rounds(unsigned int of)
{
	return of / kf_opt.slow + 1;
}

const char *kf_errname(int error)
{
	/* Two may be named in one sentence. */
	static _Thread_local char texts[4][64];
	static _Thread_local unsigned int next;
	char *text = texts[next++ % 4];
	const char *name = error < 0 ? strerrorname_np(-error) : NULL;

	if (name)
		snprintf(text, sizeof(texts[0]), "-%s", name);
	else
		snprintf(text, sizeof(texts[0]), "%d", error);
	return text;
}

uint64_t kf_any(struct kf_random *random)
{
	random->state ^= random->state >> 12;
	random->state ^= random->state << 25;
	random->state ^= random->state >> 27;
	return random->state * 0x2545f4914f6cdd1dULL;
}

uint32_t kf_below(struct kf_random *random, uint32_t bound)
{
	return (uint32_t)(kf_any(random) >> 33) % bound;
}

int kf_read_text(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, size - 1);
	int error = errno;

	if (fd >= 0)
		close(fd);
	if (n < 0)
		return -error;
	while (n > 0 && text[n - 1] == '\n')
		n--;
	text[n] = 0;
	return 0;
}

int kf_write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int error = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		error = -errno;
	close(fd);
	return error;
}

int kf_module_users(void)
{
	char name[64];
	int users = -1, n;
	FILE *file = fopen("/proc/modules", "re");

	while (file && fscanf(file, "%63s %*u %d%*[^\n]", name, &n) == 2)
		if (!strcmp(name, "kflux"))
			users = n;
	if (file)
		fclose(file);
	return users;
}

void kf_log_open(struct kf_log *log)
{
	log->fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (log->fd >= 0)
		lseek(log->fd, 0, SEEK_END);
}

/* One line of the log at a read; false at its end. EPIPE: lines were overwritten, the next read goes on. */
static bool next_line(struct kf_log *log, char *line, size_t size)
{
	ssize_t n;

	do
		n = log->fd < 0 ? -1 : read(log->fd, line, size - 1);
	while (n < 0 && (errno == EPIPE || errno == EINTR) && log->fd >= 0);
	if (n <= 0)
		return false;
	line[n] = 0;
	return true;
}

bool kf_log_has(struct kf_log *log, const char *text)
{
	char line[8192];
	bool found = false;

	while (next_line(log, line, sizeof(line)))
		found |= strstr(line, text) != NULL;
	return found;
}

void kf_log_close(struct kf_log *log)
{
	if (log->fd >= 0)
		close(log->fd);
}

/* What the kernel says when something is wrong inside it. */
static const char *const complaints[] = {
	"BUG:",
	"WARNING:",
	"Oops",
	"general protection fault",
	"KASAN",
	"UBSAN",
	"possible circular",
	"inconsistent lock",
	"suspicious RCU",
	"soft lockup",
	"hard LOCKUP",
	"rcu_sched detected",
	"rcu_preempt detected",
	"blocked for more than",
	"scheduling while atomic",
	"sleeping function called",
	"refcount_t:",
	"list_add corruption",
	"list_del corruption",
	"unable to handle",
	"Kernel panic",
	"stack guard page",
	"ODEBUG:",
	"DEBUG_LOCKS_WARN_ON",
	"workqueue lockup",
};

/* Copies the first complaint since the log was opened; true if there is one. */
bool kf_log_complains(struct kf_log *log, char *text, size_t size)
{
	char line[8192];
	bool found = false;

	while (next_line(log, line, sizeof(line)))
		for (size_t i = 0; i < sizeof(complaints) / sizeof(complaints[0]) && !found; i++)
			if (strstr(line, complaints[i]) && !strstr(line, "traps: ")) { /* which are programs' */
				const char *body = strchr(line, ';');

				snprintf(text, size, "the kernel says: %.300s", body ? body + 1 : line);
				found = true;
			}
	return found;
}

void kf_all_cpus_online(void)
{
	char present[256], online[256], path[96];

	if (kf_read_text("/sys/devices/system/cpu/present", present, sizeof(present)) ||
	    kf_read_text("/sys/devices/system/cpu/online", online, sizeof(online)) || !strcmp(present, online))
		return;
	for (long cpu = 1; cpu < sysconf(_SC_NPROCESSORS_CONF); cpu++) {
		snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%ld/online", cpu);
		kf_write_text(path, "1");
	}
}

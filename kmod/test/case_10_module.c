// SPDX-License-Identifier: GPL-2.0
/* Loading and unloading. These need to know where the module's file is. */
#define GROUP "module"
#include "holder.h"
#include "world.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

static const char *path_of_module(void)
{
	if (!kf_opt.module)
		kf_skip("no --module");
	return kf_opt.module;
}

/* kB of MemAvailable. */
static long available(void)
{
	char text[4096], *at;

	if (kf_read_text("/proc/meminfo", text, sizeof(text)))
		return 0;
	at = strstr(text, "MemAvailable:");
	return at ? strtol(at + 13, NULL, 10) : 0;
}

/* Loads it again whatever happens: the cases after this one need it. */
static void unload(void)
{
	double end = kf_now() + kf_patience();
	int result;

	while ((result = kf_unload_module()) != 0) {
		if ((result != -EBUSY && result != -EAGAIN && result != -EWOULDBLOCK) || kf_now() > end)
			FAIL("rmmod: %s, %d users", kf_errname(result), kf_module_users());
		kf_pause();
	}
}

static void load(const char *path)
{
	int result = kf_load_module(path);

	if (result)
		FAIL("insmod: %s", kf_errname(result));
	for (int i = 0; i < 20000 && access("/dev/kflux", F_OK); i++)
		kf_pause();
}

CASE("an idle module has no users; open files, VMs, maps and vCPUs count")
{
	SAME(kf_module_users(), 0);
	int fd = kf_opened();
	CHECK(kf_module_users() > 0);
	close(fd);
	UNTIL(kf_module_users() == 0);
	struct domain *domain = domain_new(MASK_AB);
	close(domain->fd);
	CHECK(kf_module_users() > 0); /* the maps */
	(void)domain->status->magic;
}

CASE("rmmod while busy is refused: a file, a lease, a VM, a parked thread")
{
	path_of_module();
	struct domain *domain = domain_new(MASK_AB);

	RESULT_IN(kf_unload_module(), -EBUSY, -EAGAIN);
	struct vm *vm = vm_with_workers(domain, 0, 2);
	OK(grant(domain, CORE_A, handle(0, 0)));
	RESULT_IN(kf_unload_module(), -EBUSY, -EAGAIN);
	domain_close(domain);
	RESULT_IN(kf_unload_module(), -EBUSY, -EAGAIN);
	OK(kf_ioctl(vm->fd, FLUX_KF_END, NULL));
	worker_join(vm->worker[0]);
	worker_join(vm->worker[1]);
	RESULT_IN(kf_unload_module(), -EBUSY, -EAGAIN);
	vm_close(vm);
	UNTIL(kf_module_users() == 0);
}

CASE("a thread that is still a vCPU holds the module, even without a descriptor")
{
	path_of_module();
	int status, pipes[2];

	CHECK(pipe(pipes) == 0);
	/* The child execs after it has registered: the file is gone, the thread's notifier is not. */
	pid_t pid = fork();
	if (pid == 0) {
		struct domain *domain = domain_new(MASK_AB);
		struct vm *vm = vm_new(domain, 0, 1);

		OK(vm_register(vm, 0, 0));
		if (write(pipes[1], "x", 1) != 1)
			_exit(1);
		execl("/bin/sh", "sh", "-c", "sleep 1", NULL);
		_exit(0);
	}
	char byte;
	SAME(read(pipes[0], &byte, 1), 1);
	/* Either it is refused until the thread ends, or it works: never a crash when that thread is switched. */
	for (int i = 0; i < 100; i++) {
		int result = kf_unload_module();

		RESULT_IN(result, 0, -EBUSY, -EAGAIN, -ENOENT);
		if (result == 0)
			break;
		usleep(10000);
	}
	waitpid(pid, &status, 0);
	if (kf_module_users() < 0)
		load(kf_opt.module);
}

/* A little of everything, then gone; killed now and then in the middle of it. */
static void use(unsigned int i)
{
	pid_t pid = fork();

	if (pid) {
		int status;

		if (i % 3 == 0) {
			usleep(i % 7 * 500);
			kill(pid, SIGKILL);
		}
		waitpid(pid, &status, 0);
		if (i % 3 && status)
			_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
		return;
	}
	struct domain *domain = domain_new(MASK_AB);
	vm_with_workers(domain, 0, 2);
	OK(grant(domain, CORE_A, handle(0, 0)));
	until_running(domain, handle(0, 0), CORE_A);
	OK(move(domain, CORE_A, handle(0, 0), handle(0, 1)));
	until_running(domain, handle(0, 1), CORE_A);
	_exit(0);
}

CASE_LIMIT("insmod and rmmod under load, over and over: nothing leaks", 900)
{
	const char *path = path_of_module();
	long before = 0, after;
	pid_t load_pid[2];

	/* Load: processes that are switched all the time, and that try to get the device open. */
	for (int i = 0; i < 2; i++) {
		load_pid[i] = fork();
		if (load_pid[i] == 0)
			for (;;) {
				int fd = open("/dev/kflux", O_RDWR);

				if (fd >= 0) {
					kf_hello(fd);
					close(fd);
				}
				usleep(200);
			}
	}
	for (unsigned int i = 0; i < kf_opt.reloads; i++) {
		unload();
		load(path);
		use(i);
		if (i == kf_opt.reloads / 10)
			before = available();
		if (i % 50 == 49)
			kf_note("%u of %u", i + 1, kf_opt.reloads);
	}
	for (int i = 0; i < 2; i++) {
		kill(load_pid[i], SIGKILL);
		waitpid(load_pid[i], NULL, 0);
	}
	UNTIL(kf_module_users() == 0);
	after = available();
	kf_note("MemAvailable %ld kB after a tenth of the rounds, %ld kB at the end", before, after);
	/* A domain alone has four MiB of pages: 180 lost ones would be seen. */
	if (before && after < before - 100 * 1024)
		FAIL("%ld kB are gone", before - after);
}

/* An emulated machine takes minutes for a scan of all its memory. */
CASE_LIMIT("kmemleak finds nothing of kflux, where the kernel has it", 300)
{
	char text[65536] = "";
	int result = kf_write_text("/sys/kernel/debug/kmemleak", "scan");

	if (result)
		kf_skip("no kmemleak: %s", strerror(-result));
	sleep(6); /* What is younger than five seconds is not reported. */
	OK(kf_write_text("/sys/kernel/debug/kmemleak", "scan"));
	OK(kf_read_text("/sys/kernel/debug/kmemleak", text, sizeof(text)));
	char *at = strstr(text, "kflux");
	if (at)
		FAIL("%.2000s", text);
}

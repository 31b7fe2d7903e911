// SPDX-License-Identifier: GPL-2.0
/* What is done once, before the first case and after the last. */
#include "holder.h"
#include "harness.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static pid_t kvm_holder;

int kf_load_module(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int result;

	if (fd < 0)
		return -errno;
	/* Generations and request numbers begin near their wrap: whoever compares them wrongly is found out. */
	result = syscall(SYS_finit_module, fd, "first_generation=4294967200 first_park_req=4294967200", 0) ? -errno : 0;
	close(fd);
	return result;
}

int kf_unload_module(void)
{
	return syscall(SYS_delete_module, "kflux", O_NONBLOCK) ? -errno : 0;
}

/*
 * A VM that lives as long as the run: the kernel patches itself when the first VM of a
 * machine comes and when the last one goes, which emulated machines do not bear well in
 * quick succession.
 */
static void hold_kvm(void)
{
	int kvm, vm;

	kvm_holder = fork();
	if (kvm_holder)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0);
	if (vm >= 0)
		ioctl(vm, KVM_CREATE_VCPU, 0);
	for (;;)
		pause();
}

static void mount_if_missing(const char *type, const char *where, const char *witness)
{
	if (access(witness, F_OK) == 0)
		return;
	mkdir(where, 0755);
	if (mount(type, where, type, 0, NULL))
		kf_note("%s cannot be mounted at %s: %s", type, where, strerror(errno));
}

int kf_prepare(void)
{
	if (geteuid() != 0) {
		fprintf(stderr, "kflux-test needs root: it claims cores, loads modules and drops privileges\n");
		return 2;
	}
	mount_if_missing("debugfs", "/sys/kernel/debug", "/sys/kernel/debug/tracing");
	mount_if_missing("tracefs", "/sys/kernel/tracing", "/sys/kernel/tracing/trace");
	/* Loaded by us, with our parameters. */
	if (kf_opt.module && kf_module_users() == 0)
		kf_unload_module();
	if (kf_module_users() < 0 && kf_opt.module) {
		int result = kf_load_module(kf_opt.module);

		if (result) {
			fprintf(stderr, "%s does not load: %s; see dmesg\n", kf_opt.module, strerror(-result));
			return 1;
		}
	}
	for (int i = 0; i < 1000 && access("/dev/kflux", F_OK); i++)
		kf_pause();
	if (access("/dev/kflux", F_OK)) {
		fprintf(stderr, "/dev/kflux is not there: load kflux.ko, or say where it is with --module\n");
		return 1;
	}
	hold_kvm();
	return 0;
}

void kf_finish(void)
{
	double end = kf_now() + 20;

	if (kvm_holder > 0)
		kill(kvm_holder, SIGKILL);
	/* What a failed case has left behind may still have something to write. */
	while (waitpid(-1, NULL, WNOHANG) >= 0 && kf_now() < end)
		kf_pause();
}

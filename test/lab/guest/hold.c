// SPDX-License-Identifier: Apache-2.0
/*
 * Makes one VM with one vCPU and keeps it until the machine ends: see start. It returns when the VM is there.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static int fail(const char *what)
{
	fprintf(stderr, "hold: %s: %s\n", what, strerror(errno));
	return 1;
}

static int make_vm(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0)
		return fail("/dev/kvm");
	int vm = ioctl(kvm, KVM_CREATE_VM, 0);
	if (vm < 0)
		return fail("KVM_CREATE_VM");
	if (ioctl(vm, KVM_CREATE_VCPU, 0) < 0)
		return fail("KVM_CREATE_VCPU");
	return 0;
}

int main(void)
{
	int ready[2];
	char byte = 0;
	if (pipe(ready) < 0)
		return fail("pipe");
	/* The VM is the child's: a VM must not outlive the memory of the process that made it. */
	pid_t child = fork();
	if (child < 0)
		return fail("fork");
	if (child > 0) {
		close(ready[1]);
		return read(ready[0], &byte, 1) == 1 ? 0 : 1;
	}
	setsid();
	if (make_vm() != 0 || write(ready[1], &byte, 1) != 1)
		return 1;
	for (;;)
		pause();
}

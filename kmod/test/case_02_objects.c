// SPDX-License-Identifier: GPL-2.0
/* VM_CREATE, REGISTER, PARK and RUN: numbers out of range, objects of others, descriptors that are none. */
#define GROUP "arguments"
#include "world.h"

#include <fcntl.h>

CASE("VM_CREATE: slots, counts, flags, a slot that is taken")
{
	struct domain *domain = domain_new(MASK_AB);
	struct flux_kf_vm flags = {.slot = 1, .vcpus = 1, .flags = 1};
	int fd, again;

	RESULT(vm_create(domain, FLUX_MAX_VMS, 1, &fd), -EINVAL);
	RESULT(vm_create(domain, 0xffffffff, 1, &fd), -EINVAL);
	RESULT(vm_create(domain, 0, 0, &fd), -EINVAL);
	RESULT(vm_create(domain, 0, FLUX_MAX_VCPUS + 1, &fd), -EINVAL);
	RESULT(vm_create(domain, 0, 0xffffffff, &fd), -EINVAL);
	RESULT(kf_ioctl(domain->fd, FLUX_KF_VM_CREATE, &flags), -EINVAL);
	OK(vm_create(domain, FLUX_MAX_VMS - 1, FLUX_MAX_VCPUS, &fd));
	SAME(domain->status->vms, 1);
	RESULT(vm_create(domain, FLUX_MAX_VMS - 1, 1, &again), -EEXIST);
	close(fd);
	UNTIL(domain->status->vms == 0);
	OK(vm_create(domain, FLUX_MAX_VMS - 1, 1, &again));
}

CASE("all 1024 slots can be taken, and come back")
{
	struct domain *domain = domain_new(MASK_AB);
	static int fds[FLUX_MAX_VMS];

	for (uint32_t i = 0; i < FLUX_MAX_VMS; i++) {
		int result = vm_create(domain, i, FLUX_MAX_VCPUS, &fds[i]);

		if (result == -EMFILE) {
			struct vm *vm = vm_on(fds[i - 1], i - 1, 1);

			OK(vm_register(vm, 0, 0));
			vm_close(vm);
			for (uint32_t j = 0; j < i - 1; j++)
				close(fds[j]);
			UNTIL(domain->status->vms == 0);
			return;
		}
		OK(result);
	}
	SAME(domain->status->vms, FLUX_MAX_VMS);
}

CASE("REGISTER: bad numbers, flags, pointers and KVM descriptors")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_new(domain, 0, 2);
	int pipes[2];
	struct flux_kf_register one = {.vcpu = 0, .kvm_fd = 0xffffffff};

	CHECK(pipe(pipes) == 0);
#define WITH(member, value, ...)                                                  \
	do {                                                                      \
		struct flux_kf_register bad = one;                                \
		bad.member = value;                                               \
		RESULT_IN(kf_ioctl(vm->fd, FLUX_KF_REGISTER, &bad), __VA_ARGS__); \
	} while (0)
	WITH(vcpu, 2, -EINVAL, -ESRCH);
	WITH(vcpu, FLUX_MAX_VCPUS, -EINVAL, -ESRCH);
	WITH(vcpu, 0xffffffff, -EINVAL, -ESRCH);
	WITH(flags, 2, -EINVAL);
	WITH(reserved, 1, -EINVAL);
	WITH(critical, 0xffff888000000000, -EFAULT, -EINVAL);
	WITH(critical, 0xffffffff81000000, -EFAULT, -EINVAL);
	WITH(critical, 0x1001, -EFAULT, -EINVAL); /* not aligned */
	WITH(held_hint, 0xffff888000000000, -EFAULT, -EINVAL);
	WITH(kvm_fd, 1000, -EBADF, -EINVAL);
	WITH(kvm_fd, pipes[0], -EBADF, -EINVAL);
	WITH(kvm_fd, vm->fd, -EBADF, -EINVAL);
	WITH(kvm_fd, domain->fd, -EBADF, -EINVAL);
	WITH(kvm_fd, 0xfffffffe, -EBADF, -EINVAL);
	SAME(state_of(domain, handle(0, 0)), FLUX_VCPU_NEW);
	int kvm = open("/dev/kvm", O_RDWR);
	if (kvm >= 0) {
		int machine = ioctl(kvm, 0xae01 /* KVM_CREATE_VM */, 0);

		WITH(kvm_fd, kvm, -EBADF, -EINVAL);
		WITH(kvm_fd, machine, -EBADF, -EINVAL);
	}
	OK(kf_ioctl(vm->fd, FLUX_KF_REGISTER, &one));
	RESULT(kf_ioctl(vm->fd, FLUX_KF_REGISTER, &one), -EEXIST);
	/* One thread is one vCPU. */
	one.vcpu = 1;
	RESULT_IN(kf_ioctl(vm->fd, FLUX_KF_REGISTER, &one), -EEXIST, -EBUSY, -EPERM, -EINVAL);
}

struct stranger {
	struct vm *vm;
	int registered, parked, ran, unregistered;
};

static void *strange(void *arg)
{
	struct stranger *s = arg;
	struct flux_kf_turn turn;

	s->registered = vm_register(s->vm, 0, 0);
	s->parked = vm_park(s->vm, 0, FLUX_HOW_ENTRY, &turn);
	s->ran = vm_run(s->vm, 0, &turn);
	s->unregistered = vm_unregister(s->vm, 0);
	return NULL;
}

CASE("a vCPU belongs to the thread that registered it")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_new(domain, 0, 2);
	struct stranger s = {.vm = vm};
	struct flux_kf_turn turn;
	pthread_t thread;

	OK(vm_register(vm, 0, 0));
	pthread_create(&thread, NULL, strange, &s);
	pthread_join(thread, NULL);
	RESULT(s.registered, -EEXIST);
	RESULT(s.parked, -EPERM);
	RESULT(s.ran, -EPERM);
	RESULT(s.unregistered, -EPERM);
	/* And this thread is not vCPU 1. */
	RESULT_IN(vm_park(vm, 1, FLUX_HOW_ENTRY, &turn), -EPERM, -ESRCH);
	RESULT_IN(vm_run(vm, 1, &turn), -EPERM, -ESRCH);
	RESULT_IN(vm_unregister(vm, 1), -EPERM, -ESRCH);
	SAME(state_of(domain, handle(0, 0)), FLUX_VCPU_PARKED);
	OK(vm_unregister(vm, 0));
	SAME(state_of(domain, handle(0, 0)), FLUX_VCPU_DEAD);
	RESULT_IN(vm_park(vm, 0, FLUX_HOW_ENTRY, &turn), -EPERM, -ESRCH);
}

CASE("PARK and RUN: numbers, hows, and RUN without a KVM descriptor")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_new(domain, 0, 1);
	struct flux_kf_turn turn;
	static const uint32_t hows[] = {0, FLUX_HOW_LENT, FLUX_HOW_TAKEN, 8, 0xffffffff};

	OK(vm_register(vm, 0, 0));
	RESULT_IN(vm_park(vm, 1, FLUX_HOW_ENTRY, &turn), -EINVAL, -ESRCH);
	RESULT_IN(vm_park(vm, 0xffffffff, FLUX_HOW_ENTRY, &turn), -EINVAL, -ESRCH);
	RESULT_IN(vm_run(vm, 0x10000, &turn), -EINVAL, -ESRCH);
	for (size_t i = 0; i < sizeof(hows) / sizeof(hows[0]); i++)
		RESULT(vm_park(vm, 0, hows[i], &turn), -EINVAL);
	RESULT_IN(vm_run(vm, 0, &turn), -EINVAL, -EBADF);
}

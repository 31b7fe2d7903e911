// SPDX-License-Identifier: GPL-2.0
/* Pointers that are none, answers that cannot be written, descriptors that go away. */
#define GROUP "arguments"
#include "ioctls.h"

CASE("pointers: null, unmapped, the kernel's, at a page's end, read-only")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_new(domain, 0, 2);
	char *pages = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	munmap(pages + 4096, 4096);
	OK(vm_register(vm, 0, 0));
	for (size_t i = 0; i < IOCTLS; i++) {
		const struct one_ioctl *one = &all_ioctls[i];
		int fd = one->target == VM ? vm->fd : domain->fd;
		void *const bad[] = {NULL,
				     pages + 4096,
				     (void *)0xffff888000000000,
				     (void *)0xffffffff81000000,
				     (void *)0x00007fffffffffff,
				     (void *)0xfffffffffffffff0,
				     (void *)0x8000000000000000,
				     pages + 4096 - one->bytes + 4};

		for (size_t k = 0; one->bytes && k < sizeof(bad) / sizeof(bad[0]); k++) {
			int result = kf_ioctl(fd, one->request, bad[k]);

			if (result != -EFAULT)
				FAIL("%s with a pointer %p: %s, not EFAULT", one->name, bad[k], kf_errname(result));
		}
	}
	/* The batch itself. */
	struct flux_kf_command *end = (void *)(pages + 4096 - sizeof(struct flux_kf_command));
	*end = (struct flux_kf_command){.op = FLUX_OP_HEIR, .core = CORE_A};
	RESULT(submit(domain, NULL, 1, NULL), -EFAULT);
	RESULT(submit(domain, (void *)0xffff888000000000, 1, NULL), -EFAULT);
	RESULT(submit(domain, (void *)0xffffffffffffffc0, 4, NULL), -EFAULT);
	RESULT(submit(domain, end, 2, NULL), -EFAULT);
	OK(submit(domain, end, 1, NULL));
	/* An answer that cannot be written. */
	struct flux_kf_hello *hello = (void *)pages;
	*hello = (struct flux_kf_hello){.abi_major = FLUX_ABI_MAJOR};
	mprotect(pages, 4096, PROT_READ);
	RESULT(kf_ioctl(domain->fd, FLUX_KF_HELLO, hello), -EFAULT);
	RESULT(submit(domain, end, 1, NULL), -EFAULT);
}

CASE("VM_CREATE whose answer cannot be written leaves no VM and no descriptor")
{
	struct domain *domain = domain_new(MASK_AB);
	struct flux_kf_vm *vm = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int before = dup(0), after;

	close(before);
	*vm = (struct flux_kf_vm){.slot = 4, .vcpus = 1};
	mprotect(vm, 4096, PROT_READ);
	RESULT(kf_ioctl(domain->fd, FLUX_KF_VM_CREATE, vm), -EFAULT);
	after = dup(0);
	close(after);
	SAME(after, before);
	UNTIL(domain->status->vms == 0);
	OK(vm_create(domain, 4, 1, &after));
}

CASE("JOIN whose answer cannot be written: the file can still join")
{
	struct flux_kf_join *join = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = kf_opened();
	uint32_t id = 0;

	mprotect(join, 4096, PROT_READ);
	RESULT(kf_ioctl(fd, FLUX_KF_JOIN, join), -EFAULT);
	RESULT_IN(kf_join(fd, &id, 0), 0, -EBUSY, -EEXIST, -EINVAL);
}

CASE("VM: MANAGE without a lease is ESTALE, END twice is fine")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_new(domain, 0, 1);

	OK(kf_ioctl(domain->fd, FLUX_KF_RELEASE, NULL));
	RESULT(kf_ioctl(vm->fd, FLUX_KF_MANAGE, NULL), -ESTALE);
	OK(kf_ioctl(vm->fd, FLUX_KF_END, NULL));
	RESULT_IN(kf_ioctl(vm->fd, FLUX_KF_END, NULL), 0, -ESRCH);
	RESULT_IN(vm_register(vm, 0, 0), -ESRCH);
	RESULT_IN(kf_ioctl(vm->fd, FLUX_KF_MANAGE, NULL), -ESRCH, -ESTALE);
}

struct closer {
	_Atomic int fd, vm;
	atomic_bool stop;
};

static void *hammer(void *arg)
{
	struct closer *c = arg;
	struct kf_random random = {0x9e3779b97f4a7c15ULL ^ (uintptr_t)&random};

	while (!atomic_load(&c->stop)) {
		uint64_t space[8] = {0};
		const struct one_ioctl *one = &all_ioctls[kf_below(&random, IOCTLS)];

		if (one->request == FLUX_KF_PARK)
			continue; /* It would sleep until somebody grants. */
		kf_ioctl(one->target == VM ? atomic_load(&c->vm) : atomic_load(&c->fd), one->request, space);
	}
	return NULL;
}

CASE("ioctls while another thread closes the descriptor")
{
	struct closer c = {.fd = -1, .vm = -1};
	pthread_t threads[3];

	for (int i = 0; i < 3; i++)
		pthread_create(&threads[i], NULL, hammer, &c);
	for (int i = 0; i < 300; i++) {
		int fd = kf_opened();
		uint32_t id = 0;
		struct flux_kf_vm vm = {.slot = 1, .vcpus = 2};

		kf_join(fd, &id, 0);
		kf_claim(fd, MASK_AB, 1000, 0, NULL);
		if (kf_ioctl(fd, FLUX_KF_VM_CREATE, &vm) == 0) {
			atomic_store(&c.vm, (int)vm.fd);
			kf_hello(vm.fd);
		}
		atomic_store(&c.fd, fd);
		sched_yield();
		close(fd);
		if (atomic_load(&c.vm) >= 0)
			close(atomic_exchange(&c.vm, -1));
	}
	atomic_store(&c.stop, true);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
}

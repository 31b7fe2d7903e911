// SPDX-License-Identifier: GPL-2.0
/* Versions, numbers, and what a descriptor may do before it has said HELLO. */
#define GROUP "abi"
#include "ioctls.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>

CASE("the ioctl numbers are those of _IOWR(0xb5, ...)")
{
	SAME(FLUX_KF_HELLO, _IOWR(0xb5, 0x01, struct flux_kf_hello));
	for (size_t i = 0; i < IOCTLS; i++) {
		SAME(_IOC_TYPE(all_ioctls[i].request), 0xb5);
		SAME(_IOC_SIZE(all_ioctls[i].request), all_ioctls[i].bytes);
		SAME(_IOC_DIR(all_ioctls[i].request), all_ioctls[i].bytes ? _IOC_READ | _IOC_WRITE : _IOC_NONE);
	}
}

CASE("sysfs tells the ABI and the version, HELLO the same")
{
	struct flux_kf_hello hello = {.abi_major = FLUX_ABI_MAJOR, .abi_minor = FLUX_ABI_MINOR};
	char abi[64], version[64], want[64];

	OK(kf_ioctl(kf_open(), FLUX_KF_HELLO, &hello));
	SAME(hello.abi_major, FLUX_ABI_MAJOR);
	SAME(hello.abi_minor, FLUX_ABI_MINOR);
	CHECK(memchr(hello.version, 0, sizeof(hello.version)));
	OK(kf_read_text("/sys/class/misc/kflux/abi", abi, sizeof(abi)));
	OK(kf_read_text("/sys/class/misc/kflux/version", version, sizeof(version)));
	snprintf(want, sizeof(want), "%u.%u", hello.abi_major, hello.abi_minor);
	CHECK(!strcmp(abi, want));
	CHECK(*version && !strcmp(version, hello.version));
}

CASE("another major is refused, and both versions are known afterwards")
{
	static const uint32_t majors[] = {0, FLUX_ABI_MAJOR + 1, 0xffffffff};

	for (size_t i = 0; i < 3; i++) {
		struct flux_kf_hello hello = {.abi_major = majors[i], .abi_minor = 9};
		int fd = kf_open();
		uint32_t id = 0;

		RESULT(kf_ioctl(fd, FLUX_KF_HELLO, &hello), -EPROTO);
		SAME(hello.abi_major, FLUX_ABI_MAJOR);
		SAME(hello.abi_minor, FLUX_ABI_MINOR);
		CHECK(hello.version[0] && memchr(hello.version, 0, sizeof(hello.version)));
		RESULT(kf_join(fd, &id, FLUX_KF_JOIN_VIEW), -EPROTO);
		/* It may say it again, rightly. */
		OK(kf_hello(fd));
		close(fd);
	}
}

CASE("a newer minor only adds: it is welcome")
{
	struct flux_kf_hello hello = {.abi_major = FLUX_ABI_MAJOR, .abi_minor = FLUX_ABI_MINOR + 5};

	OK(kf_ioctl(kf_open(), FLUX_KF_HELLO, &hello));
	SAME(hello.abi_minor, FLUX_ABI_MINOR);
}

CASE("HELLO can be repeated")
{
	int fd = kf_opened();

	OK(kf_hello(fd));
}

CASE("every ioctl before HELLO is EPROTO, on a domain's file and on a VM's")
{
	struct domain *domain = domain_new(MASK_AB);
	int fresh = kf_open(), vm;
	char space[64] = {0};

	OK(vm_create(domain, 0, 1, &vm));
	for (size_t i = 0; i < IOCTLS; i++) {
		if (all_ioctls[i].request == FLUX_KF_HELLO)
			continue;
		if (kf_ioctl(fresh, all_ioctls[i].request, space) != -EPROTO)
			FAIL("%s before HELLO on a fresh file: not EPROTO", all_ioctls[i].name);
		if (kf_ioctl(vm, all_ioctls[i].request, space) != -EPROTO)
			FAIL("%s before HELLO on a VM's descriptor: not EPROTO", all_ioctls[i].name);
	}
}

CASE("nothing is mapped before HELLO or before a domain")
{
	int fd = kf_open();

	CHECK(mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED);
	SAME(errno, EPROTO);
	OK(kf_hello(fd));
	CHECK(mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED);
}

CASE("unknown ioctls are ENOTTY: numbers, types, sizes, directions")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_new(domain, 3, 1);
	char space[0x4000] = {0};
	const int fds[] = {domain->fd, vm->fd};

	for (int f = 0; f < 2; f++) {
		for (unsigned int nr = 0; nr < 256; nr++) {
			bool known = false;

			for (size_t i = 0; i < IOCTLS; i++)
				known |= _IOC_NR(all_ioctls[i].request) == nr;
			if (!known)
				RESULT(kf_ioctl(fds[f], _IOWR(0xb5, nr, char[16]), space), -ENOTTY);
			RESULT(kf_ioctl(fds[f], _IOWR(0xb4, nr, char[16]), space), -ENOTTY);
		}
		for (size_t i = 0; i < IOCTLS; i++) {
			unsigned int nr = _IOC_NR(all_ioctls[i].request), bytes = all_ioctls[i].bytes;

			RESULT(kf_ioctl(fds[f], _IOC(_IOC_READ | _IOC_WRITE, 0xb5, nr, bytes + 8), space), -ENOTTY);
			RESULT(kf_ioctl(fds[f], _IOC(_IOC_READ, 0xb5, nr, bytes ?: 8), space), -ENOTTY);
			RESULT(kf_ioctl(fds[f], _IOC(_IOC_READ | _IOC_WRITE, 0xb5, nr, 0x3fff), space), -ENOTTY);
		}
	}
}

CASE("a VM's ioctls on a domain's file are refused, and the other way round")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_new(domain, 3, 1);
	char space[64] = {0};

	for (size_t i = 0; i < IOCTLS; i++) {
		const struct one_ioctl *one = &all_ioctls[i];
		int fd = one->target == VM ? domain->fd : vm->fd;

		if (one->target != ANY && kf_ioctl(fd, one->request, space) != -ENOTTY)
			FAIL("%s on the wrong kind of descriptor: not ENOTTY", one->name);
	}
}

CASE("ioctls on descriptors that are not kFlux's do no harm")
{
	int fds[] = {open("/dev/null", O_RDWR), open("/dev/kvm", O_RDWR), open("/proc/self/status", O_RDONLY), -1};
	char space[64] = {0};

	for (size_t f = 0; f < 4; f++)
		for (size_t i = 0; i < IOCTLS; i++)
			CHECK(kf_ioctl(fds[f], all_ioctls[i].request, space) < 0);
}

CASE("read, write, seek and poll are harmless")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_new(domain, 3, 1);
	const int fds[] = {domain->fd, vm->fd, kf_open()};
	char byte = 0;

	for (int i = 0; i < 3; i++) {
		struct pollfd poll_fd = {.fd = fds[i], .events = POLLIN | POLLOUT};

		CHECK(read(fds[i], &byte, 1) < 0);
		CHECK(write(fds[i], &byte, 1) < 0);
		lseek(fds[i], 1, SEEK_SET);
		CHECK(poll(&poll_fd, 1, 0) >= 0);
	}
}

CASE("the same ioctls by the 32-bit entry: the same answers, or none at all")
{
	struct flux_kf_hello *hello =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	int fd = kf_open();
	long result;

	/* Without the entry the instruction is a fault. */
	if (access("/proc/sys/abi/vsyscall32", F_OK))
		kf_skip("no 32-bit system calls here");
	*hello = (struct flux_kf_hello){.abi_major = FLUX_ABI_MAJOR};
	__asm__ volatile("int $0x80"
			 : "=a"(result)
			 : "a"(54), "b"(fd), "c"((unsigned long)FLUX_KF_HELLO), "d"(hello)
			 : "memory", "r8", "r9", "r10", "r11");
	if (result == -ENOSYS)
		kf_skip("no 32-bit system calls here");
	if (result == -ENOTTY)
		return;
	SAME(result, 0);
	CHECK(hello->version[0]);
}

CASE("page 0 says magic, version and domain")
{
	struct domain *domain = domain_new(MASK_AB);

	SAME(domain->status->magic, FLUX_KF_MAGIC);
	SAME(domain->status->abi_major, FLUX_ABI_MAJOR);
	SAME(domain->status->abi_minor, FLUX_ABI_MINOR);
	SAME(domain->status->domain, domain->id);
	SAME(domain->status->epoch, domain->epoch);
	SAME(domain->status->leased, 1);
	SAME(domain->status->lease_ms, 60000);
	CHECK(domain->id != 0);
	for (uint32_t core = 0; core < cpus(); core++)
		SAME(domain->core[core].flags & FLUX_CORE_CLAIMED, (MASK_AB >> core & 1) ? FLUX_CORE_CLAIMED : 0);
}

/* Whether such a map is refused. */
static bool refused(int fd, off_t at, size_t bytes, int prot)
{
	void *where = mmap(NULL, bytes, prot, MAP_SHARED, fd, at);

	if (where != MAP_FAILED)
		munmap(where, bytes);
	return where == MAP_FAILED;
}

CASE("only what there is can be mapped, and only as it may be")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_new(domain, 3, 1);
	int view = kf_opened();
	uint32_t id = domain->id;
	void *once;

	OK(kf_join(view, &id, FLUX_KF_JOIN_VIEW));
	CHECK(!refused(view, 0, 4096, PROT_READ));
	CHECK(refused(view, 0, 4096, PROT_READ | PROT_WRITE));
	for (int i = 0; i < 2; i++) {
		int fd = i ? view : domain->fd;

		CHECK(!refused(fd, FLUX_CORES_OFFSET, CORES_AREA, PROT_READ));
		CHECK(refused(fd, FLUX_CORES_OFFSET, 4096, PROT_READ | PROT_WRITE));
		CHECK(refused(fd, FLUX_TVCPUS_OFFSET, 4096, PROT_READ | PROT_WRITE));
		CHECK(refused(fd, FLUX_KF_EVENTS_OFFSET, EVENTS_AREA, PROT_READ | PROT_WRITE));
		CHECK(refused(fd, FLUX_VMS_OFFSET, 4096, PROT_READ));
		CHECK(refused(fd, FLUX_KF_EVENTS_OFFSET, EVENTS_AREA + 4096, PROT_READ));
		CHECK(refused(fd, FLUX_KF_EVENTS_OFFSET + EVENTS_AREA, 4096, PROT_READ));
		CHECK(refused(fd, 0x7ffffffffffff000, 4096, PROT_READ));
		CHECK(refused(fd, 0x10000000000000, 4096, PROT_READ));
		/* What is read-only stays so. */
		once = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, FLUX_CORES_OFFSET);
		CHECK(once != MAP_FAILED);
		CHECK(mprotect(once, 4096, PROT_READ | PROT_WRITE) < 0);
	}
	/* A VM sees the cores and its own page, nothing else. */
	CHECK(!refused(vm->fd, FLUX_CORES_OFFSET, CORES_AREA, PROT_READ));
	CHECK(refused(vm->fd, FLUX_CORES_OFFSET, 4096, PROT_READ | PROT_WRITE));
	CHECK(!refused(vm->fd, FLUX_TVCPUS_OFFSET + 3 * 4096, 4096, PROT_READ | PROT_WRITE));
	CHECK(refused(vm->fd, 0, 4096, PROT_READ));
	CHECK(refused(vm->fd, FLUX_KF_EVENTS_OFFSET, 4096, PROT_READ));
	CHECK(refused(vm->fd, FLUX_TVCPUS_OFFSET, 4096, PROT_READ));
	CHECK(refused(vm->fd, FLUX_TVCPUS_OFFSET + 2 * 4096, 4096, PROT_READ));
	CHECK(refused(vm->fd, FLUX_TVCPUS_OFFSET + 4 * 4096, 4096, PROT_READ));
	CHECK(refused(vm->fd, FLUX_TVCPUS_OFFSET + 3 * 4096, 8192, PROT_READ));
}

CASE("maps outlive their descriptors")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_new(domain, 3, 1);

	close(vm->fd);
	close(domain->fd);
	(void)*(volatile uint32_t *)&vm->page[0].word;
	(void)*(volatile uint32_t *)&domain->status->magic;
	SAME(domain->status->magic, FLUX_KF_MAGIC);
	vm->page[0].held = 1;
	SAME(vm->page[0].held, 1);
	(void)domain->vcpu[200].word;
	(void)domain->event[5].sequence;
}

CASE("a VM's descriptor is closed by execve")
{
	struct domain *domain = domain_new(MASK_AB);
	int fd;

	OK(vm_create(domain, 7, 2, &fd));
	CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
}

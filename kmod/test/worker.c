// SPDX-License-Identifier: GPL-2.0
/* The VMM's side without KVM: threads that park, and "run a guest" by looking at their core's word. */
#include "world.h"

#include <sys/syscall.h>

int vm_create(struct domain *domain, uint32_t slot, uint32_t vcpus, int *fd)
{
	struct flux_kf_vm vm = {.slot = slot, .vcpus = vcpus, .fd = 0xdead};
	int result = kf_ioctl(domain->fd, FLUX_KF_VM_CREATE, &vm);

	*fd = result ? -1 : (int)vm.fd;
	return result;
}

struct vm *vm_on(int fd, uint32_t slot, uint32_t vcpus)
{
	struct vm *vm = calloc(1, sizeof(*vm));

	vm->fd = fd;
	vm->slot = slot;
	vm->vcpus = vcpus;
	OK(kf_hello(fd));
	vm->page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			FLUX_TVCPUS_OFFSET + (off_t)slot * FLUX_TVCPUS_BYTES);
	if (vm->page == MAP_FAILED)
		FAIL("the VM's own page does not map: %s", strerror(errno));
	vm->core = mmap(NULL, CORES_AREA, PROT_READ, MAP_SHARED, fd, FLUX_CORES_OFFSET);
	if (vm->core == MAP_FAILED)
		FAIL("the cores do not map from the VM's descriptor: %s", strerror(errno));
	return vm;
}

struct vm *vm_new(struct domain *domain, uint32_t slot, uint32_t vcpus)
{
	int fd;

	OK(vm_create(domain, slot, vcpus, &fd));
	return vm_on(fd, slot, vcpus);
}

void vm_close(struct vm *vm)
{
	munmap((void *)vm->page, 4096);
	munmap((void *)vm->core, CORES_AREA);
	close(vm->fd);
}

int vm_register(struct vm *vm, uint32_t vcpu, uint32_t flags)
{
	struct flux_kf_register one = {.vcpu = vcpu, .flags = flags, .kvm_fd = 0xffffffff};

	return kf_ioctl(vm->fd, FLUX_KF_REGISTER, &one);
}

int vm_park(struct vm *vm, uint32_t vcpu, uint32_t how, struct flux_kf_turn *turn)
{
	*turn = (struct flux_kf_turn){.vcpu = vcpu, .how = how};
	return kf_ioctl(vm->fd, FLUX_KF_PARK, turn);
}

int vm_run(struct vm *vm, uint32_t vcpu, struct flux_kf_turn *turn)
{
	*turn = (struct flux_kf_turn){.vcpu = vcpu};
	return kf_ioctl(vm->fd, FLUX_KF_RUN, turn);
}

int vm_unregister(struct vm *vm, uint32_t vcpu)
{
	struct flux_kf_vcpu one = {.vcpu = vcpu};

	return kf_ioctl(vm->fd, FLUX_KF_UNREGISTER, &one);
}

static uint32_t word_of(struct worker *w)
{
	return __atomic_load_n(&w->vm->page[w->vcpu].word, __ATOMIC_ACQUIRE);
}

/* Whether the thread should leave: it was asked to, or its core is not its core any more. */
static bool asked(struct worker *w, uint32_t core)
{
	uint64_t at = __atomic_load_n(&w->vm->core[core].word, __ATOMIC_ACQUIRE);
	uint32_t word = word_of(w), state = word & 0xff;

	if (state != FLUX_VCPU_RUNNING || (word >> 8 & 0xffff) != core)
		return true;
	return (at & 0xffff) == handle(w->vm->slot, w->vcpu) && (at >> 16 & 0xffff);
}

/* "In the guest": returns how it leaves; 0: the thread ends. */
static uint32_t hold(struct worker *w, uint32_t core)
{
	char byte;

	for (;;) {
		atomic_fetch_add(&w->turns, 1);
		if (atomic_load(&w->stop))
			return 0;
		switch (atomic_load(&w->manner)) {
		case STUBBORN:
			continue;
		case SLEEPS:
			if (read(w->pipe[0], &byte, 1) < 0 && errno != EINTR)
				atomic_store(&w->error, errno);
			continue;
		case YIELD:
			atomic_store(&w->manner, OBEY);
			return FLUX_HOW_YIELD;
		case QUIT:
			return 0;
		case LEAVE_FOR_GOOD:
			if (vm_unregister(w->vm, w->vcpu))
				atomic_store(&w->error, errno);
			return 0;
		case NAPS:
			usleep(300);
			break;
		case OBEY:
			__builtin_ia32_pause();
			break;
		}
		if (asked(w, core))
			return FLUX_HOW_ASKED;
	}
}

bool is_on_core(const volatile struct flux_vcpu *block, const volatile struct flux_core *cores, uint32_t core,
		char *text, size_t size)
{
	uint32_t before = __atomic_load_n(&block->word, __ATOMIC_ACQUIRE), here = sched_getcpu();
	uint32_t after = __atomic_load_n(&block->word, __ATOMIC_ACQUIRE), pinned = block->pinned;
	uint64_t affinity = affinity_of(0);
	double end = kf_now() + kf_opt.slow;

	/* A word that has not changed around the look is a fact. */
	if (before != after || before != (FLUX_VCPU_RUNNING | core << 8) || here == core)
		return true;
	/* Spins, because a thread that sleeps wakes up where it should be. */
	while (kf_now() < end)
		if (sched_getcpu() == (int)core || block->word != before)
			return true;
	/* That may take a grace period. */
	for (end += 10 * kf_opt.slow; kf_now() < end; kf_pause())
		if (cores[core].flags & FLUX_CORE_OFFLINE)
			return true;
	snprintf(text, size, "it has core %u, runs on CPU %u, pinned %#x, affinity %#llx; now core %#x", core, here,
		 pinned, (unsigned long long)affinity, block->word >> 8);
	return false;
}

static void *work(void *arg)
{
	struct worker *w = arg;
	struct flux_kf_turn turn;
	uint32_t how = FLUX_HOW_ENTRY;
	int result = vm_register(w->vm, w->vcpu, w->flags);

	if (result) {
		atomic_store(&w->error, -result);
		goto out;
	}
	atomic_store(&w->tid, (pid_t)syscall(SYS_gettid));
	while (how && !atomic_load(&w->stop)) {
		result = vm_park(w->vm, w->vcpu, how, &turn);
		if (result == -EINTR) {
			atomic_fetch_add(&w->signalled, 1);
			how = FLUX_HOW_ENTRY;
			continue;
		}
		if (result) {
			atomic_store(&w->error, -result);
			break;
		}
		switch (turn.reason) {
		case FLUX_KF_GRANTED:
			atomic_store(&w->core, (int)turn.core);
			atomic_fetch_add(&w->grants, 1);
			if (!is_on_core(&w->vm->page[w->vcpu], w->vm->core, turn.core, w->where, sizeof(w->where)))
				atomic_fetch_add(&w->wrong_core, 1);
			how = hold(w, turn.core);
			atomic_store(&w->core, -1);
			break;
		case FLUX_KF_UNMANAGED:
			atomic_fetch_add(&w->unmanaged, 1);
			usleep(500);
			how = FLUX_HOW_ENTRY;
			if (atomic_load(&w->manner) == QUIT)
				how = 0;
			break;
		case FLUX_KF_DEAD:
			atomic_store(&w->dead, true);
			how = 0;
			break;
		default:
			atomic_store(&w->error, 9999);
			how = 0;
		}
	}
out:
	atomic_store(&w->ended, true);
	return NULL;
}

struct worker *worker_start(struct vm *vm, uint32_t vcpu, uint32_t flags)
{
	struct worker *w = calloc(1, sizeof(*w));

	w->vm = vm;
	w->vcpu = vcpu;
	w->flags = flags;
	atomic_store(&w->core, -1);
	if (pipe2(w->pipe, 0) || pthread_create(&w->thread, NULL, work, w))
		FAIL("no pipe or thread: %s", strerror(errno));
	vm->worker[vcpu] = w;
	UNTIL(atomic_load(&w->tid) || atomic_load(&w->ended));
	if (atomic_load(&w->error))
		FAIL("vCPU %u of slot %u does not register: %s", vcpu, vm->slot, strerror(atomic_load(&w->error)));
	return w;
}

void worker_be(struct worker *w, enum manner manner)
{
	unsigned int turns = atomic_load(&w->turns);

	atomic_store(&w->manner, manner);
	/* It may just be looking at its core's word, with the old manner. */
	while (manner == STUBBORN && atomic_load(&w->core) >= 0 && atomic_load(&w->turns) - turns < 2)
		kf_pause();
}

void worker_join(struct worker *w)
{
	double end = kf_now() + kf_patience();

	while (!atomic_load(&w->ended)) {
		if (kf_now() > end)
			FAIL("the thread of vCPU %u of slot %u does not end", w->vcpu, w->vm->slot);
		kf_pause();
	}
	pthread_join(w->thread, NULL);
}

void worker_wake(struct worker *w, enum manner manner)
{
	atomic_store(&w->manner, manner);
	if (write(w->pipe[1], "x", 1) != 1)
		FAIL("pipe: %s", strerror(errno));
}

struct vm *vm_with_workers(struct domain *domain, uint32_t slot, uint32_t vcpus)
{
	struct vm *vm = vm_new(domain, slot, vcpus);

	for (uint32_t i = 0; i < vcpus; i++)
		worker_start(vm, i, 0);
	for (uint32_t i = 0; i < vcpus; i++)
		until_parked(domain, handle(slot, i));
	return vm;
}

struct vm *vm_running(struct domain *domain)
{
	struct vm *vm = vm_with_workers(domain, 0, 2);

	OK(grant(domain, CORE_A, handle(0, 0)));
	until_running(domain, handle(0, 0), CORE_A);
	UNTIL(atomic_load(&vm->worker[0]->grants) == 1);
	return vm;
}

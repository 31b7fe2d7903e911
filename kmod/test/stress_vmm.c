// SPDX-License-Identifier: GPL-2.0
/* A VMM of the stress test: a process with vCPUs that behave now well, now badly. */
#include "stress.h"

#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/prctl.h>

static __attribute__((format(printf, 2, 3))) void trouble(struct stress_vm *self, const char *format, ...)
{
	va_list args;

	if (atomic_exchange(&self->troubled, true))
		return;
	va_start(args, format);
	vsnprintf(self->trouble, sizeof(self->trouble), format, args);
	va_end(args);
}

/* An adopted VM: as soon as there is an arbiter again, it is his. */
static void manage_again(struct stress_vm *self, struct vm *vm)
{
	for (uint32_t v = 0; v < STRESS_VCPUS; v++)
		if ((vm->page[v].word & 0xff) == FLUX_VCPU_UNMANAGED) {
			int result = kf_ioctl(vm->fd, FLUX_KF_MANAGE, NULL);

			if (result && result != -ESTALE && result != -EBUSY)
				trouble(self, "MANAGE gave %s", kf_errname(result));
			return;
		}
}

static _Noreturn void plain(struct stress *stress, struct stress_vm *self, struct vm *vm, struct kf_random *random)
{
	static const enum manner manners[] = {OBEY, OBEY, OBEY, NAPS, NAPS, YIELD, YIELD, STUBBORN, SLEEPS};

	for (uint32_t v = 0; v < STRESS_VCPUS; v++) {
		worker_start(vm, v, 0);
		atomic_store(&self->tid[v], atomic_load(&vm->worker[v]->tid));
	}
	atomic_store(&self->ready, true);
	for (;;) {
		uint64_t turns = 0, signals = 0, unmanaged = 0, parked = 0;
		unsigned int ended = 0;

		for (uint32_t v = 0; v < STRESS_VCPUS; v++) {
			struct worker *w = vm->worker[v];
			bool calm = atomic_load(&self->calm);
			enum manner was = atomic_load(&w->manner);
			enum manner next = calm ? OBEY : manners[kf_below(random, 9)];

			if (atomic_load(&w->error))
				trouble(self, "a worker got %s", strerror(atomic_load(&w->error)));
			if (atomic_load(&w->wrong_core))
				trouble(self, "a thread ran elsewhere: %s", w->where);
			if (!calm && kf_below(random, 4000) == 0)
				next = kf_below(random, 2) ? QUIT : LEAVE_FOR_GOOD;
			if (kf_below(random, 4) == 0 || calm) {
				if (was == SLEEPS)
					worker_wake(w, next);
				else
					atomic_store(&w->manner, next);
			}
			turns += atomic_load(&w->turns);
			signals += atomic_load(&w->signalled);
			unmanaged += atomic_load(&w->unmanaged);
			parked += vm->page[v].parks;
			ended += atomic_load(&w->ended);
		}
		atomic_store(&self->turns, turns);
		atomic_store(&self->signals, signals);
		atomic_store(&self->unmanaged, unmanaged);
		atomic_store(&self->parked, parked);
		if (ended == STRESS_VCPUS)
			_exit(0);
		manage_again(self, vm);
		usleep(300 + kf_below(random, 1500));
	}
	(void)stress;
}

/* A guest of a parked vCPU stands still: nobody runs it without a core. */
static void stands_still(struct stress *stress, struct stress_vm *self, struct vm *vm, struct guest *g)
{
	volatile struct flux_vcpu *block = &vm->page[g->vcpu];
	uint32_t parks = block->parks, grants = block->grants, word = __atomic_load_n(&block->word, __ATOMIC_ACQUIRE);
	uint32_t count = guest_word(g, GUEST_COUNT);

	if ((word & 0xff) != FLUX_VCPU_PARKED)
		return;
	usleep(500);
	uint32_t after = guest_word(g, GUEST_COUNT);

	if (__atomic_load_n(&block->word, __ATOMIC_ACQUIRE) == word && block->parks == parks &&
	    block->grants == grants && after != count)
		trouble(self, "the guest of a parked vCPU ran");
	atomic_fetch_add(&stress->looks, 1);
}

static _Noreturn void with_kvm(struct stress *stress, struct stress_vm *self, struct vm *vm, struct kf_random *random)
{
	struct kvm_vm kvm = {.slot = vm->slot, .vm = vm};
	struct guest *g[STRESS_VCPUS];

	kvm.kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	kvm.fd = ioctl(kvm.kvm, KVM_CREATE_VM, 0);
	for (uint32_t v = 0; v < STRESS_VCPUS; v++) {
		g[v] = guest_new(&kvm, v, kf_below(random, 3));
		atomic_store(&g[v]->yield_exits, 1 + kf_below(random, 40));
		guest_start(g[v]);
		atomic_store(&self->tid[v], atomic_load(&g[v]->tid));
	}
	atomic_store(&self->ready, true);
	for (;;) {
		uint64_t turns = 0, signals = 0, unmanaged = 0, parked = 0;
		unsigned int ended = 0;

		for (uint32_t v = 0; v < STRESS_VCPUS; v++) {
			if (atomic_load(&g[v]->error))
				trouble(self, "a KVM vCPU got %d", atomic_load(&g[v]->error));
			if (atomic_load(&g[v]->corrupt))
				trouble(self, "a guest's registers were not its own");
			if (atomic_load(&g[v]->critical_parks))
				trouble(self, "a critical guest was parked by a kick");
			if (atomic_load(&g[v]->critical_preempts))
				trouble(self, "a critical guest was interrupted by PREEMPT");
			if (atomic_load(&g[v]->held_wrong))
				trouble(self, "a held word did not say how its vCPU was parked");
			if (atomic_load(&g[v]->wrong_core))
				trouble(self, "a KVM vCPU ran elsewhere: %s", g[v]->where);
			stands_still(stress, self, vm, g[v]);
			turns += guest_word(g[v], GUEST_COUNT);
			signals += atomic_load(&g[v]->signals);
			unmanaged += atomic_load(&g[v]->unmanaged);
			parked += vm->page[v].parks;
			ended += atomic_load(&g[v]->ended);
			if (!atomic_load(&self->calm) && kf_below(random, 6000) == 0) {
				atomic_store(&g[v]->stop, true);
				pthread_kill(g[v]->thread, SIGUSR1);
			}
		}
		atomic_store(&self->turns, turns);
		atomic_store(&self->signals, signals);
		atomic_store(&self->unmanaged, unmanaged);
		atomic_store(&self->parked, parked);
		if (ended == STRESS_VCPUS)
			_exit(0);
		manage_again(self, vm);
		usleep(300 + kf_below(random, 1500));
	}
}

static void on_signal(int number)
{
	(void)number;
}

_Noreturn void stress_vmm(struct stress *stress, uint32_t slot, int fd, uint64_t seed)
{
	struct stress_vm *self = &stress->vm[slot];
	struct domain *domain = stress->domain;
	struct kf_random random = {seed | 1};
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = seed & 2 ? SA_RESTART : 0};
	struct vm *vm;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	kf_dump = NULL;
	sigaction(SIGUSR1, &action, NULL);
	/* The arbiter's files and pages are not for a VMM. */
	close(atomic_load(&stress->commander));
	close(domain->fd);
	munmap((void *)domain->status, 4096);
	munmap((void *)domain->core, CORES_AREA);
	munmap((void *)domain->vcpu, VCPUS_AREA);
	munmap((void *)domain->event, EVENTS_AREA);
	vm = vm_on(fd, slot, STRESS_VCPUS);
	if (slot % 2 == 0 && access("/dev/kvm", R_OK | W_OK) == 0)
		with_kvm(stress, self, vm, &random);
	plain(stress, self, vm, &random);
}

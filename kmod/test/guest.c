// SPDX-License-Identifier: GPL-2.0
/* Real KVM vCPUs with a few instructions of guest, run by FLUX_KF_RUN. */
#include "guest.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>

/* Real mode, all segments at 0. Each label's code is copied to 0x1000; only jumps within it are used. */
__asm__(".pushsection .rodata\n"
	".code16\n"
	"program_counts:\n"
	"1:	movl 0x2000, %eax\n"
	"	cmpl %ebx, %eax\n"
	"	jne 9f\n"
	"	incl %ebx\n"
	"	movl %ebx, 0x2000\n"
	"	jmp 1b\n"
	"9:	outb %al, $0x99\n"
	"	jmp 9b\n"
	"program_counts_end:\n"
	"program_critical:\n"
	"1:	movl $1, 0x2004\n"
	"	movl $3000, %ecx\n"
	"2:	incl 0x2000\n"
	"	decl %ecx\n"
	"	jnz 2b\n"
	"	movl $0, 0x2004\n"
	"	movl $3000, %ecx\n"
	"3:	incl 0x2000\n"
	"	decl %ecx\n"
	"	jnz 3b\n"
	"	jmp 1b\n"
	"program_critical_end:\n"
	"program_outs:\n"
	"1:	incl 0x2000\n"
	"	outb %al, $0x18\n"
	"	jmp 1b\n"
	"program_outs_end:\n"
	".code64\n"
	".popsection\n");
extern const char program_counts[], program_counts_end[], program_critical[], program_critical_end[], program_outs[],
	program_outs_end[];

struct kvm_vm *kvm_vm_new(struct domain *domain, uint32_t slot, uint32_t vcpus)
{
	struct kvm_vm *kvm = calloc(1, sizeof(*kvm));

	kvm->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm->kvm < 0)
		kf_skip("no KVM: %s", strerror(errno));
	kvm->slot = slot;
	kvm->fd = ioctl(kvm->kvm, KVM_CREATE_VM, 0);
	if (kvm->fd < 0)
		FAIL("KVM_CREATE_VM: %s", strerror(errno));
	kvm->vm = vm_new(domain, slot, vcpus);
	return kvm;
}

struct guest *guest_new(struct kvm_vm *kvm, uint32_t vcpu, enum program program)
{
	static const struct {
		const char *from, *to;
	} programs[] = {
		[COUNTS] = {program_counts, program_counts_end},
		[CRITICAL_NOW_AND_THEN] = {program_critical, program_critical_end},
		[OUTS] = {program_outs, program_outs_end},
	};
	struct guest *guest = calloc(1, sizeof(*guest));
	struct kvm_userspace_memory_region region = {.memory_size = GUEST_BYTES};
	struct kvm_regs regs = {.rip = 0x1000, .rflags = 2, .rsp = 0x7000};
	struct kvm_sregs sregs;
	char *memory;

	guest->kvm = kvm;
	guest->vcpu = vcpu;
	guest->fd = ioctl(kvm->fd, KVM_CREATE_VCPU, vcpu);
	if (guest->fd < 0)
		FAIL("KVM_CREATE_VCPU: %s", strerror(errno));
	memory = mmap(NULL, GUEST_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	memcpy(memory + 0x1000, programs[program].from, programs[program].to - programs[program].from);
	guest->memory = (void *)memory;
	/* Each vCPU has memory of its own, at a distance; its segments begin there. */
	region.slot = vcpu;
	region.guest_phys_addr = (uint64_t)vcpu * GUEST_BYTES;
	region.userspace_addr = (uintptr_t)memory;
	if (ioctl(kvm->fd, KVM_SET_USER_MEMORY_REGION, &region))
		FAIL("KVM_SET_USER_MEMORY_REGION: %s", strerror(errno));
	guest->run_bytes = ioctl(kvm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	guest->run = mmap(NULL, guest->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, guest->fd, 0);
	if (guest->run == MAP_FAILED || ioctl(guest->fd, KVM_GET_SREGS, &sregs))
		FAIL("KVM vCPU: %s", strerror(errno));
	struct kvm_segment *const all[] = {&sregs.cs, &sregs.ds, &sregs.es, &sregs.ss, &sregs.fs, &sregs.gs};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		all[i]->base = region.guest_phys_addr;
		all[i]->selector = region.guest_phys_addr >> 4;
	}
	if (ioctl(guest->fd, KVM_SET_SREGS, &sregs) || ioctl(guest->fd, KVM_SET_REGS, &regs))
		FAIL("KVM registers: %s", strerror(errno));
	return guest;
}

int guest_register(struct guest *guest)
{
	struct flux_kf_register one = {
		.vcpu = guest->vcpu,
		.critical = (uintptr_t)&guest->memory[GUEST_CRITICAL / 4],
		.held_hint = (uintptr_t)&guest->memory[GUEST_HINT / 4],
		.kvm_fd = guest->fd,
	};

	return kf_ioctl(guest->kvm->vm->fd, FLUX_KF_REGISTER, &one);
}

/* A vCPU that was parked where it stood: the held word says so; it is settled before the guest goes on. */
static void settle(struct guest *g, uint32_t left)
{
	volatile struct flux_vcpu *block = &g->kvm->vm->page[g->vcpu];
	uint32_t held = __atomic_load_n(&block->held, __ATOMIC_ACQUIRE);

	if (left == FLUX_HOW_KICKED) {
		atomic_fetch_add(&g->parked_kicked, 1);
		if (guest_word(g, GUEST_CRITICAL))
			atomic_fetch_add(&g->critical_parks, 1);
		if (held != FLUX_HELD_HELD || !guest_word(g, GUEST_HINT))
			atomic_fetch_add(&g->held_wrong, 1);
	} else if (left == FLUX_HOW_FORCED) {
		atomic_fetch_add(&g->parked_forced, 1);
		if (held != (guest_word(g, GUEST_CRITICAL) ? FLUX_HELD_FORCED : FLUX_HELD_HELD))
			atomic_fetch_add(&g->held_wrong, 1);
	} else if (left == FLUX_HOW_ENTRY) {
		atomic_fetch_add(&g->parked_entry, 1);
	}
	if (held == FLUX_HELD_HELD)
		__atomic_store_n(&block->held, FLUX_HELD_RESUMING, __ATOMIC_SEQ_CST);
	guest_set(g, GUEST_HINT, 0);
	__atomic_store_n(&block->held, FLUX_HELD_NONE, __ATOMIC_SEQ_CST);
}

/* What RUN has come back with; true: PARK next. */
static bool handle_exit(struct guest *g)
{
	if (g->run->exit_reason == KVM_EXIT_IO && g->run->io.port == GUEST_PORT) {
		unsigned int n = atomic_fetch_add(&g->exits, 1) + 1, yield = atomic_load(&g->yield_exits);

		return yield && n % yield == 0;
	}
	if (g->run->exit_reason == KVM_EXIT_IO && g->run->io.port == GUEST_BAD_PORT)
		atomic_store(&g->corrupt, true);
	else
		atomic_store(&g->error, -(int)g->run->exit_reason);
	atomic_store(&g->stop, true);
	return false;
}

/* One PARK or RUN; false: the thread ends. */
static bool turn(struct guest *g, bool *parks)
{
	struct flux_kf_turn t;
	int result = *parks ? vm_park(g->kvm->vm, g->vcpu, FLUX_HOW_YIELD, &t) : vm_run(g->kvm->vm, g->vcpu, &t);

	if (result == -EINTR) {
		atomic_fetch_add(&g->signals, 1);
		return true;
	}
	if (result) {
		atomic_store(&g->error, -result);
		return false;
	}
	if (!*parks) {
		g->last = t;
		atomic_fetch_add(&g->guest_tsc, t.guest_tsc);
		atomic_fetch_add(&g->kicks, t.kicks);
	}
	switch (t.reason) {
	case FLUX_KF_EXIT:
		*parks = handle_exit(g);
		return true;
	case FLUX_KF_SIGNAL:
		atomic_fetch_add(&g->signals, 1);
		return true;
	case FLUX_KF_GRANTED:
		settle(g, *parks ? 0 : t.left);
		atomic_fetch_add(&g->grants, 1);
		if (!is_on_core(&g->kvm->vm->page[g->vcpu], g->kvm->vm->core, t.core, g->where, sizeof(g->where)))
			atomic_fetch_add(&g->wrong_core, 1);
		*parks = false;
		return true;
	case FLUX_KF_PREEMPT:
		if (guest_word(g, GUEST_CRITICAL))
			atomic_fetch_add(&g->critical_preempts, 1);
		atomic_fetch_add(&g->preempts, 1);
		return true;
	case FLUX_KF_UNMANAGED:
		settle(g, *parks ? 0 : t.left);
		atomic_fetch_add(&g->unmanaged, 1);
		*parks = false;
		return true;
	case FLUX_KF_DEAD:
		atomic_store(&g->dead, true);
		return false;
	}
	atomic_store(&g->error, 9999);
	return false;
}

static void *live(void *arg)
{
	struct guest *g = arg;
	bool parks = true;
	int result = guest_register(g);

	if (result)
		atomic_store(&g->error, -result);
	atomic_store(&g->tid, (pid_t)syscall(SYS_gettid));
	while (!result && !atomic_load(&g->stop) && turn(g, &parks))
		;
	atomic_store(&g->ended, true);
	return NULL;
}

static void on_signal(int number)
{
	(void)number;
}

void guest_start(struct guest *guest)
{
	struct sigaction action = {.sa_handler = on_signal};

	sigaction(SIGUSR1, &action, NULL);
	if (pthread_create(&guest->thread, NULL, live, guest))
		FAIL("no thread");
	UNTIL(atomic_load(&guest->tid));
	if (atomic_load(&guest->error))
		FAIL("a KVM vCPU does not register: %s", strerror(atomic_load(&guest->error)));
}

struct guest *guest_running(struct kvm_vm *kvm, uint32_t vcpu, enum program program)
{
	struct guest *guest = guest_new(kvm, vcpu, program);

	guest_start(guest);
	return guest;
}

void guest_join(struct guest *guest)
{
	double end = kf_now() + kf_patience();

	atomic_store(&guest->stop, true);
	while (!atomic_load(&guest->ended)) {
		if (kf_now() > end)
			FAIL("the thread of a KVM vCPU does not end");
		/* Out of the guest or of its park; a signal that comes between two calls is sent again. */
		pthread_kill(guest->thread, SIGUSR1);
		usleep(2000);
	}
	pthread_join(guest->thread, NULL);
}

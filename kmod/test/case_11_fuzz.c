// SPDX-License-Identifier: GPL-2.0
/* Random arguments to every ioctl, by several threads in several processes that are killed. */
#define GROUP "fuzz"
#include "ioctls.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

struct fuzz {
	int fds[8];
	uint64_t seed;
	char *edge; /* a page that ends where nothing is mapped */
};

static uint64_t odd_word(struct kf_random *random)
{
	static const uint64_t odd[] = {0,
				       1,
				       2,
				       3,
				       7,
				       16,
				       17,
				       255,
				       256,
				       512,
				       513,
				       0xffff,
				       0x10000,
				       0x7fffffff,
				       0x80000000,
				       0xffffffff,
				       0x100000000,
				       ~0ull,
				       0xffff888000000000};

	if (kf_below(random, 4) == 0)
		return kf_any(random);
	return odd[kf_below(random, sizeof(odd) / sizeof(odd[0]))];
}

/* An argument that makes sense, as a start. */
static void sensible(struct fuzz *fuzz, struct kf_random *random, const struct one_ioctl *one, void *space)
{
	static _Thread_local struct flux_kf_command commands[16];

	memset(space, 0, 64);
	switch (one->request) {
	case FLUX_KF_HELLO:
		*(uint32_t *)space = FLUX_ABI_MAJOR;
		break;
	case FLUX_KF_CLAIM:
		*(struct flux_kf_claim *)space = (struct flux_kf_claim){
			.managed = {MASK_AB}, .lease_ms = 10 + kf_below(random, 200), .flags = kf_below(random, 2)};
		break;
	case FLUX_KF_VM_CREATE:
		*(struct flux_kf_vm *)space = (struct flux_kf_vm){.slot = kf_below(random, 4), .vcpus = 2};
		break;
	case FLUX_KF_REGISTER:
		*(struct flux_kf_register *)space =
			(struct flux_kf_register){.vcpu = kf_below(random, 3), .kvm_fd = 0xffffffff};
		break;
	case FLUX_KF_PARK:
	case FLUX_KF_RUN:
		*(struct flux_kf_turn *)space =
			(struct flux_kf_turn){.vcpu = kf_below(random, 3), .how = kf_below(random, 7)};
		break;
	case FLUX_KF_SUBMIT:
		for (int i = 0; i < 16; i++) {
			commands[i] = (struct flux_kf_command){.op = 1 + kf_below(random, 6),
							       .core = CORE_A + kf_below(random, 2),
							       .from = kf_below(random, 4 * 16),
							       .to = kf_below(random, 4 * 16),
							       .deadline_us = 100 + kf_below(random, 3000),
							       .flags = kf_below(random, 4)};
			if (kf_below(random, 8) == 0)
				((uint32_t *)&commands[i])[kf_below(random, 16)] = odd_word(random);
		}
		*(struct flux_kf_submit *)space = (struct flux_kf_submit){.commands = (uintptr_t)commands, .count = 16};
		break;
	}
	(void)fuzz;
}

static void *fuzz_thread(void *arg)
{
	struct fuzz *fuzz = arg;
	struct kf_random random = {__atomic_add_fetch(&fuzz->seed, 0x9e3779b97f4a7c15ULL, __ATOMIC_SEQ_CST) | 1};

	for (;;) {
		const struct one_ioctl *one = &all_ioctls[kf_below(&random, IOCTLS)];
		int fd = fuzz->fds[kf_below(&random, 8)];
		uint32_t space[32] = {0};
		void *argument = space;
		unsigned long request = one->request;

		sensible(fuzz, &random, one, space);
		switch (kf_below(&random, 10)) {
		case 0:
			for (unsigned int i = 0; i < sizeof(space) / 4; i++)
				space[i] = odd_word(&random);
			break;
		case 1:
		case 2:
			space[kf_below(&random, 16)] = odd_word(&random);
			break;
		case 3:
			argument = fuzz->edge + 4096 - kf_below(&random, 80);
			break;
		case 4:
			argument = (void *)(uintptr_t)odd_word(&random);
			break;
		case 5:
			request ^= 1ul << kf_below(&random, 32);
			break;
		}
		kf_ioctl(fd, request, argument);
		switch (kf_below(&random, 200)) {
		case 0: {
			void *where = mmap(NULL, 4096 << kf_below(&random, 6),
					   PROT_READ | (kf_below(&random, 2) ? PROT_WRITE : 0), MAP_SHARED, fd,
					   (off_t)kf_below(&random, 0x480) << 12);

			if (where != MAP_FAILED) {
				(void)*(volatile char *)where;
				munmap(where, 4096);
			}
			break;
		}
		case 1: {
			/* A descriptor is closed under the others and made again. */
			int i = kf_below(&random, 8), fresh = open("/dev/kflux", O_RDWR | O_CLOEXEC);

			if (fresh >= 0) {
				kf_hello(fresh);
				dup2(fresh, fuzz->fds[i]);
				close(fresh);
			}
			break;
		}
		case 2:
			if (kf_below(&random, 4) == 0 && fork() == 0)
				_exit(0);
			break;
		case 3: {
			pthread_t thread;

			/* Threads sleep in PARK for good: new ones take their places, signals wake some. */
			if (pthread_create(&thread, NULL, fuzz_thread, fuzz) == 0)
				pthread_detach(thread);
			break;
		}
		case 4:
			kill(getpid(), SIGUSR1);
			break;
		case 5:
			return NULL;
		}
	}
}

static void nothing(int number)
{
	(void)number;
}

/* One process: a few descriptors with a domain and VMs on them, and threads that abuse them. */
static void fuzz_process(uint64_t seed)
{
	struct fuzz fuzz = {.seed = seed};
	struct sigaction action = {.sa_handler = nothing};
	uint32_t id = 0;

	sigaction(SIGUSR1, &action, NULL);
	signal(SIGCHLD, SIG_IGN);
	fuzz.edge = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	munmap(fuzz.edge + 4096, 4096);
	for (int i = 0; i < 8; i++)
		fuzz.fds[i] = kf_opened();
	for (int i = 0; i < 4; i++)
		kf_join(fuzz.fds[i], &id, 0);
	kf_claim(fuzz.fds[0], MASK_AB, 1000, 0, NULL);
	for (uint32_t i = 0; i < 3; i++) {
		struct flux_kf_vm vm = {.slot = i, .vcpus = 2};

		if (kf_ioctl(fuzz.fds[0], FLUX_KF_VM_CREATE, &vm) == 0) {
			kf_hello(vm.fd);
			dup2(vm.fd, fuzz.fds[4 + i]);
			close(vm.fd);
		}
	}
	for (int i = 0; i < 4; i++) {
		pthread_t thread;

		pthread_create(&thread, NULL, fuzz_thread, &fuzz);
		pthread_detach(thread);
	}
	for (;;) {
		usleep(20000);
		kill(getpid(), SIGUSR1);
	}
}

CASE_LIMIT("every ioctl with random arguments, threads, signals, forks, kills, closed descriptors", 1000)
{
	double seconds = kf_opt.seconds / 4.0 < 5 ? 5 : kf_opt.seconds / 4.0, end = kf_now() + seconds;
	struct kf_random random = {kf_opt.seed};
	unsigned int processes = 0;
	int status;

	kf_note("seed %#llx, %.0f s", (unsigned long long)kf_opt.seed, seconds);
	while (kf_now() < end) {
		pid_t pids[2];

		for (int i = 0; i < 2; i++) {
			uint64_t seed = kf_any(&random) | 1;

			pids[i] = fork();
			if (pids[i] == 0) {
				setpgid(0, 0);
				fuzz_process(seed);
			}
			setpgid(pids[i], pids[i]);
			processes++;
		}
		usleep(300000 + kf_below(&random, 500000));
		for (int i = 0; i < 2; i++) {
			kill(-pids[i], SIGKILL);
			kill(pids[i], SIGKILL);
			waitpid(pids[i], &status, 0);
			if (WIFEXITED(status) && WEXITSTATUS(status))
				_exit(WEXITSTATUS(status));
		}
	}
	kf_note("%u processes", processes);
	/* The module still works, and all that was theirs is free. */
	UNTIL(kf_module_users() == 0);
	struct domain *domain = domain_new(MASK_AB);
	vm_with_workers(domain, 0, 1);
	OK(grant(domain, CORE_A, handle(0, 0)));
	until_running(domain, handle(0, 0), CORE_A);
}

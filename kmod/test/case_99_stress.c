// SPDX-License-Identifier: GPL-2.0
/* Random commands, VMMs that come and go, signals, stops, leases, CPUs: nothing is lost, nothing is shared. */
#define GROUP "stress"
#include "cpu.h"
#include "stress.h"
#include "trace.h"

#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* Whom to grant: mostly somebody who is parked, so that not everything is refused. */
static uint32_t pick(struct domain *domain, struct kf_random *random)
{
	uint32_t h = 0;

	for (int i = 0; i < 4; i++) {
		h = stress_handle(kf_below(random, STRESS_HANDLES));
		if (state_of(domain, h) == FLUX_VCPU_PARKED)
			break;
	}
	return h;
}

/* Commands, as fast as they go; what is refused must be refused for a reason that can be. */
static void *commands(void *arg)
{
	struct stress *stress = arg;
	struct domain *domain = stress->domain;
	struct kf_random random = {kf_opt.seed ^ (uintptr_t)&random};

	for (unsigned int round = 0; !atomic_load(&stress->stop); round++) {
		struct flux_kf_command batch[4];
		uint32_t count = 1 + kf_below(&random, 4);
		struct flux_kf_submit submission = {.commands = (uintptr_t)batch, .count = count};
		int result;

		if (round % 512 == 0)
			trace_wait(&stress->stop);
		for (uint32_t i = 0; i < count; i++) {
			uint32_t core = stress->first_core + kf_below(&random, stress->cores);
			uint64_t word = core_word(domain, core);
			uint32_t owner = word & 0xffff, other = pick(domain, &random);
			uint32_t dice = kf_below(&random, 16);

			batch[i] = (struct flux_kf_command){.core = core,
							    .from = owner ?: other,
							    .to = other,
							    .generation = word >> 32,
							    .flags = kf_below(&random, 3),
							    .kick_after_us = kf_below(&random, 300),
							    .deadline_us = 1000 + kf_below(&random, 20000)};
			if (kf_below(&random, 4) == 0)
				batch[i].flags |= FLUX_KF_FLAG_GENERATION;
			if (dice < 2) {
				batch[i].op = FLUX_OP_PARK;
			} else if (dice < 4) {
				batch[i].op = FLUX_OP_HEIR;
				batch[i].to = dice == 2 ? 0 : other;
			} else if (dice < 6) {
				batch[i].op = FLUX_OP_FORCE;
			} else if (dice < 9) {
				batch[i].op = FLUX_OP_PREEMPT;
				batch[i].to = (uint32_t)kf_any(&random);
			} else {
				batch[i].op = owner ? FLUX_OP_MOVE : FLUX_OP_GRANT;
			}
		}
		result = kf_ioctl(atomic_load(&stress->commander), FLUX_KF_SUBMIT, &submission);
		if (result == -ESTALE || result == -EBADF) {
			atomic_fetch_add(&stress->stale, 1);
			usleep(200);
			continue;
		}
		if (result)
			FAIL("SUBMIT gave %s", kf_errname(result));
		for (uint32_t i = 0; i < count; i++) {
			int one = (int)batch[i].result;

			if (one == 0)
				atomic_fetch_add(&stress->done[batch[i].op], 1);
			else if (one == -EBUSY || one == -EAGAIN || one == -EALREADY || one == -ESRCH ||
				 one == -ENODEV || one == -EINVAL || one == -ESTALE)
				atomic_fetch_add(&stress->refused[batch[i].op], 1);
			else
				FAIL("command %u gave %s", batch[i].op, kf_errname(one));
		}
		for (volatile uint32_t spin = kf_below(&random, 20000); spin; spin--)
			;
	}
	return NULL;
}

/* The status page changes with the lease's holder. */
static pthread_mutex_t page_lock = PTHREAD_MUTEX_INITIALIZER;

static void *beats(void *arg)
{
	struct stress *stress = arg;

	for (;;) {
		pthread_mutex_lock(&page_lock);
		domain_beat(stress->domain);
		pthread_mutex_unlock(&page_lock);
		usleep(2000);
	}
	return NULL;
}

/* A VMM in the slot, if the slot is free. */
static void spawn(struct stress *stress, uint32_t slot, uint64_t seed)
{
	struct flux_kf_vm vm = {.slot = slot, .vcpus = STRESS_VCPUS};
	struct stress_vm *one = &stress->vm[slot];
	int result = kf_ioctl(atomic_load(&stress->commander), FLUX_KF_VM_CREATE, &vm);
	pid_t pid;

	if (result == -EEXIST || result == -ESTALE)
		return; /* The old one is on its way out, or the lease is on its way. */
	OK(result);
	atomic_store(&one->ready, false);
	atomic_store(&one->stopped, false);
	pid = fork();
	if (pid == 0)
		stress_vmm(stress, slot, vm.fd, seed);
	close(vm.fd);
	atomic_store(&one->pid, pid);
}

/* Whoever has died is replaced. */
static void reap(struct stress *stress, struct kf_random *random)
{
	for (uint32_t slot = 0; slot < STRESS_VMS; slot++) {
		struct stress_vm *one = &stress->vm[slot];
		pid_t pid = atomic_load(&one->pid);
		int status;

		if (pid && waitpid(pid, &status, WNOHANG) == pid) {
			if (WIFEXITED(status) && WEXITSTATUS(status))
				FAIL("the VMM of slot %u failed; its report is above or lost", slot);
			/* By our hand, or with its parent; nothing else may end it. */
			if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL)
				FAIL("the VMM of slot %u died of signal %d", slot, WTERMSIG(status));
			atomic_fetch_add(&stress->deaths, 1);
			atomic_store(&one->pid, 0);
			pid = 0;
		}
		if (!pid)
			spawn(stress, slot, kf_any(random));
	}
}

/* The lease goes to another file of the domain, or ends and is claimed again. */
static void change_lease(struct stress *stress, uint32_t mask, bool release, uint32_t lease_ms)
{
	int next = kf_opened(), last = atomic_load(&stress->commander);
	uint32_t id = stress->domain->id, epoch;
	void *page;

	OK(kf_join(next, &id, 0));
	if (release) {
		kf_ioctl(last, FLUX_KF_RELEASE, NULL);
		atomic_fetch_add(&stress->releases, 1);
	}
	OK(kf_claim(next, mask, lease_ms, release ? 0 : FLUX_KF_CLAIM_TAKEOVER, &epoch));
	/* The heartbeat is beaten where the holder of the lease may write. */
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, next, 0);
	if (page == MAP_FAILED)
		FAIL("the new holder cannot map the status page: %s", strerror(errno));
	volatile struct flux_kf_status *old = stress->domain->status;
	pthread_mutex_lock(&page_lock);
	stress->domain->status = page;
	pthread_mutex_unlock(&page_lock);
	atomic_store(&stress->commander, next);
	stress->domain->fd = next;
	munmap((void *)old, 4096);
	close(last);
	atomic_fetch_add(&stress->takeovers, 1);
}

static void chaos(struct stress *stress, uint32_t mask, double seconds)
{
	struct kf_random random = {kf_opt.seed * 0x9e3779b97f4a7c15ULL | 1};
	double end = kf_now() + seconds, said = kf_now();
	uint32_t offline = 0;

	while (kf_now() < end) {
		uint32_t slot = kf_below(&random, STRESS_VMS);
		struct stress_vm *one = &stress->vm[slot];
		pid_t pid = atomic_load(&one->pid);
		uint32_t dice = kf_below(&random, 1000);

		reap(stress, &random);
		if (pid && atomic_load(&one->ready)) {
			pid_t tid = atomic_load(&one->tid[kf_below(&random, STRESS_VCPUS)]);

			if (dice < 300) {
				syscall(SYS_tgkill, pid, tid, SIGUSR1);
			} else if (dice < 330) {
				kill(pid,
				     atomic_exchange(&one->stopped, !atomic_load(&one->stopped)) ? SIGCONT : SIGSTOP);
				atomic_fetch_add(&stress->stops, 1);
			} else if (dice < 340) {
				kill(pid, SIGKILL);
				atomic_fetch_add(&stress->kills, 1);
			}
		}
		/* Nobody stays stopped for long. */
		for (uint32_t i = 0; i < STRESS_VMS; i++)
			if (atomic_load(&stress->vm[i].stopped) && kf_below(&random, 10) == 0) {
				kill(atomic_load(&stress->vm[i].pid), SIGCONT);
				atomic_store(&stress->vm[i].stopped, false);
			}
		if (dice >= 990) {
			/* A core that is offline cannot be claimed. */
			if (offline)
				cpu_online(offline, true);
			offline = 0;
			change_lease(stress, mask, dice >= 995, 1000 * kf_opt.slow);
		}
		if (dice >= 980 && dice < 984) {
			if (offline)
				cpu_online(offline, true);
			offline = offline ? 0 : stress->first_core + kf_below(&random, stress->cores);
			atomic_store(&stress->going_offline, offline);
			if (offline && cpu_online(offline, false) == 0)
				atomic_fetch_add(&stress->offlines, 1);
			atomic_store(&stress->going_offline, 0);
		}
		if (kf_now() - said > 15) {
			said = kf_now();
			kf_note("%.0f s left: %llu moves done, %llu refused, %llu VMMs died, %llu leases", end - said,
				(unsigned long long)stress->done[FLUX_OP_MOVE],
				(unsigned long long)stress->refused[FLUX_OP_MOVE], (unsigned long long)stress->deaths,
				(unsigned long long)stress->takeovers);
		}
		usleep(2000 + kf_below(&random, 8000));
	}
	for (uint32_t cpu = 1; cpu < cpus(); cpu++)
		cpu_online(cpu, true);
	/* A lease for what is left, also if the last one has run out: long, but guests are recalled by parts of it. */
	change_lease(stress, mask, false, 4000 * kf_opt.slow);
}

static bool alive(struct stress *stress, uint32_t slot)
{
	return atomic_load(&stress->vm[slot].pid) && atomic_load(&stress->vm[slot].ready);
}

/* Empties every core, so that the last checks begin from nothing. */
static void settle(struct stress *stress)
{
	struct domain *domain = stress->domain;
	double end = kf_now() + kf_patience();

	for (;;) {
		bool quiet = true;

		for (uint32_t c = stress->first_core; c < stress->first_core + stress->cores; c++) {
			uint64_t word = core_word(domain, c);

			RESULT_IN(heir(domain, c, 0), 0);
			if ((word & 0xffff) && !(word >> 16 & 0xffff))
				RESULT_IN(park(domain, c, word & 0xffff), 0, -EAGAIN, -EALREADY, -ESRCH);
			quiet &= idle(domain, c);
		}
		for (uint32_t i = 0; i < STRESS_HANDLES; i++)
			if (alive(stress, i / STRESS_VCPUS)) {
				uint32_t state = state_of(domain, stress_handle(i));

				quiet &= state == FLUX_VCPU_PARKED || state == FLUX_VCPU_DEAD;
			}
		if (quiet)
			return;
		if (kf_now() > end)
			FAIL("in the end not everything comes to rest: a core or a vCPU is lost");
		kf_pause();
	}
}

static void nothing_is_lost(struct stress *stress)
{
	struct domain *domain = stress->domain;
	uint32_t granted = 0;

	for (uint32_t i = 0; i < STRESS_VMS; i++) {
		atomic_store(&stress->vm[i].calm, true);
		if (atomic_load(&stress->vm[i].pid))
			kill(atomic_load(&stress->vm[i].pid), SIGCONT);
	}
	settle(stress);
	for (uint32_t i = 0; i < STRESS_HANDLES; i++) {
		uint32_t h = stress_handle(i);

		if (!alive(stress, i / STRESS_VCPUS) || state_of(domain, h) == FLUX_VCPU_DEAD)
			continue;
		/* Every vCPU on every core: neither is lost. */
		for (uint32_t c = stress->first_core; c < stress->first_core + stress->cores; c++) {
			until_parked(domain, h);
			OK(grant(domain, c, h));
			/* A guest of the yielding kind may have left it again. */
			UNTIL(state_of(domain, h) == FLUX_VCPU_RUNNING || idle(domain, c));
			settle(stress);
			granted++;
		}
	}
	kf_note("in the end %u grants of living vCPUs to all cores", granted);
	CHECK(granted > 0);
}

static void summary(struct stress *stress)
{
	static const char *const names[] = {"", "GRANT", "PARK", "MOVE", "HEIR", "FORCE", "PREEMPT"};
	uint64_t lent = 0, taken = 0, forced = 0, switches = 0;

	for (uint32_t c = stress->first_core; c < stress->first_core + stress->cores; c++) {
		lent += stress->domain->core[c].lent;
		taken += stress->domain->core[c].taken;
		forced += stress->domain->core[c].forced;
		switches += stress->domain->core[c].switches;
	}
	for (int op = 1; op <= 6; op++)
		kf_note("%s: %llu done, %llu refused", names[op], (unsigned long long)stress->done[op],
			(unsigned long long)stress->refused[op]);
	kf_note("%llu switches, %llu lent, %llu forced, %llu taken; %llu kicks", (unsigned long long)switches,
		(unsigned long long)lent, (unsigned long long)forced, (unsigned long long)taken,
		(unsigned long long)stress->domain->status->kicks);
	kf_note("%llu VMMs died (%llu killed), %llu stops, %llu leases (%llu after a release), %llu offline, %llu "
		"stale batches",
		(unsigned long long)stress->deaths, (unsigned long long)stress->kills,
		(unsigned long long)stress->stops, (unsigned long long)stress->takeovers,
		(unsigned long long)stress->releases, (unsigned long long)stress->offlines,
		(unsigned long long)stress->stale);
	kf_note("%llu looks at all pages, %llu times a thread was caught in its guest, on its core each time",
		(unsigned long long)stress->looks, (unsigned long long)stress->seen_in_guest);
}

CASE_LIMIT("random GRANT, PARK, MOVE, FORCE, HEIR, PREEMPT: one owner a core, one core a vCPU, nobody lost", 2000)
{
	static struct stress stress;
	pthread_t threads[4];
	uint32_t mask = 0;

	if (kf_opt.trace) {
		int result = trace_start(kf_opt.trace);

		if (result)
			FAIL("the trace cannot be recorded: %s", strerror(-result));
	}
	stress.first_core = 1;
	stress.cores = cpus() > 4 ? 4 : cpus() - 1;
	for (uint32_t c = 0; c < stress.cores; c++)
		mask |= 1u << (stress.first_core + c);
	stress.grace = 10.0 * kf_opt.slow;
	stress.vm = mmap(NULL, sizeof(struct stress_vm) * STRESS_VMS, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	stress.domain = domain_new(mask);
	atomic_store(&stress.commander, stress.domain->fd);
	for (uint32_t slot = 0; slot < STRESS_VMS; slot++)
		spawn(&stress, slot, kf_opt.seed + slot * 7919);
	for (uint32_t slot = 0; slot < STRESS_VMS; slot++)
		UNTIL(alive(&stress, slot));
	pthread_create(&threads[0], NULL, stress_watch, &stress);
	pthread_create(&threads[1], NULL, commands, &stress);
	pthread_create(&threads[2], NULL, commands, &stress);
	pthread_create(&threads[3], NULL, beats, &stress);
	chaos(&stress, mask, kf_opt.seconds);
	atomic_store(&stress.stop, true);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	nothing_is_lost(&stress);
	summary(&stress);
	CHECK(stress.done[FLUX_OP_MOVE] > 50 && stress.done[FLUX_OP_GRANT] > 20);
	CHECK(stress.done[FLUX_OP_PREEMPT] > 20);
	for (uint32_t slot = 0; slot < STRESS_VMS; slot++)
		if (atomic_load(&stress.vm[slot].pid))
			kill(atomic_load(&stress.vm[slot].pid), SIGKILL);
	UNTIL(stress.domain->status->vms == 0);
	trace_stop();
}

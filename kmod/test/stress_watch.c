// SPDX-License-Identifier: GPL-2.0
/* The stress test's watch: what the pages say at any moment must be possible. */
#include "stress.h"

/* Something that may be seen for a moment, and must pass. */
struct passing {
	uint64_t what; /* 0: nothing */
	double since;
};

/* False if the same thing has been there for longer than the grace. */
static bool passes(struct stress *stress, struct passing *one, uint64_t what)
{
	if (what != one->what) {
		one->what = what;
		one->since = kf_now();
	}
	return !what || kf_now() - one->since < stress->grace;
}

/* Pages are written by one side at a time, so a pair of words that has not changed around a look is a fact. */
static void one_owner_each(struct stress *stress)
{
	struct domain *domain = stress->domain;

	for (uint32_t a = stress->first_core; a < stress->first_core + stress->cores; a++)
		for (uint32_t b = a + 1; b < stress->first_core + stress->cores; b++) {
			uint64_t first = core_word(domain, a), second = core_word(domain, b);
			bool same = (first & 0xffff) && (first & 0xffff) == (second & 0xffff);

			if (same && core_word(domain, a) == first && core_word(domain, b) == second &&
			    core_word(domain, a) == first)
				FAIL("vCPU %u owns core %u and core %u", (uint32_t)first & 0xffff, a, b);
		}
}

/* A core's words and its vCPUs' say the same, give or take a moment. */
static void words_agree(struct stress *stress, struct passing *request, struct passing *owner, struct passing *vcpu)
{
	struct domain *domain = stress->domain;

	for (uint32_t c = stress->first_core; c < stress->first_core + stress->cores; c++) {
		uint64_t word = core_word(domain, c);
		uint32_t who = word & 0xffff, state = who ? state_of(domain, who) : 0;
		bool odd = who &&
			   !((state == FLUX_VCPU_RUNNING || state == FLUX_VCPU_CEDING) && core_of(domain, who) == c);

		if (!passes(stress, &request[c], word >> 16 & 0xffff ? word : 0))
			FAIL("a request on core %u does not end: owner %u successor %u generation %u", c, who,
			     (uint32_t)(word >> 16 & 0xffff), (uint32_t)(word >> 32));
		if (!passes(stress, &owner[c], odd ? word : 0))
			FAIL("core %u is owned by vCPU %u, whose state is %u and core %#x", c, who, state,
			     core_of(domain, who));
	}
	for (uint32_t i = 0; i < STRESS_HANDLES; i++) {
		uint32_t h = stress_handle(i), word = block_of(domain, h)->word, state = word & 0xff, c = word >> 8;
		bool running = state == FLUX_VCPU_RUNNING, granting = state == FLUX_VCPU_GRANTING, odd = false;

		if (running || granting) {
			uint64_t at = c < cpus() ? core_word(domain, c) : 0;

			odd = (at & 0xffff) != h && !(granting && (at >> 16 & 0xffff) == h);
		}
		if (!passes(stress, &vcpu[i],
			    odd ? (uint64_t)word << 32 | block_of(domain, h)->grants | 1ull << 63 : 0))
			FAIL("vCPU %u says state %u on core %u, which is not its core", h, state, c);
	}
}

/* The CPU that a thread was last on; -1: it is gone. */
static int last_cpu(pid_t pid, pid_t tid)
{
	char path[64], text[1024], *at;
	int cpu = -1;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", pid, tid);
	if (kf_read_text(path, text, sizeof(text)))
		return -1;
	at = strrchr(text, ')');
	for (int field = 2; at && field < 39; field++)
		at = strchr(at + 1, ' ');
	if (at)
		cpu = atoi(at);
	return cpu;
}

/* The CPU on which the thread of a vCPU is in its guest; -1: it is not, or it is where it should be. */
static int guest_elsewhere(struct stress *stress, uint32_t index, uint32_t *core)
{
	const volatile struct flux_vcpu *block = block_of(stress->domain, stress_handle(index));
	uint32_t word = block->word, grants = block->grants, tid = block->tid;
	uint64_t entered = block->entered_tsc;
	int cpu;

	*core = word >> 8 & 0xffff;
	if ((word & 0xff) != FLUX_VCPU_RUNNING || !entered || !tid)
		return -1;
	cpu = last_cpu(atomic_load(&stress->vm[index / STRESS_VCPUS].pid), tid);
	/* In the guest before and after the look: in the guest during it. */
	if (cpu < 0 || block->word != word || block->grants != grants || block->entered_tsc != entered ||
	    block->tid != tid)
		return -1;
	atomic_fetch_add(&stress->seen_in_guest, 1);
	return (uint32_t)cpu == *core ? -1 : cpu;
}

/* A migration that is under way interrupts the guest; and the scheduler empties a CPU that goes offline first. */
static void guests_on_their_cores(struct stress *stress)
{
	for (uint32_t i = 0; i < STRESS_HANDLES; i++) {
		uint32_t core;
		int cpu = -1;

		for (int look = 0; look < 100; look++) {
			cpu = guest_elsewhere(stress, i, &core);
			if (cpu < 0 || core == atomic_load(&stress->going_offline))
				break;
			usleep(2000);
		}
		if (cpu >= 0 && core != atomic_load(&stress->going_offline))
			FAIL("the thread of vCPU %u is in its guest on CPU %d, its core is %u", stress_handle(i), cpu,
			     core);
	}
}

void *stress_watch(void *arg)
{
	struct stress *stress = arg;
	static struct passing request[FLUX_MAX_CORES], owner[FLUX_MAX_CORES], vcpu[STRESS_HANDLES];

	while (!atomic_load(&stress->stop)) {
		for (int i = 0; i < 50; i++)
			one_owner_each(stress);
		words_agree(stress, request, owner, vcpu);
		guests_on_their_cores(stress);
		for (uint32_t i = 0; i < STRESS_VMS; i++)
			if (atomic_load(&stress->vm[i].troubled))
				FAIL("VM %u: %s", i, stress->vm[i].trouble);
		atomic_fetch_add(&stress->looks, 1);
		usleep(1000);
	}
	return NULL;
}

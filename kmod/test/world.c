// SPDX-License-Identifier: GPL-2.0
/* The arbiter's side: domains, commands, and what the pages say. */
#include "world.h"

#include <fcntl.h>

static struct domain *shown;

/* For a failure's report: the cores and vCPUs that are not idle or empty. */
static void dump(void)
{
	static const char *const states[] = {"NEW",    "PARKED",  "GRANTING",  "RUNNING",
					     "CEDING", "BLOCKED", "UNMANAGED", "DEAD"};

	if (!shown)
		return;
	for (uint32_t c = 0; c < cpus() && c < 64; c++)
		if (shown->core[c].flags || shown->core[c].word)
			kf_note("core %u: owner %u successor %u generation %u heir %u flags %u lent %u taken %u forced "
				"%u",
				c, owner_of(shown, c), successor_of(shown, c), generation_of(shown, c),
				shown->core[c].heir, shown->core[c].flags, shown->core[c].lent, shown->core[c].taken,
				shown->core[c].forced);
	for (uint32_t h = 1; h <= 16 * FLUX_MAX_VCPUS; h++)
		if (block_of(shown, h)->word || block_of(shown, h)->tid) {
			const volatile struct flux_vcpu *v = block_of(shown, h);

			kf_note("vCPU %u: %s core %#x tid %u pinned %#x req %u force %u how %u grants %u parks %u "
				"kicks %u host %u held %u",
				h, states[v->word & 7], v->word >> 8, v->tid, v->pinned, v->park_req, v->force, v->how,
				v->grants, v->parks, v->kicks, v->host, v->held);
		}
	kf_note("lease %u epoch %u commands %llu refused %llu events %llu", shown->status->leased, shown->status->epoch,
		(unsigned long long)shown->status->commands, (unsigned long long)shown->status->refused,
		(unsigned long long)shown->status->events);
}

int kf_ioctl(int fd, unsigned long request, void *arg)
{
	return ioctl(fd, request, arg) < 0 ? -errno : 0;
}

int kf_open(void)
{
	int fd = open("/dev/kflux", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		FAIL("/dev/kflux does not open: %s", strerror(errno));
	return fd;
}

int kf_hello(int fd)
{
	struct flux_kf_hello hello = {.abi_major = FLUX_ABI_MAJOR, .abi_minor = FLUX_ABI_MINOR};

	return kf_ioctl(fd, FLUX_KF_HELLO, &hello);
}

int kf_opened(void)
{
	int fd = kf_open();

	OK(kf_hello(fd));
	return fd;
}

int kf_join(int fd, uint32_t *id, uint32_t flags)
{
	struct flux_kf_join join = {.domain = *id, .flags = flags};
	int result = kf_ioctl(fd, FLUX_KF_JOIN, &join);

	*id = join.domain;
	return result;
}

int kf_claim(int fd, uint32_t mask, uint32_t lease_ms, uint32_t flags, uint32_t *epoch)
{
	struct flux_kf_claim claim = {.managed = {mask}, .lease_ms = lease_ms, .flags = flags};
	int result = kf_ioctl(fd, FLUX_KF_CLAIM, &claim);

	if (epoch)
		*epoch = claim.epoch;
	return result;
}

static void *map(int fd, off_t at, size_t bytes, int prot)
{
	void *where = mmap(NULL, bytes, prot, MAP_SHARED, fd, at);

	if (where == MAP_FAILED)
		FAIL("mmap at %#llx of %zu bytes: %s", (long long)at, bytes, strerror(errno));
	return where;
}

struct domain *domain_on(int fd, uint32_t id, bool writable)
{
	struct domain *domain = calloc(1, sizeof(*domain));

	domain->fd = fd;
	domain->id = id;
	domain->status = map(fd, 0, 4096, writable ? PROT_READ | PROT_WRITE : PROT_READ);
	domain->core = map(fd, FLUX_CORES_OFFSET, CORES_AREA, PROT_READ);
	domain->vcpu = map(fd, FLUX_TVCPUS_OFFSET, VCPUS_AREA, PROT_READ);
	domain->event = map(fd, FLUX_KF_EVENTS_OFFSET, EVENTS_AREA, PROT_READ);
	domain->epoch = domain->status->epoch;
	shown = domain;
	kf_dump = dump;
	return domain;
}

struct domain *domain_new(uint32_t mask)
{
	uint32_t id = 0, epoch = 0;
	int fd = kf_opened();
	struct domain *domain;

	if (cpus() < 3)
		kf_skip("needs 3 CPUs: two to move and one for the rest");
	OK(kf_join(fd, &id, 0));
	OK(kf_claim(fd, mask, 60000, 0, &epoch));
	domain = domain_on(fd, id, true);
	domain->epoch = epoch;
	return domain;
}

void domain_close(struct domain *domain)
{
	if (shown == domain)
		shown = NULL;
	munmap((void *)domain->status, 4096);
	munmap((void *)domain->core, CORES_AREA);
	munmap((void *)domain->vcpu, VCPUS_AREA);
	munmap((void *)domain->event, EVENTS_AREA);
	close(domain->fd);
	free(domain);
}

void domain_beat(struct domain *domain)
{
	domain->status->heartbeat++;
}

static void *keep(void *domain)
{
	for (;;) {
		domain_beat(domain);
		usleep(5000);
	}
	return NULL;
}

void domain_keep(struct domain *domain)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, keep, domain))
		FAIL("no thread");
	pthread_detach(thread);
}

int submit(struct domain *domain, struct flux_kf_command *commands, uint32_t count, uint32_t *failed)
{
	struct flux_kf_submit batch = {.commands = (uintptr_t)commands, .count = count};
	int result = kf_ioctl(domain->fd, FLUX_KF_SUBMIT, &batch);

	if (failed)
		*failed = batch.failed;
	return result;
}

int command(struct domain *domain, struct flux_kf_command one)
{
	uint32_t failed = 77;
	int result = submit(domain, &one, 1, &failed);

	/* Without a lease nothing of the batch is looked at. */
	if (result == -ESTALE)
		return result;
	OK(result);
	SAME(failed, (int)one.result < 0);
	return (int)one.result;
}

int grant(struct domain *domain, uint32_t core, uint32_t to)
{
	return command(domain, (struct flux_kf_command){.op = FLUX_OP_GRANT, .core = core, .to = to});
}

int park(struct domain *domain, uint32_t core, uint32_t from)
{
	return command(domain, (struct flux_kf_command){
				       .op = FLUX_OP_PARK, .core = core, .from = from, .deadline_us = 10000000});
}

int move(struct domain *domain, uint32_t core, uint32_t from, uint32_t to)
{
	return command(domain,
		       (struct flux_kf_command){
			       .op = FLUX_OP_MOVE, .core = core, .from = from, .to = to, .deadline_us = 10000000});
}

int ask(struct domain *domain, uint32_t core, uint32_t from, uint32_t to)
{
	return command(domain, (struct flux_kf_command){.op = to ? FLUX_OP_MOVE : FLUX_OP_PARK,
							.core = core,
							.from = from,
							.to = to,
							.flags = FLUX_FLAG_ASK_ONLY,
							.deadline_us = 10000000});
}

int heir(struct domain *domain, uint32_t core, uint32_t to)
{
	return command(domain, (struct flux_kf_command){.op = FLUX_OP_HEIR, .core = core, .to = to});
}

int force(struct domain *domain, uint32_t core, uint32_t from)
{
	return command(domain, (struct flux_kf_command){.op = FLUX_OP_FORCE,
							.core = core,
							.from = from,
							.generation = generation_of(domain, core)});
}

int preempt(struct domain *domain, uint32_t core, uint32_t from, uint32_t switches)
{
	return command(domain,
		       (struct flux_kf_command){.op = FLUX_OP_PREEMPT, .core = core, .from = from, .to = switches});
}

const volatile struct flux_vcpu *block_of(struct domain *domain, uint32_t handle)
{
	return &domain->vcpu[handle - 1];
}

uint64_t core_word(struct domain *domain, uint32_t core)
{
	return __atomic_load_n(&domain->core[core].word, __ATOMIC_ACQUIRE);
}

uint32_t state_of(struct domain *domain, uint32_t handle)
{
	return __atomic_load_n(&block_of(domain, handle)->word, __ATOMIC_ACQUIRE) & 0xff;
}

uint32_t core_of(struct domain *domain, uint32_t handle)
{
	return __atomic_load_n(&block_of(domain, handle)->word, __ATOMIC_ACQUIRE) >> 8 & 0xffff;
}

uint32_t owner_of(struct domain *domain, uint32_t core)
{
	return core_word(domain, core) & 0xffff;
}

uint32_t successor_of(struct domain *domain, uint32_t core)
{
	return core_word(domain, core) >> 16 & 0xffff;
}

uint32_t generation_of(struct domain *domain, uint32_t core)
{
	return core_word(domain, core) >> 32;
}

bool idle(struct domain *domain, uint32_t core)
{
	return (uint32_t)core_word(domain, core) == 0;
}

void until_running(struct domain *domain, uint32_t handle, uint32_t core)
{
	UNTIL(state_of(domain, handle) == FLUX_VCPU_RUNNING && core_of(domain, handle) == core);
	SAME(owner_of(domain, core), handle);
}

void until_parked(struct domain *domain, uint32_t handle)
{
	UNTIL(state_of(domain, handle) == FLUX_VCPU_PARKED);
}

void until_idle(struct domain *domain, uint32_t core)
{
	double end = kf_now() + kf_patience();

	while (!idle(domain, core)) {
		uint32_t owner = owner_of(domain, core);

		if (kf_now() > end)
			FAIL("core %u does not fall idle; owner %u", core, owner);
		if (owner && !successor_of(domain, core))
			park(domain, core, owner);
		kf_pause();
	}
}

uint64_t affinity_of(pid_t tid)
{
	cpu_set_t set;
	uint64_t mask = 0;

	if (sched_getaffinity(tid, sizeof(set), &set))
		return 0;
	for (int i = 0; i < 64; i++)
		mask |= (uint64_t) !!CPU_ISSET(i, &set) << i;
	return mask;
}

uint64_t online_mask(void)
{
	char text[256], *at = text;
	uint64_t mask = 0;

	if (kf_read_text("/sys/devices/system/cpu/online", text, sizeof(text)))
		FAIL("sysfs is not mounted");
	while (*at) {
		unsigned long from = strtoul(at, &at, 10), to = *at == '-' ? strtoul(at + 1, &at, 10) : from;

		for (; from <= to && from < 64; from++)
			mask |= 1ull << from;
		if (*at == ',')
			at++;
	}
	return mask;
}

uint32_t cpus(void)
{
	return (uint32_t)sysconf(_SC_NPROCESSORS_CONF);
}

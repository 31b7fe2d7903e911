// SPDX-License-Identifier: GPL-2.0
/* Who may do what: ksched's device was open to everybody, and its tids were taken on trust. */
#define GROUP "permissions"
#include "world.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define CAP_NICE 23

/* Runs `body` in a child; it ends well if `body` returns. */
static void in_child(void (*before)(void), void (*body)(void *), void *arg)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		before();
		body(arg);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

static void become_nobody(void)
{
	if (setgroups(0, NULL) || setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534))
		FAIL("cannot become nobody: %s", strerror(errno));
}

static void drop_nice(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &header, data))
		FAIL("capget: %s", strerror(errno));
	data[0].effective &= ~(1u << CAP_NICE);
	data[0].permitted &= ~(1u << CAP_NICE);
	data[0].inheritable &= ~(1u << CAP_NICE);
	if (syscall(SYS_capset, &header, data))
		FAIL("capset: %s", strerror(errno));
}

static void become_root_of_a_namespace(void)
{
	if (unshare(CLONE_NEWUSER))
		kf_skip("no user namespaces: %s", strerror(errno));
	kf_write_text("/proc/self/setgroups", "deny");
	kf_write_text("/proc/self/uid_map", "0 0 1");
	kf_write_text("/proc/self/gid_map", "0 0 1");
	SAME(getuid(), 0);
}

/* With a descriptor that was opened by somebody with rights. */
static void may_only_look(void *arg)
{
	uint32_t domain = *(uint32_t *)arg, id = 0;
	int fd = kf_opened();
	struct domain *seen;

	RESULT(kf_join(fd, &id, 0), -EPERM);
	id = domain;
	RESULT(kf_join(fd, &id, 0), -EPERM);
	OK(kf_join(fd, &id, FLUX_KF_JOIN_VIEW));
	seen = domain_on(fd, id, false);
	SAME(seen->status->leased, 1);
	SAME(seen->status->domain, domain);
}

CASE("the device is 0660 at most, and a stranger does not get it open")
{
	struct stat stat_of;

	CHECK(stat("/dev/kflux", &stat_of) == 0 && S_ISCHR(stat_of.st_mode));
	CHECK((stat_of.st_mode & 0007) == 0);
	CHECK((stat_of.st_mode & 0700) == 0600);
	pid_t pid = fork();
	if (pid == 0) {
		become_nobody();
		_exit(open("/dev/kflux", O_RDWR) < 0 && errno == EACCES ? 0 : 1);
	}
	int status;
	waitpid(pid, &status, 0);
	SAME(status, 0);
}

CASE("root without CAP_SYS_NICE: EPERM to join, a view is allowed")
{
	struct domain *domain = domain_new(MASK_AB);

	in_child(drop_nice, may_only_look, &domain->id);
}

CASE("root of a user namespace is nobody here: EPERM")
{
	struct domain *domain = domain_new(MASK_AB);

	in_child(become_root_of_a_namespace, may_only_look, &domain->id);
}

static void cannot_command(void *arg)
{
	struct domain *domain = arg;
	int fd;

	RESULT(kf_claim(domain->fd, MASK_AB, 1000, FLUX_KF_CLAIM_TAKEOVER, NULL), -EPERM);
	RESULT(vm_create(domain, 9, 1, &fd), -EPERM);
	SAME(domain->status->epoch, domain->epoch);
}

CASE("a privileged descriptor in unprivileged hands neither claims nor creates")
{
	struct domain *domain = domain_new(MASK_AB);

	in_child(drop_nice, cannot_command, domain);
	in_child(become_nobody, cannot_command, domain);
	in_child(become_root_of_a_namespace, cannot_command, domain);
}

CASE("a refusal for want of rights is logged, with the way to get them")
{
	struct kf_log log;
	struct domain *domain = domain_new(MASK_AB);
	bool found = false;

	kf_log_open(&log);
	if (log.fd < 0)
		kf_skip("no /dev/kmsg");
	/* The log line is rate limited: cases before this one may have used up its allowance. */
	double end = kf_now() + kf_patience();
	while (!found && kf_now() < end) {
		in_child(drop_nice, may_only_look, &domain->id);
		found = kf_log_has(&log, "CAP_SYS_NICE");
		if (!found)
			usleep(300000);
	}
	CHECK(found);
}

static void runs_as_vcpu(void *arg)
{
	struct vm *vm = vm_on(*(int *)arg, 0, 1);
	struct flux_kf_turn turn;

	OK(vm_register(vm, 0, 0));
	OK(vm_park(vm, 0, FLUX_HOW_ENTRY, &turn));
	SAME(turn.reason, FLUX_KF_GRANTED);
	SAME(turn.core, CORE_A);
	SAME(sched_getcpu(), CORE_A);
}

CASE("a VMM needs no right but its descriptor")
{
	struct domain *domain = domain_new(MASK_AB);
	int fd, status;
	pid_t pid;

	OK(vm_create(domain, 0, 1, &fd));
	pid = fork();
	if (pid == 0) {
		become_nobody();
		runs_as_vcpu(&fd);
		_exit(0);
	}
	UNTIL(grant(domain, CORE_A, handle(0, 0)) == 0);
	waitpid(pid, &status, 0);
	SAME(status, 0);
	UNTIL(idle(domain, CORE_A));
}

CASE("a VM's descriptor is bound to the process that registered first")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_new(domain, 0, 4);
	int status;

	OK(vm_register(vm, 0, 0));
	pid_t pid = fork();
	if (pid == 0) {
		struct flux_kf_turn turn;

		RESULT(vm_register(vm, 1, 0), -EPERM);
		RESULT(vm_park(vm, 0, FLUX_HOW_ENTRY, &turn), -EPERM);
		RESULT(vm_run(vm, 0, &turn), -EPERM);
		RESULT(vm_unregister(vm, 0), -EPERM);
		RESULT(kf_ioctl(vm->fd, FLUX_KF_END, NULL), -EPERM);
		RESULT(kf_ioctl(vm->fd, FLUX_KF_UNMANAGE, NULL), -EPERM);
		RESULT(kf_ioctl(vm->fd, FLUX_KF_MANAGE, NULL), -EPERM);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	SAME(status, 0);
	SAME(state_of(domain, handle(0, 0)), FLUX_VCPU_PARKED);
	/* The child's end closed its copy of the descriptor: the VM is still there. */
	SAME(domain->status->vms, 1);
}

CASE("the status pages cannot be written: a write faults")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_new(domain, 0, 1);
	volatile uint32_t *const targets[] = {(uint32_t *)domain->core, (uint32_t *)domain->vcpu,
					      (uint32_t *)domain->event, (uint32_t *)vm->core};

	for (int i = 0; i < 4; i++) {
		int status;
		pid_t pid = fork();

		if (pid == 0) {
			*targets[i] = 1;
			_exit(0);
		}
		waitpid(pid, &status, 0);
		CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
	}
}

CASE("what a VM writes into its page is not believed")
{
	struct domain *domain = domain_new(MASK_AB);
	struct vm *vm = vm_with_workers(domain, 0, 2);
	uint32_t a = handle(0, 0), b = handle(0, 1);

	/* A VM that says it is parked, running, elsewhere: the next publication says how it is. */
	vm->page[1].word = FLUX_VCPU_RUNNING | CORE_B << 8;
	vm->page[1].park_req = 77;
	vm->page[1].tid = 1;
	vm->page[1].pinned = 0;
	OK(grant(domain, CORE_A, a));
	until_running(domain, a, CORE_A);
	/* Its thread would believe what stands there, and leave. */
	worker_be(vm->worker[0], STUBBORN);
	vm->page[0].word = FLUX_VCPU_PARKED | FLUX_CORE_NONE << 8;
	RESULT(grant(domain, CORE_B, a), -EBUSY);
	CHECK(idle(domain, CORE_B));
	OK(grant(domain, CORE_B, b));
	until_running(domain, b, CORE_B);
	SAME(atomic_load(&vm->worker[1]->error), 0);
	SAME(owner_of(domain, CORE_A), a);
}

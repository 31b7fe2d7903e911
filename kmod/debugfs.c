// SPDX-License-Identifier: GPL-2.0
/* /sys/kernel/debug/kflux/domains: everything there is, as a table for people. */
#include <linux/debugfs.h>
#include <linux/rcupdate.h>
#include <linux/seq_file.h>

#include "kf.h"

static struct dentry *folder;

static const char *state_name(u32 state)
{
	static const char *const names[] = {
		[FLUX_VCPU_NEW] = "new",
		[FLUX_VCPU_PARKED] = "parked",
		[FLUX_VCPU_GRANTING] = "granting",
		[FLUX_VCPU_RUNNING] = "running",
		[FLUX_VCPU_CEDING] = "ceding",
		[FLUX_VCPU_BLOCKED] = "blocked",
		[FLUX_VCPU_UNMANAGED] = "unmanaged",
		[FLUX_VCPU_DEAD] = "dead",
	};

	return state < ARRAY_SIZE(names) ? names[state] : "?";
}

static const char *host_name(u32 host)
{
	return host == FLUX_HOST_ON ? "on" : host == FLUX_HOST_BLOCKED ? "blocked" : "preempted";
}

/* "3.0" for vCPU 0 of slot 3. */
static void show_handle(struct seq_file *m, u32 handle)
{
	if (handle == FLUX_HANDLE_NONE)
		seq_puts(m, "      -");
	else if (handle == FLUX_HANDLE_IDLE)
		seq_puts(m, "   idle");
	else
		seq_printf(m, " %4u.%-2u", (handle - 1) / FLUX_MAX_VCPUS,
			   (handle - 1) % FLUX_MAX_VCPUS);
}

static void show_cores(struct seq_file *m, struct kf_domain *domain)
{
	unsigned long flags;
	u32 i;

	seq_puts(m, "  core   owner    next    heir generation  switches    yields    lent   taken  forced\n");
	for (i = 0; i < domain->cores; i++) {
		struct kf_core *c = &domain->core[i];
		struct flux_core own;
		bool claimed;

		raw_spin_lock_irqsave(&c->lock, flags);
		own = c->own;
		claimed = c->claimed;
		raw_spin_unlock_irqrestore(&c->lock, flags);
		if (!claimed)
			continue;
		seq_printf(m, "  %4u ", i);
		show_handle(m, own.word & 0xffff);
		show_handle(m, own.word >> 16 & 0xffff);
		show_handle(m, own.heir);
		seq_printf(m, " %10u %9u %9u %7u %7u %7u%s\n", (u32)(own.word >> 32), own.switches,
			   own.yields, own.lent, own.taken, own.forced,
			   own.flags & FLUX_CORE_OFFLINE ? " offline" : "");
	}
}

static void show_vm(struct seq_file *m, struct kf_vm *vm)
{
	unsigned long flags;
	u32 i;

	for (i = 0; i < vm->count; i++) {
		struct kf_vcpu *v = &vm->vcpu[i];
		struct flux_vcpu own;
		u32 core;

		raw_spin_lock_irqsave(&v->lock, flags);
		own = v->own;
		raw_spin_unlock_irqrestore(&v->lock, flags);
		core = kf_core_in(own.word);
		seq_puts(m, "  ");
		show_handle(m, v->handle);
		seq_printf(m, " %-9s %5d %9s %7u %9u %9u %9u %9u %9u %7u\n",
			   state_name(kf_state(own.word)), core == FLUX_CORE_NONE ? -1 : (int)core,
			   host_name(own.host), own.tid, own.grants, own.parks, own.yields,
			   own.kicks, own.stale, own.blocks);
	}
}

static void show_vms(struct seq_file *m, struct kf_domain *domain)
{
	struct kf_vm *vm;
	u32 slot;

	seq_puts(m, "     vCPU state      core      host  thread    grants     parks    yields     kicks     stale  blocks\n");
	for (slot = 0; slot < FLUX_MAX_VMS; slot++) {
		/* Nothing here sleeps. */
		rcu_read_lock();
		vm = rcu_dereference(domain->vm[slot]);
		if (vm)
			show_vm(m, vm);
		rcu_read_unlock();
	}
}

static int domains_show(struct seq_file *m, void *unused)
{
	struct kf_domain *domain;
	unsigned long id = 0;

	while ((domain = kf_domain_next(&id))) {
		struct flux_kf_status own;
		unsigned long flags;

		raw_spin_lock_irqsave(&domain->event_lock, flags);
		own = domain->own;
		raw_spin_unlock_irqrestore(&domain->event_lock, flags);
		seq_printf(m, "domain %u: lease %s, epoch %u, %u ms; %u VMs\n", own.domain,
			   own.leased ? "held" : "free", own.epoch, own.lease_ms, own.vms);
		seq_printf(m, "  %llu commands, %llu refused, %llu switches, %llu kicks, %llu events\n",
			   own.commands, own.refused, own.switches, own.kicks, own.events);
		show_cores(m, domain);
		show_vms(m, domain);
		kf_domain_put(domain);
	}
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(domains);

/* Without debugfs there is no table, and nothing else is missing: no errors. */
void kf_debugfs_init(void)
{
	folder = debugfs_create_dir("kflux", NULL);
	debugfs_create_file("domains", 0400, folder, NULL, &domains_fops);
}

void kf_debugfs_exit(void)
{
	debugfs_remove(folder);
}

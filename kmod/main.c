// SPDX-License-Identifier: GPL-2.0
/* The module: its device, its attributes, its parameters, its beginning and its end. */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/capability.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/ratelimit.h>
#include <linux/rcupdate.h>
#include <linux/sysfs.h>

#include "kf.h"
#include "version.h"

/*
 * Generations and request numbers are compared by their difference and wrap. Cores begin near
 * the wrap, so that whoever compares them otherwise finds out soon.
 */
unsigned int kf_first_generation = 0xfffffff0;
module_param_named(first_generation, kf_first_generation, uint, 0444);
MODULE_PARM_DESC(first_generation, "generation that the cores of a new domain begin with");

unsigned int kf_first_park_req;
module_param_named(first_park_req, kf_first_park_req, uint, 0444);
MODULE_PARM_DESC(first_park_req, "number of park requests that new vCPUs begin with (tests: near the wrap)");

struct workqueue_struct *kf_wq;
struct workqueue_struct *kf_lease_wq;

/* Whether current may do what commands other people's threads; if not, how it could. */
bool kf_allowed(const char *what)
{
	static DEFINE_RATELIMIT_STATE(limit, 5 * HZ, 3);

	if (capable(CAP_SYS_NICE))
		return true;
	/* Nobody can fill the log by being refused. */
	ratelimit_set_flags(&limit, RATELIMIT_MSG_ON_RELEASE);
	if (__ratelimit(&limit))
		pr_info("%s of %s[%d] was refused: it takes CAP_SYS_NICE in the initial user namespace. Run it as root, or give its service AmbientCapabilities=CAP_SYS_NICE\n",
			what, current->comm, task_pid_nr(current));
	return false;
}

static ssize_t abi_show(struct device *device, struct device_attribute *attribute, char *text)
{
	return sysfs_emit(text, "%u.%u\n", FLUX_ABI_MAJOR, FLUX_ABI_MINOR);
}
static DEVICE_ATTR_RO(abi);

static ssize_t version_show(struct device *device, struct device_attribute *attribute, char *text)
{
	return sysfs_emit(text, "%s\n", KF_VERSION);
}
static DEVICE_ATTR_RO(version);

static struct attribute *kf_attrs[] = {
	&dev_attr_abi.attr,
	&dev_attr_version.attr,
	NULL,
};
ATTRIBUTE_GROUPS(kf);

static struct miscdevice kf_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "kflux",
	.fops = &kf_fops,
	.groups = kf_groups,
	.mode = 0660,
};

static int __init kf_init(void)
{
	int result = -ENOMEM;

	/* Unbound: a work must not wait for the very core that it is to free. */
	kf_wq = alloc_workqueue("kflux", WQ_UNBOUND | WQ_HIGHPRI, 0);
	if (!kf_wq)
		return result;
	/* Freezable: while user space is frozen no heart can beat. */
	kf_lease_wq = alloc_workqueue("kflux-lease", WQ_UNBOUND | WQ_FREEZABLE, 0);
	if (!kf_lease_wq)
		goto free_wq;
	result = kf_claims_init();
	if (result)
		goto free_lease_wq;
	preempt_notifier_inc();
	kf_debugfs_init();
	result = misc_register(&kf_device);
	if (result)
		goto undo;
	pr_info("version %s, ABI %u.%u\n", KF_VERSION, FLUX_ABI_MAJOR, FLUX_ABI_MINOR);
	return 0;

undo:
	kf_debugfs_exit();
	preempt_notifier_dec();
	kf_claims_exit();
free_lease_wq:
	destroy_workqueue(kf_lease_wq);
free_wq:
	destroy_workqueue(kf_wq);
	return result;
}

/* No file is open, no VM exists and no thread is registered: each holds the module. */
static void __exit kf_exit(void)
{
	misc_deregister(&kf_device);
	kf_debugfs_exit();
	/* VMs and domains that are just being freed: a VM's work frees its domain. */
	destroy_workqueue(kf_wq);
	destroy_workqueue(kf_lease_wq);
	preempt_notifier_dec();
	kf_claims_exit();
	/* kfree_rcu() needs no module, but says so nowhere. */
	rcu_barrier();
}

module_init(kf_init);
module_exit(kf_exit);

MODULE_DESCRIPTION("kFlux: cores change hands between the vCPUs of VMs inside the kernel");
MODULE_AUTHOR("The HyperFlux authors");
MODULE_LICENSE("GPL");
MODULE_VERSION(KF_VERSION);

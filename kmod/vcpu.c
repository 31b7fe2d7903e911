// SPDX-License-Identifier: GPL-2.0
/* A thread becomes a vCPU, and ceases to be one: by UNREGISTER or by its death. */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/kvm.h>
#include <linux/magic.h>
#include <linux/module.h>
#include <linux/sched/mm.h>
#include <linux/sched/task.h>
#include <linux/security.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "kf.h"

void kf_vcpu_init(struct kf_vcpu *v, struct kf_vm *vm, u32 id)
{
	raw_spin_lock_init(&v->lock);
	init_waitqueue_head(&v->place_wait);
	v->vm = vm;
	v->id = id;
	v->handle = vm->slot * FLUX_MAX_VCPUS + id + 1;
	v->line = (struct flux_vcpu *)page_address(vm->page) + id;
	v->place = KF_AT_HOME;
	v->placed = KF_AT_HOME;
	v->exit_irq = IRQ_WORK_INIT_HARD(kf_exit_irq);
	INIT_WORK(&v->exit_work, kf_exit_work);
	preempt_notifier_init(&v->notifier, &kf_preempt_ops);
	kf_show(v, word, FLUX_VCPU_NEW | FLUX_CORE_NONE << 8);
	kf_show(v, pinned, FLUX_CORE_NONE);
	kf_show(v, park_req, kf_first_park_req);
}

/* With the last reference to the VM. */
void kf_vcpu_free(struct kf_vcpu *v)
{
	if (!v->task)
		return;
	put_task_struct(v->task);
	free_cpumask_var(v->home);
	free_cpumask_var(v->scratch);
}

/* Whether current is a vCPU already, of whichever VM: a thread has one context. */
static bool is_vcpu(void)
{
	struct preempt_notifier *notifier;

	/* Changed by current itself only. */
	hlist_for_each_entry(notifier, &current->preempt_notifiers, link)
		if (notifier->ops == &kf_preempt_ops)
			return true;
	return false;
}

/*
 * A KVM vCPU's file, known by the name that KVM gives it: its operations are not exported. The
 * security module is asked now, and not each time.
 */
static struct file *kvm_vcpu_get(u32 fd)
{
	static const char name[] = "kvm-vcpu:";
	struct file *file = fget(fd);
	struct dentry *dentry;
	int result = -EINVAL;

	if (!file)
		return ERR_PTR(-EINVAL);
	dentry = file->f_path.dentry;
	if (dentry->d_sb->s_magic == ANON_INODE_FS_MAGIC && file->f_op->unlocked_ioctl &&
	    !strncmp((const char *)dentry->d_name.name, name, sizeof(name) - 1))
		result = security_file_ioctl(file, KVM_RUN, 0);
	if (!result)
		return file;
	fput(file);
	return ERR_PTR(result);
}

static int check_address(u64 address)
{
	if (address % sizeof(u32))
		return -EINVAL;
	/* Anywhere in user space; whether something is there is seen when it is read. */
	if (address && !access_ok((void __user *)(uintptr_t)address, sizeof(u32)))
		return -EFAULT;
	return 0;
}

/* The VM is bound to the process of the thread that registers first. */
static int may_register(struct kf_vcpu *v)
{
	struct kf_vm *vm = v->vm;

	lockdep_assert_held(&vm->domain->mutex);
	if (vm->mm && vm->mm != current->mm)
		return -EPERM;
	if (vm->ended)
		return -ESRCH;
	if (kf_state(v->own.word) != FLUX_VCPU_NEW || is_vcpu())
		return -EEXIST;
	return 0;
}

/* Nothing can fail any more: the thread is the vCPU. */
static void begin(struct kf_vcpu *v, const struct flux_kf_register *arg)
{
	/* Without an arbiter it would wait for ever: then it starts unmanaged, and is told. */
	bool leased = v->vm->domain->holder;
	bool managed = leased && !(arg->flags & FLUX_KF_REGISTER_UNMANAGED);
	unsigned long flags;

	if (!v->vm->mm) {
		mmgrab(current->mm);
		WRITE_ONCE(v->vm->mm, current->mm);
	}
	v->critical = (u32 __user *)(uintptr_t)arg->critical;
	v->held_hint = (u32 __user *)(uintptr_t)arg->held_hint;
	v->registered = true;
	/* Held until the notifier can fire no more: by kf_unregister() or kf_exit_work(). */
	kf_vm_get(v->vm);
	__module_get(THIS_MODULE);
	preempt_notifier_register(&v->notifier);

	raw_spin_lock_irqsave(&v->lock, flags);
	v->task = get_task_struct(current);
	kf_show(v, tid, task_pid_nr(current));
	v->news = !leased;
	kf_set_word(v, managed ? FLUX_VCPU_PARKED : FLUX_VCPU_UNMANAGED, NULL);
	kf_event_vcpu(v, managed ? FLUX_KF_EV_PARKED : FLUX_KF_EV_UNMANAGED);
	raw_spin_unlock_irqrestore(&v->lock, flags);
}

static int prepare(struct kf_vcpu *v, const struct flux_kf_register *arg)
{
	int result = -ENOMEM;

	if (!alloc_cpumask_var(&v->home, GFP_KERNEL_ACCOUNT))
		return result;
	if (!alloc_cpumask_var(&v->scratch, GFP_KERNEL_ACCOUNT))
		goto free_home;
	if (arg->kvm_fd != U32_MAX) {
		v->kvm = kvm_vcpu_get(arg->kvm_fd);
		if (IS_ERR(v->kvm)) {
			result = PTR_ERR(v->kvm);
			v->kvm = NULL;
			goto free_scratch;
		}
	}
	cpumask_copy(v->home, &current->cpus_mask);
	return 0;

free_scratch:
	free_cpumask_var(v->scratch);
free_home:
	free_cpumask_var(v->home);
	return result;
}

/* REGISTER. */
int kf_register(struct kf_vm *vm, const struct flux_kf_register *arg)
{
	struct kf_vcpu *v = &vm->vcpu[arg->vcpu];
	int result = check_address(arg->critical) ?: check_address(arg->held_hint);

	if (result)
		return result;
	if (arg->flags & ~FLUX_KF_REGISTER_UNMANAGED || arg->reserved)
		return -EINVAL;
	/* Against the VM's end and the lease's, which look at every vCPU. */
	mutex_lock(&vm->domain->mutex);
	result = may_register(v);
	if (!result)
		result = prepare(v, arg);
	if (!result)
		begin(v, arg);
	mutex_unlock(&vm->domain->mutex);
	return result;
}

/* The notifier fires no more. What is left of the vCPU goes with the VM. */
static void release(struct kf_vcpu *v)
{
	struct kf_vm *vm = v->vm;

	if (v->kvm)
		fput(v->kvm);
	v->kvm = NULL;
	kf_vm_end_if_defunct(vm);
	kf_vm_put(vm);
	/* The module's end waits for the work and the ioctls that this is called from. */
	module_put(THIS_MODULE);
}

/* UNREGISTER, by the thread itself. */
int kf_unregister(struct kf_vcpu *v)
{
	kf_withdraw(v, FLUX_VCPU_DEAD);
	/* Nobody moves the thread once it is its own master again. */
	kf_place_settle(v);
	preempt_notifier_unregister(&v->notifier);
	v->registered = false;
	release(v);
	return 0;
}

/* The thread has been switched out for the last time. */
void kf_exit_irq(struct irq_work *work)
{
	queue_work(kf_wq, &container_of(work, struct kf_vcpu, exit_irq)->exit_work);
}

void kf_exit_work(struct work_struct *work)
{
	struct kf_vcpu *v = container_of(work, struct kf_vcpu, exit_work);

	/* The irq_work is in this vCPU, and still being left where it ran. */
	irq_work_sync(&v->exit_irq);
	kf_withdraw(v, FLUX_VCPU_DEAD);
	release(v);
}

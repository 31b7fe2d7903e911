// SPDX-License-Identifier: GPL-2.0
/* The ioctls of a VM's descriptor. */
#include <linux/nospec.h>
#include <linux/uaccess.h>

#include "kf.h"

/* The VM's vCPU that current is. */
static struct kf_vcpu *own_vcpu(struct kf_vm *vm, u32 id)
{
	struct kf_vcpu *v;
	struct task_struct *task;

	if (id >= vm->count)
		return ERR_PTR(-ESRCH);
	v = &vm->vcpu[array_index_nospec(id, vm->count)];
	/* Compared only. What is current's cannot change while current is here. */
	task = READ_ONCE(v->task);
	if (!task)
		return ERR_PTR(-ESRCH);
	if (task != current)
		return ERR_PTR(-EPERM);
	return v->registered ? v : ERR_PTR(-ESRCH);
}

static long do_register(struct kf_vm *vm, void __user *user)
{
	struct flux_kf_register arg;

	if (copy_from_user(&arg, user, sizeof(arg)))
		return -EFAULT;
	if (arg.vcpu >= vm->count)
		return -ESRCH;
	arg.vcpu = array_index_nospec(arg.vcpu, vm->count);
	return kf_register(vm, &arg);
}

static long do_unregister(struct kf_vm *vm, void __user *user)
{
	struct flux_kf_vcpu arg;
	struct kf_vcpu *v;

	if (copy_from_user(&arg, user, sizeof(arg)))
		return -EFAULT;
	if (arg.reserved[0] || arg.reserved[1] || arg.reserved[2])
		return -EINVAL;
	v = own_vcpu(vm, arg.vcpu);
	return IS_ERR(v) ? PTR_ERR(v) : kf_unregister(v);
}

/* PARK and RUN. */
static long do_turn(struct kf_vm *vm, void __user *user, bool run)
{
	struct flux_kf_turn turn;
	struct kf_vcpu *v;
	long result;

	if (copy_from_user(&turn, user, sizeof(turn)))
		return -EFAULT;
	v = own_vcpu(vm, turn.vcpu);
	if (IS_ERR(v))
		return PTR_ERR(v);
	if (!run && (turn.how < FLUX_HOW_YIELD || turn.how > FLUX_HOW_ENTRY))
		return -EINVAL;
	turn.reason = 0;
	turn.core = FLUX_CORE_NONE;
	turn.kicks = 0;
	turn.left = 0;
	turn.guest_tsc = 0;
	turn.seen_tsc = 0;
	result = run ? kf_run(v, &turn) : kf_park(v, &turn);
	/* An error of KVM_RUN comes with the same report as its exits. */
	if ((!result || turn.reason) && copy_to_user(user, &turn, sizeof(turn)))
		return -EFAULT;
	return result;
}

static long call(struct kf_vm *vm, unsigned int cmd, void __user *user)
{
	/* Constant once it is set, and current's own cannot go away: compared only. */
	struct mm_struct *mm = READ_ONCE(vm->mm);
	bool foreign = mm && mm != current->mm;

	switch (cmd) {
	case FLUX_KF_REGISTER:
		return do_register(vm, user);
	case FLUX_KF_PARK:
		return foreign ? -EPERM : do_turn(vm, user, false);
	case FLUX_KF_RUN:
		return foreign ? -EPERM : do_turn(vm, user, true);
	case FLUX_KF_UNREGISTER:
		return foreign ? -EPERM : do_unregister(vm, user);
	case FLUX_KF_MANAGE:
		return foreign ? -EPERM : kf_vm_manage(vm);
	case FLUX_KF_UNMANAGE:
		return foreign ? -EPERM : kf_vm_unmanage(vm);
	case FLUX_KF_END:
		if (foreign)
			return -EPERM;
		kf_vm_end(vm);
		return 0;
	default:
		return -ENOTTY;
	}
}

long kf_vm_ioctl(struct file *filp, unsigned int cmd, unsigned long arg)
{
	struct kf_vm *vm = filp->private_data;
	void __user *user = (void __user *)arg;
	int result;

	if (cmd == FLUX_KF_HELLO) {
		result = kf_hello(user);
		if (!result)
			WRITE_ONCE(vm->hello, true);
		return result;
	}
	if (!READ_ONCE(vm->hello))
		return -EPROTO;
	return call(vm, cmd, user);
}

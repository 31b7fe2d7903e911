// SPDX-License-Identifier: GPL-2.0
/* VMs: descriptors, and the places for their vCPUs. */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/nospec.h>
#include <linux/rcupdate.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "kf.h"

void kf_vm_get(struct kf_vm *vm)
{
	refcount_inc(&vm->refs);
}

static void free_work(struct work_struct *work)
{
	struct kf_vm *vm = container_of(work, struct kf_vm, free_work);
	u32 i;

	for (i = 0; i < vm->count; i++)
		kf_vcpu_free(&vm->vcpu[i]);
	if (vm->mm)
		mmdrop(vm->mm);
	put_page(vm->page);
	kf_domain_put(vm->domain);
	/* kf_vcpu_find() may just be looking at the count of references. */
	kfree_rcu(vm, rcu);
}

/* From anywhere: what has to sleep is left to a work. */
void kf_vm_put(struct kf_vm *vm)
{
	if (refcount_dec_and_test(&vm->refs))
		queue_work(kf_wq, &vm->free_work);
}

/* The vCPU of a handle with a reference to its VM, or -EINVAL, -ESRCH. */
struct kf_vcpu *kf_vcpu_find(struct kf_domain *domain, u32 handle)
{
	struct kf_vm *vm;
	u32 slot, id;

	if (handle == FLUX_HANDLE_NONE || handle > FLUX_MAX_VMS * FLUX_MAX_VCPUS)
		return ERR_PTR(-EINVAL);
	slot = array_index_nospec((handle - 1) / FLUX_MAX_VCPUS, FLUX_MAX_VMS);
	id = (handle - 1) % FLUX_MAX_VCPUS;
	rcu_read_lock();
	vm = rcu_dereference(domain->vm[slot]);
	if (vm && (id >= vm->count || !refcount_inc_not_zero(&vm->refs)))
		vm = NULL;
	rcu_read_unlock();
	return vm ? &vm->vcpu[array_index_nospec(id, vm->count)] : ERR_PTR(-ESRCH);
}

/* Whether the handle, which is one, names a vCPU of a VM that has not ended. */
bool kf_vcpu_exists(struct kf_domain *domain, u32 handle)
{
	u32 slot = array_index_nospec((handle - 1) / FLUX_MAX_VCPUS, FLUX_MAX_VMS);
	struct kf_vm *vm;
	bool exists;

	rcu_read_lock();
	vm = rcu_dereference(domain->vm[slot]);
	exists = vm && (handle - 1) % FLUX_MAX_VCPUS < vm->count;
	rcu_read_unlock();
	return exists;
}

/* Every vCPU is DEAD, the slot is free. */
static void vm_end(struct kf_vm *vm)
{
	struct kf_domain *domain = vm->domain;
	u32 i;

	lockdep_assert_held(&domain->mutex);
	if (vm->ended)
		return;
	vm->ended = true;
	RCU_INIT_POINTER(domain->vm[vm->slot], NULL);
	kf_show(domain, vms, domain->own.vms - 1);
	for (i = 0; i < vm->count; i++)
		kf_withdraw(&vm->vcpu[i], FLUX_VCPU_DEAD);
}

void kf_vm_end(struct kf_vm *vm)
{
	mutex_lock(&vm->domain->mutex);
	vm_end(vm);
	mutex_unlock(&vm->domain->mutex);
}

/*
 * Whether the VM's process is gone although somebody, a child of it say, still has the
 * descriptor: no thread of it can ever register again, and those that had are dead.
 */
static bool is_defunct(struct kf_vm *vm)
{
	u32 i;

	if (!vm->mm || atomic_read(&vm->mm->mm_users))
		return false;
	for (i = 0; i < vm->count; i++) {
		u32 state = kf_state(READ_ONCE(vm->vcpu[i].own.word));

		if (state != FLUX_VCPU_NEW && state != FLUX_VCPU_DEAD)
			return false;
	}
	return true;
}

void kf_vm_end_if_defunct(struct kf_vm *vm)
{
	mutex_lock(&vm->domain->mutex);
	if (is_defunct(vm))
		vm_end(vm);
	mutex_unlock(&vm->domain->mutex);
}

/* The last copy of the descriptor is closed. */
static int vm_release(struct inode *inode, struct file *filp)
{
	struct kf_vm *vm = filp->private_data;

	kf_vm_end(vm);
	kf_vm_put(vm);
	return 0;
}

const struct file_operations kf_vm_fops = {
	.owner = THIS_MODULE,
	.release = vm_release,
	.unlocked_ioctl = kf_vm_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.mmap = kf_vm_mmap,
};

static int map_release(struct inode *inode, struct file *filp)
{
	kf_vm_put(filp->private_data);
	return 0;
}

static const struct file_operations map_fops = {
	.owner = THIS_MODULE,
	.release = map_release,
};

/*
 * A map keeps its file, and the VM's end is that of its descriptor: so a map gets a file of
 * its own, which keeps the VM's memory and nothing else.
 */
int kf_vm_detach_map(struct kf_vm *vm, struct vm_area_struct *vma)
{
	struct file *file;

	kf_vm_get(vm);
	file = anon_inode_getfile("kflux-map", &map_fops, vm, O_RDWR);
	if (IS_ERR(file)) {
		kf_vm_put(vm);
		return PTR_ERR(file);
	}
	vma_set_file(vma, file);
	fput(file);
	return 0;
}

static struct kf_vm *vm_new(struct kf_domain *domain, const struct flux_kf_vm *arg)
{
	struct kf_vm *vm = kzalloc(struct_size(vm, vcpu, arg->vcpus), GFP_KERNEL_ACCOUNT);
	u32 i;

	if (!vm)
		return NULL;
	vm->page = kf_page_alloc();
	if (!vm->page) {
		kfree(vm);
		return NULL;
	}
	refcount_set(&vm->refs, 1);
	refcount_inc(&domain->refs);
	vm->domain = domain;
	vm->slot = arg->slot;
	vm->count = arg->vcpus;
	INIT_WORK(&vm->free_work, free_work);
	for (i = 0; i < vm->count; i++)
		kf_vcpu_init(&vm->vcpu[i], vm, i);
	return vm;
}

static int take_slot(struct kf_vm *vm)
{
	struct kf_domain *domain = vm->domain;
	struct kf_vm *old;
	int result = 0;

	mutex_lock(&domain->mutex);
	old = rcu_dereference_protected(domain->vm[vm->slot], lockdep_is_held(&domain->mutex));
	if (old && is_defunct(old))
		vm_end(old);
	else if (old)
		result = -EEXIST;
	if (!result) {
		rcu_assign_pointer(domain->vm[vm->slot], vm);
		kf_show(domain, vms, domain->own.vms + 1);
		kf_pages_replace_slot(domain, vm->slot, vm->page);
	}
	mutex_unlock(&domain->mutex);
	return result;
}

/* VM_CREATE. */
int kf_vm_create(struct kf_domain *domain, struct flux_kf_vm __user *user)
{
	struct flux_kf_vm arg;
	struct file *file;
	struct kf_vm *vm;
	int fd, result;

	if (copy_from_user(&arg, user, sizeof(arg)))
		return -EFAULT;
	if (arg.slot >= FLUX_MAX_VMS || !arg.vcpus || arg.vcpus > FLUX_MAX_VCPUS || arg.flags)
		return -EINVAL;
	arg.slot = array_index_nospec(arg.slot, FLUX_MAX_VMS);
	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		return fd;
	vm = vm_new(domain, &arg);
	if (!vm) {
		result = -ENOMEM;
		goto put_fd;
	}
	file = anon_inode_getfile("kflux-vm", &kf_vm_fops, vm, O_RDWR);
	if (IS_ERR(file)) {
		result = PTR_ERR(file);
		vm->ended = true;
		kf_vm_put(vm);
		goto put_fd;
	}
	/* From here on the file's end is the VM's. One without a slot has ended already. */
	result = take_slot(vm);
	if (result)
		vm->ended = true;
	arg.fd = fd;
	if (!result && copy_to_user(user, &arg, sizeof(arg)))
		result = -EFAULT;
	if (result) {
		fput(file);
		goto put_fd;
	}
	fd_install(fd, file);
	return 0;

put_fd:
	put_unused_fd(fd);
	return result;
}

// SPDX-License-Identifier: GPL-2.0
/* Open files of /dev/kflux and their ioctls: arguments are copied once, then checked. */
#include <linux/ioctl.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "kf.h"
#include "version.h"

static_assert(_IOWR(0xb5, 0x01, struct flux_kf_hello) == FLUX_KF_HELLO);
static_assert(_IOWR(0xb5, 0x02, struct flux_kf_join) == FLUX_KF_JOIN);
static_assert(_IOWR(0xb5, 0x03, struct flux_kf_claim) == FLUX_KF_CLAIM);
static_assert(_IO(0xb5, 0x04) == FLUX_KF_RELEASE);
static_assert(_IOWR(0xb5, 0x05, struct flux_kf_submit) == FLUX_KF_SUBMIT);
static_assert(_IOWR(0xb5, 0x06, struct flux_kf_vm) == FLUX_KF_VM_CREATE);
static_assert(_IOWR(0xb5, 0x10, struct flux_kf_register) == FLUX_KF_REGISTER);
static_assert(_IOWR(0xb5, 0x11, struct flux_kf_turn) == FLUX_KF_PARK);
static_assert(_IOWR(0xb5, 0x12, struct flux_kf_turn) == FLUX_KF_RUN);
static_assert(_IOWR(0xb5, 0x13, struct flux_kf_vcpu) == FLUX_KF_UNREGISTER);
static_assert(_IO(0xb5, 0x14) == FLUX_KF_MANAGE);
static_assert(_IO(0xb5, 0x15) == FLUX_KF_UNMANAGE);
static_assert(_IO(0xb5, 0x16) == FLUX_KF_END);

/* HELLO, on any descriptor. The answer says who is here, also to those who are refused. */
int kf_hello(struct flux_kf_hello __user *user)
{
	struct flux_kf_hello hello;
	bool known;

	if (copy_from_user(&hello, user, sizeof(hello)))
		return -EFAULT;
	known = hello.abi_major == FLUX_ABI_MAJOR;
	memset(&hello, 0, sizeof(hello));
	hello.abi_major = FLUX_ABI_MAJOR;
	hello.abi_minor = FLUX_ABI_MINOR;
	strscpy(hello.version, KF_VERSION, sizeof(hello.version));
	if (copy_to_user(user, &hello, sizeof(hello)))
		return -EFAULT;
	return known ? 0 : -EPROTO;
}

static int join(struct kf_file *file, struct flux_kf_join __user *user)
{
	struct kf_domain *domain;
	struct flux_kf_join arg;
	bool view;

	if (copy_from_user(&arg, user, sizeof(arg)))
		return -EFAULT;
	if (arg.flags & ~FLUX_KF_JOIN_VIEW || arg.reserved[0] || arg.reserved[1])
		return -EINVAL;
	view = arg.flags & FLUX_KF_JOIN_VIEW;
	if (view && !arg.domain)
		return -EINVAL;
	if (!view && !kf_allowed("JOIN"))
		return -EPERM;
	lockdep_assert_held(&file->mutex);
	if (file->domain)
		return -EBUSY;
	if (arg.domain) {
		domain = kf_domain_find(arg.domain);
		if (!domain)
			return -ENOENT;
	} else {
		domain = kf_domain_new();
		if (IS_ERR(domain))
			return PTR_ERR(domain);
	}
	arg.domain = domain->id;
	if (copy_to_user(user, &arg, sizeof(arg))) {
		kf_domain_put(domain);
		return -EFAULT;
	}
	mutex_lock(&domain->mutex);
	list_add(&file->joined, &domain->files);
	mutex_unlock(&domain->mutex);
	file->view = view;
	/* Pairs with the acquire of whoever uses the file without its mutex. */
	smp_store_release(&file->domain, domain);
	return 0;
}

static int claim(struct kf_file *file, struct flux_kf_claim __user *user)
{
	struct flux_kf_claim arg;
	int result;

	if (copy_from_user(&arg, user, sizeof(arg)))
		return -EFAULT;
	if (file->view || !kf_allowed("CLAIM"))
		return -EPERM;
	result = kf_lease_claim(file, &arg);
	if (!result && copy_to_user(user, &arg, sizeof(arg)))
		result = -EFAULT;
	return result;
}

static int submit(struct kf_file *file, struct flux_kf_submit __user *user)
{
	struct flux_kf_submit arg;
	int result;

	if (copy_from_user(&arg, user, sizeof(arg)))
		return -EFAULT;
	result = kf_submit(file, &arg);
	if (!result && put_user(arg.failed, &user->failed))
		result = -EFAULT;
	return result;
}

static long call(struct kf_file *file, unsigned int cmd, void __user *user)
{
	switch (cmd) {
	case FLUX_KF_CLAIM:
		return claim(file, user);
	case FLUX_KF_RELEASE:
		return kf_lease_release(file);
	case FLUX_KF_SUBMIT:
		return submit(file, user);
	case FLUX_KF_VM_CREATE:
		if (file->view || !kf_allowed("VM_CREATE"))
			return -EPERM;
		return kf_vm_create(file->domain, user);
	default:
		return -ENOTTY;
	}
}

static long kf_ioctl(struct file *filp, unsigned int cmd, unsigned long arg)
{
	struct kf_file *file = filp->private_data;
	void __user *user = (void __user *)arg;
	int result;

	if (cmd == FLUX_KF_HELLO) {
		result = kf_hello(user);
		if (!result)
			WRITE_ONCE(file->hello, true);
		return result;
	}
	if (!READ_ONCE(file->hello))
		return -EPROTO;
	if (cmd == FLUX_KF_JOIN) {
		mutex_lock(&file->mutex);
		result = join(file, user);
		mutex_unlock(&file->mutex);
		return result;
	}
	/* Pairs with the release in join(). */
	if (!smp_load_acquire(&file->domain)) {
		switch (cmd) {
		case FLUX_KF_CLAIM:
		case FLUX_KF_RELEASE:
		case FLUX_KF_SUBMIT:
		case FLUX_KF_VM_CREATE:
			return -ENOENT;
		}
		return -ENOTTY;
	}
	return call(file, cmd, user);
}

static int kf_open(struct inode *inode, struct file *filp)
{
	struct kf_file *file = kzalloc(sizeof(*file), GFP_KERNEL_ACCOUNT);

	if (!file)
		return -ENOMEM;
	mutex_init(&file->mutex);
	INIT_LIST_HEAD(&file->joined);
	file->filp = filp;
	filp->private_data = file;
	return nonseekable_open(inode, filp);
}

/* The last copy of the descriptor is closed, and nothing is mapped from it. */
static int kf_release(struct inode *inode, struct file *filp)
{
	struct kf_file *file = filp->private_data;
	struct kf_domain *domain = file->domain;

	if (domain) {
		kf_lease_release(file);
		mutex_lock(&domain->mutex);
		list_del(&file->joined);
		mutex_unlock(&domain->mutex);
		kf_domain_put(domain);
	}
	if (file->retired)
		put_page(file->retired);
	kfree(file);
	return 0;
}

const struct file_operations kf_fops = {
	.owner = THIS_MODULE,
	.open = kf_open,
	.release = kf_release,
	.unlocked_ioctl = kf_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.mmap = kf_mmap,
};

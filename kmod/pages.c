// SPDX-License-Identifier: GPL-2.0
/*
 * The pages that user space maps, and who sees which of them.
 *
 * They are mapped page by page, when they are touched, because two of them change:
 *
 *   a slot's page of vCPU blocks is another one for each VM, so that what an old VMM still
 *     writes into its own never touches the next VM of that slot;
 *   page 0 is writable for the holder of the lease only. Who has lost the lease and writes
 *     all the same gets a copy of its own: an arbiter that was asleep and beats on cannot
 *     keep its successor's lease alive.
 *
 * To change one: what is true is changed, the old page is locked and unlocked once, the maps
 * are emptied. A fault looks with the page locked what it may map, and the kernel maps it
 * before it unlocks it: so either the fault sees the change, or its map is emptied.
 */
#include <linux/mm.h>
#include <linux/pagemap.h>

#include "kf.h"

#define PAGES_OF(bytes) ((bytes) >> PAGE_SHIFT)
#define STATUS_AT 0
#define CORES_AT PAGES_OF(FLUX_CORES_OFFSET)
#define SLOTS_AT PAGES_OF(FLUX_TVCPUS_OFFSET)
#define EVENTS_AT PAGES_OF(FLUX_KF_EVENTS_OFFSET)

static_assert(PAGE_SIZE == FLUX_TVCPUS_BYTES);
static_assert(sizeof(struct flux_kf_status) <= PAGE_SIZE);
static_assert(FLUX_CORES_OFFSET + FLUX_MAX_CORES * FLUX_CORE_BYTES <= FLUX_VMS_OFFSET);
static_assert(FLUX_TABLE_BYTES <= FLUX_KF_EVENTS_OFFSET);

struct page *kf_page_alloc(void)
{
	return alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);
}

int kf_pages_alloc(struct kf_domain *domain)
{
	u32 i;

	spin_lock_init(&domain->page_lock);
	domain->status_page = kf_page_alloc();
	domain->empty_page = kf_page_alloc();
	if (!domain->status_page || !domain->empty_page)
		return -ENOMEM;
	for (i = 0; i < KF_CORES_PAGES; i++) {
		domain->core_page[i] = kf_page_alloc();
		if (!domain->core_page[i])
			return -ENOMEM;
	}
	for (i = 0; i < KF_EVENTS_PAGES; i++) {
		domain->event_page[i] = kf_page_alloc();
		if (!domain->event_page[i])
			return -ENOMEM;
	}
	domain->line = page_address(domain->status_page);
	return 0;
}

static void put(struct page *page)
{
	if (page)
		put_page(page);
}

/* What is still mapped somewhere lives on until it is not. */
void kf_pages_free(struct kf_domain *domain)
{
	u32 i;

	put(domain->status_page);
	put(domain->empty_page);
	for (i = 0; i < KF_CORES_PAGES; i++)
		put(domain->core_page[i]);
	for (i = 0; i < KF_EVENTS_PAGES; i++)
		put(domain->event_page[i]);
	for (i = 0; i < FLUX_MAX_VMS; i++)
		put(domain->slot_page[i]);
}

/* Nobody maps the old page any more when this returns; the next touch finds the new one. */
static void empty_maps(struct kf_domain *domain, struct page *old, loff_t at)
{
	struct kf_file *file;

	lockdep_assert_held(&domain->mutex);
	/* Pairs with lock_page() in fault(). */
	lock_page(old);
	unlock_page(old);
	list_for_each_entry(file, &domain->files, joined)
		unmap_mapping_range(file->filp->f_mapping, at, PAGE_SIZE, 1);
}

/* A slot has a new VM. */
void kf_pages_replace_slot(struct kf_domain *domain, u32 slot, struct page *page)
{
	struct page *old;

	get_page(page);
	spin_lock(&domain->page_lock);
	old = domain->slot_page[slot];
	domain->slot_page[slot] = page;
	spin_unlock(&domain->page_lock);
	empty_maps(domain, old ?: domain->empty_page,
		   FLUX_TVCPUS_OFFSET + (loff_t)slot * FLUX_TVCPUS_BYTES);
	put(old);
}

/* The lease has another holder, or none: page 0 is another file's to write. */
void kf_pages_holder_changed(struct kf_domain *domain)
{
	empty_maps(domain, domain->status_page, 0);
}

static struct page *look_up(struct kf_domain *domain, unsigned long at)
{
	struct page *page = NULL;

	if (at == STATUS_AT)
		page = domain->status_page;
	else if (at >= CORES_AT && at < CORES_AT + KF_CORES_PAGES)
		page = domain->core_page[at - CORES_AT];
	else if (at >= EVENTS_AT && at < EVENTS_AT + KF_EVENTS_PAGES)
		page = domain->event_page[at - EVENTS_AT];
	else if (at >= SLOTS_AT && at < SLOTS_AT + FLUX_MAX_VMS)
		page = domain->slot_page[at - SLOTS_AT] ?: domain->empty_page;
	return page;
}

static struct page *get_current_page(struct kf_domain *domain, unsigned long at)
{
	struct page *page;

	spin_lock(&domain->page_lock);
	page = look_up(domain, at);
	if (page)
		get_page(page);
	spin_unlock(&domain->page_lock);
	return page;
}

static bool is_current_page(struct kf_domain *domain, unsigned long at, struct page *page)
{
	bool current_page;

	spin_lock(&domain->page_lock);
	current_page = look_up(domain, at) == page;
	spin_unlock(&domain->page_lock);
	return current_page;
}

/* The page that belongs there, locked and referenced; NULL where there is none. */
static struct page *lock_current_page(struct kf_domain *domain, unsigned long at)
{
	struct page *page;

	for (;;) {
		page = get_current_page(domain, at);
		if (!page)
			return NULL;
		/* Pairs with empty_maps(). */
		lock_page(page);
		if (is_current_page(domain, at, page))
			return page;
		unlock_page(page);
		put_page(page);
	}
}

static vm_fault_t fault(struct vm_fault *vmf)
{
	struct kf_file *file = vmf->vma->vm_file->private_data;
	struct kf_domain *domain = file->domain;
	struct page *page = lock_current_page(domain, vmf->pgoff);

	if (!page)
		return VM_FAULT_SIGBUS;
	/* Only page 0 is ever mapped writable. */
	if (vmf->flags & FAULT_FLAG_WRITE && READ_ONCE(domain->holder) != file) {
		struct page *copy = file->retired;

		/* Shows what was true when it was first written. */
		copy_page(page_address(copy), page_address(page));
		unlock_page(page);
		put_page(page);
		get_page(copy);
		lock_page(copy);
		page = copy;
	}
	vmf->page = page;
	return VM_FAULT_LOCKED;
}

/* A page that is mapped to be read is written. */
static vm_fault_t make_writable(struct vm_fault *vmf)
{
	struct kf_file *file = vmf->vma->vm_file->private_data;
	struct kf_domain *domain = file->domain;

	lock_page(vmf->page);
	if (vmf->page == file->retired || READ_ONCE(domain->holder) == file)
		return VM_FAULT_LOCKED;
	unlock_page(vmf->page);
	/* Once more, as a fault: that finds nothing mapped, and maps the file's own copy. */
	unmap_mapping_range(file->filp->f_mapping, 0, PAGE_SIZE, 1);
	return VM_FAULT_NOPAGE;
}

static const struct vm_operations_struct domain_maps = {
	.fault = fault,
	.page_mkwrite = make_writable,
};

/* Whether [at, at + pages) lies in an area of @length pages that begins at @start. */
static bool inside(unsigned long at, unsigned long pages, unsigned long start,
		   unsigned long length)
{
	return at >= start && at - start < length && pages <= length - (at - start);
}

static void restrict_map(struct vm_area_struct *vma, bool writable)
{
	kf_vm_flags_mod(vma, VM_DONTEXPAND | VM_DONTDUMP, writable ? 0 : VM_MAYWRITE);
}

/* mmap of a domain's file. */
int kf_mmap(struct file *filp, struct vm_area_struct *vma)
{
	struct kf_file *file = filp->private_data;
	unsigned long at = vma->vm_pgoff, pages = vma_pages(vma);
	/* Set once, after HELLO; pairs with the release in join(). */
	struct kf_domain *domain = smp_load_acquire(&file->domain);
	bool writable = vma->vm_flags & VM_WRITE;

	if (!READ_ONCE(file->hello))
		return -EPROTO;
	if (!domain)
		return -ENOENT;
	if (!(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	if (!inside(at, pages, STATUS_AT, 1) && !inside(at, pages, CORES_AT, KF_CORES_PAGES) &&
	    !inside(at, pages, SLOTS_AT, FLUX_MAX_VMS) &&
	    !inside(at, pages, EVENTS_AT, KF_EVENTS_PAGES))
		return -EINVAL;
	/* file->retired has been there since CLAIM: a writable map can always be served. */
	if (writable && (at != STATUS_AT || READ_ONCE(domain->holder) != file))
		return -EPERM;
	vma->vm_ops = &domain_maps;
	restrict_map(vma, writable);
	return 0;
}

static vm_fault_t vm_fault_in(struct vm_fault *vmf)
{
	struct kf_vm *vm = vmf->vma->vm_file->private_data;
	struct page *page;

	if (vmf->pgoff == SLOTS_AT + vm->slot)
		page = vm->page;
	else
		page = look_up(vm->domain, vmf->pgoff);
	get_page(page);
	vmf->page = page;
	return 0;
}

static const struct vm_operations_struct vm_maps = {
	.fault = vm_fault_in,
};

/* mmap of a VM's descriptor; the caller has looked at HELLO. */
int kf_vm_mmap(struct file *filp, struct vm_area_struct *vma)
{
	struct kf_vm *vm = filp->private_data;
	unsigned long at = vma->vm_pgoff, pages = vma_pages(vma);
	bool own = inside(at, pages, SLOTS_AT + vm->slot, 1);

	if (!READ_ONCE(vm->hello))
		return -EPROTO;
	if (!(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	if (!own && !inside(at, pages, CORES_AT, KF_CORES_PAGES))
		return -EINVAL;
	if (!own && vma->vm_flags & VM_WRITE)
		return -EPERM;
	vma->vm_ops = &vm_maps;
	restrict_map(vma, own);
	return kf_vm_detach_map(vm, vma);
}

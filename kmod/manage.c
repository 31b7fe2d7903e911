// SPDX-License-Identifier: GPL-2.0
/* MANAGE and UNMANAGE: a VMM gives its VM into the hands of an arbiter, and takes it back. */
#include "kf.h"

#define KF_RECALL_LOOKS 2

/*
 * Forces a vCPU that has been recalled and stays in FluxOS's own code: it holds no core, so there
 * is no deadline of a core's to do it. At the second look, half a lease after the recall.
 */
void kf_recall_look(struct kf_vcpu *v)
{
	unsigned long flags;
	bool force;

	raw_spin_lock_irqsave(&v->lock, flags);
	force = kf_state(v->own.word) == FLUX_VCPU_CEDING && !v->core && !v->asleep && v->task &&
		++v->recall_looks >= KF_RECALL_LOOKS;
	if (force) {
		/* Names the request, so it dies with it. */
		kf_show(v, force, v->own.park_req);
		v->recall_looks = 0;
	}
	raw_spin_unlock_irqrestore(&v->lock, flags);
	if (force)
		kf_kick(v);
}

/* MANAGE: an arbiter adopts the VM; its unmanaged vCPUs are to park. */
int kf_vm_manage(struct kf_vm *vm)
{
	unsigned long flags;
	int result = 0;
	u32 i;

	mutex_lock(&vm->domain->mutex);
	if (vm->ended)
		result = -ESRCH;
	else if (!vm->domain->holder)
		result = -ESTALE;
	for (i = 0; !result && i < vm->count; i++) {
		struct kf_vcpu *v = &vm->vcpu[i];
		bool recalled;

		raw_spin_lock_irqsave(&v->lock, flags);
		recalled = kf_state(v->own.word) == FLUX_VCPU_UNMANAGED;
		if (recalled) {
			kf_show(v, park_req, v->own.park_req + 1 ?: 1);
			v->news = false;
			v->recall_looks = 0;
			kf_set_word(v, FLUX_VCPU_CEDING, NULL);
			kf_event_vcpu(v, FLUX_KF_EV_MANAGED);
		}
		raw_spin_unlock_irqrestore(&v->lock, flags);
		/* It never sleeps here while it is unmanaged: if anywhere, it is in the guest. */
		if (recalled)
			kf_kick(v);
	}
	mutex_unlock(&vm->domain->mutex);
	return result;
}

/* UNMANAGE: the VM goes back to the ordinary scheduler. */
int kf_vm_unmanage(struct kf_vm *vm)
{
	int result = 0;
	u32 i;

	mutex_lock(&vm->domain->mutex);
	if (vm->ended)
		result = -ESRCH;
	for (i = 0; !result && i < vm->count; i++)
		kf_withdraw(&vm->vcpu[i], FLUX_VCPU_UNMANAGED);
	mutex_unlock(&vm->domain->mutex);
	return result;
}

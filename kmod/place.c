// SPDX-License-Identifier: GPL-2.0
/*
 * Affinities. To set one may sleep and takes runqueue locks, so it cannot be done where it is
 * decided; and one may be on its way when the next is decided: a thread is being sent away
 * from a core that was taken from it, and is granted another meanwhile. An affinity that
 * arrived late would carry a guest that runs to a core that is not its own.
 *
 * So there is one who places a thread at a time. Everybody else changes vcpu->place under the
 * lock and leaves it to that one, who looks again, under the lock, after each affinity that it
 * has set. The vCPU's own thread goes on only when nobody is placing it any more.
 */
#include "kf.h"

static int set_affinity(struct kf_vcpu *v, int place)
{
	const struct cpumask *mask = v->home;
	int result;

	if (place >= 0)
		return set_cpus_allowed_ptr(v->task, cpumask_of(place));
	if (place == KF_HOUSEKEEPING) {
		/*
		 * A core that is claimed later stays in it. This thread has no core: it handles a
		 * signal or is on its way to its park, and never gets into the guest there. To
		 * that core's owner it is what any other thread of the host is, and those are kept
		 * away by a cpuset, not by a claim. Within a domain it does not happen at all: a
		 * claim ends the lease that was, and every vCPU is at home by then.
		 */
		if (!cpumask_and(v->scratch, v->home, &kf_housekeeping))
			cpumask_copy(v->scratch, &kf_housekeeping);
		mask = v->scratch;
	}
	result = set_cpus_allowed_ptr(v->task, mask);
	/* All of them offline by now. */
	if (result)
		result = set_cpus_allowed_ptr(v->task, cpu_possible_mask);
	return result;
}

/* Puts the thread where it should be. Returns whether it sleeps in kf_sleep(). */
bool kf_place(struct kf_vcpu *v)
{
	bool asleep, mine = false;
	unsigned long flags;

	raw_spin_lock_irqsave(&v->lock, flags);
	if (v->task && !v->placing)
		mine = v->placed != v->place;
	v->placing |= mine;
	while (mine && v->placed != v->place) {
		int place = v->place;
		int failed;

		raw_spin_unlock_irqrestore(&v->lock, flags);
		failed = set_affinity(v, place);
		raw_spin_lock_irqsave(&v->lock, flags);
		v->placed = place;
		kf_show(v, pinned, place >= 0 && !failed ? place : FLUX_CORE_NONE);
		if (failed && place == v->place) {
			/* The core is going offline, and will be taken from it in a moment. */
			v->placed = KF_NOBODY_KNOWS;
			break;
		}
	}
	if (mine)
		v->placing = false;
	asleep = v->asleep;
	raw_spin_unlock_irqrestore(&v->lock, flags);
	/* Pairs with the wait below, which looks at `placing` after it has queued itself. */
	if (mine)
		wake_up_all(&v->place_wait);
	return asleep;
}

/* The vCPU's own thread waits until nobody is placing it. */
void kf_place_settle(struct kf_vcpu *v)
{
	wait_event(v->place_wait, !READ_ONCE(v->placing));
}

/*
 * The vCPU's own thread, which owns a core: it goes there. It may have been woken before it was
 * placed, or somebody else may have changed its affinity (a cpuset, sched_setaffinity).
 *
 * If that somebody has just set this very affinity, there is nothing left to set here, and the
 * scheduler does not wait for his migration, which may still be under way when this returns. It is
 * harmless: he has changed the mask by then, and queues the stopper on this CPU next, which
 * preempts this thread, and the guest like any interrupt. No guest was ever safe from that
 * moment, since he may come while it runs; and kf_run() passes here before each entry. Whom
 * kf_place() sends somewhere has arrived when `placing` ends.
 */
void kf_place_here(struct kf_vcpu *v, u32 core)
{
	unsigned long flags;

	kf_place_settle(v);
	if (likely((u32)raw_smp_processor_id() == core))
		return;
	raw_spin_lock_irqsave(&v->lock, flags);
	if (!v->placing)
		v->placed = KF_NOBODY_KNOWS;
	raw_spin_unlock_irqrestore(&v->lock, flags);
	kf_place(v);
	kf_place_settle(v);
}

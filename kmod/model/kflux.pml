/* SPDX-License-Identifier: GPL-2.0 */
/*
 * kFlux's hand-over as a model: two cores, three vCPUs of two VMs, everybody who gives or takes
 * a core, and a monitor that says what must never be seen. README.md says which function of the
 * module each inline stands for, what is left out, and why a section may be one step.
 *
 * One `atomic` is one critical section, or one access that needs no lock. What is done after
 * the locks are dropped (affinity, wake-up) is a step of its own, as are the steps of a thread
 * on its way to sleep.
 *
 * Features, on in the variants that variants.ts lists: PLAN, HEIR, TIMER, BLOCK, DEATH, LEASE,
 * EXPORT, PLACE, OFFLINE. Deliberate mistakes, each of which the checker must find: BUG_*.
 */
#include "words.pml"
#include "handover.pml"
#include "vcpu.pml"
#include "actors.pml"
#include "rules.pml"

init {
	atomic {
		st[1] = PARKED; st[2] = PARKED; st[3] = PARKED;
		g[1] = DOOR; g[2] = DOOR; g[3] = DOOR;
#ifdef LEASE
		claimed[1] = 1; claimed[2] = 1;
		run lease();
#endif
#ifdef EXPORT
		queued = 1;
#endif
#ifdef DEATH
		run reaper();
#endif
#ifdef OFFLINE
		run hotplug();
#endif
#ifdef WORK
		run clock(1);
		run clock(2);
#endif
#ifdef COMMANDS
		owner[1] = 1; st[1] = RUNNING; co[1] = 1; news[1] = 1;
		owner[2] = 2; st[2] = RUNNING; co[2] = 2; news[2] = 1;
#ifdef PLACE
		want[1] = 1; placed[1] = 1; aff[1] = 1;
		want[2] = 2; placed[2] = 2; aff[2] = 2;
#endif
#endif
		run vcpu(1);
		run vcpu(2);
		run vcpu(3);
		run arbiter();
		run monitor()
	}
}

/* SPDX-License-Identifier: GPL-2.0 */
/* What must never be seen, and what must happen in the end. */
/* WHAT MUST NEVER BE SEEN. Executable only when it is, so the monitors add no state. */

/* A sleeping successor: off its CPU, with something to wake up for, and nobody on his way to do it. */
#define will_wake(v) (ts[v] != OFF || owed[v] > 0 || waits(v))
/* ...or one that waits for something that cannot come: only a parked vCPU is ever granted a core. */
#define can_be_granted(v) (ts[v] != OFF || owed[v] > 0 || st[v] != BLOCKED)
/* A lost core: its owner does not live on it. */
#define core_kept(c) (owner[c] == NONE || (has_core(owner[c]) && co[owner[c]] == c))
/* A lost vCPU: promised to a core that knows nothing of it. */
#define promise_kept(v) (st[v] != GRANTING || succ[co[v]] == v || unclaimed(co[v]))
#define succ_kept(c) (succ[c] == NONE || succ[c] == IDLE || (st[succ[c]] == GRANTING && co[succ[c]] == c))
/* A request needs an owner to be asked. */
#define asked_somebody(c) (succ[c] == NONE || owner[c] != NONE)
/* Two owners of a core: whoever says that it has a core owns it. */
#define owns(v) (!has_core(v) || owner[co[v]] == v || unclaimed(co[v]))
#define one_core(v) (owner[1] != v || owner[2] != v)
/* Nobody runs the guest without a core, but for the moment that a kick takes. */
/* A lost kick: the guest runs, and its thread does not know that the core is wanted. */
#ifdef TIMER
#define knows(v) true
#else
#define knows(v) (!inguest[v] || st[v] != CEDING || tif[v] || aware[v] || owed[v] > 0)
#endif
#define may_be_inside(v) (!inguest[v] || tif[v] || owed[v] > 0 || has_core(v) || st[v] == UNMANAGED || (parking(v) && aware[v]))
#ifdef LEASE
#define unclaimed(c) (!claimed[c])
#else
#define unclaimed(c) false
#endif
#ifdef TIMER
#define will_end(c) (owner[c] == NONE || succ[c] == NONE || !timed(c) || armed[c] || fired[c] || (overdue[c] && work[c]) || (owner[c] && work[c]))
#else
#define will_end(c) true
#endif
#ifdef EXPORT
/* A stranded uThread: parked in a uThread's code, and nobody can take it; or in FluxOS's, and nobody knows. */
#ifdef INSIDE
#define is_known(v) (!inside[v] || held[v] != H_NONE)
#else
#define is_known(v) true
#endif
#define not_stranded(v) (st[v] != PARKED || ((g[v] != APP || held[v] != H_NONE) && is_known(v)))
#else
#define not_stranded(v) true
#endif
#ifdef PLACE
/* Whoever is through with it has left the thread where it should be. */
#define in_place(v) (placing[v] > 0 || aff[v] == want[v])
#else
#define in_place(v) true
#endif
#ifdef LEASE
#define set_free(v) (!ended || st[v] == UNMANAGED || st[v] == DEAD)
#define core_free(c) (!ended || owner[c] == NONE)
#else
#define set_free(v) true
#define core_free(c) true
#endif

#define good_vcpu(v) (will_wake(v) && can_be_granted(v) && promise_kept(v) && owns(v) && one_core(v) && may_be_inside(v) && knows(v) && not_stranded(v) && in_place(v) && set_free(v))
#define good_core(c) (core_kept(c) && succ_kept(c) && asked_somebody(c) && will_end(c) && core_free(c))

proctype monitor() {
end:	if
	:: atomic { !good_vcpu(1) -> assert(false) }
	:: atomic { !good_vcpu(2) -> assert(false) }
	:: atomic { !good_vcpu(3) -> assert(false) }
	:: atomic { !good_core(1) -> assert(false) }
	:: atomic { !good_core(2) -> assert(false) }
	fi
}

#ifdef PROGRESS
/* With weak fairness: a request ends, and who was given a core comes to know or has lost it again. */
ltl every_request_ends { [] ((succ[1] != NONE) -> <> (succ[1] == NONE)) }
ltl the_granted_run { [] ((news[3] && has_core(3)) -> <> (!news[3] || !has_core(3))) }
#endif

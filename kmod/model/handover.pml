/* SPDX-License-Identifier: GPL-2.0 */
/* What is done to cores and vCPUs, a section at a time, by whoever does it. */
/* kick.c: kf_kick() */
#define kick(v) tif[v] = inrun[v]

/* core.c: kf_core_give(), for a vCPU that has been claimed */
inline give(c, n) {
	assert(!inguest[n]); /* a grant never meets a vCPU that still runs */
	owner[c] = n;
	st[n] = RUNNING;
	co[n] = c;
	news[n] = 1;
	set_seized(n, 0);
#ifdef TIMER
	forced[n] = 0;
	late[n] = 0;
#endif
	set_place(n, c);
	owed[n]++
#ifdef BUG_WAKE_BEFORE_STATE
	;
	/* As if the wake-up had come before the change, and none after it. */
	owed[n]--
#endif
}

/* core.c: kf_pass_on(), and what kf_deliver() is to be called for */
inline pass_on(c, n) {
	n = NONE;
	if
	:: succ[c] == IDLE
	:: succ[c] == NONE ->
#ifdef HEIR
		if
		:: heir[c] != NONE && claimable(heir[c]) -> n = heir[c]
		:: else
		fi
#else
		skip
#endif
	:: else ->
		n = succ[c]
#ifdef HEIR
#ifdef BUG_HEIR_NOT_UNCLAIMED
		;
		/* The heir is claimed first and not let go when there is a successor after all. */
		if
		:: heir[c] != NONE && claimable(heir[c]) -> st[heir[c]] = GRANTING; co[heir[c]] = c
		:: else
		fi
#endif
#endif
	fi;
	owner[c] = NONE;
	succ[c] = NONE;
	if
	:: n != NONE -> give(c, n)
	:: else
	fi
}

#ifdef PLACE
/*
 * place.c: kf_place(). The look after set_cpus_allowed_ptr() and the next turn's are one section. p is 0, which
 * is AT_HOME as well, whenever nobody is about to set an affinity; `busy` says that somebody is.
 */
inline place_turn(v, p, busy) {
	if
	:: placed[v] == want[v] -> placing[v]--; p = 0; busy = 0
	:: else -> p = want[v]; placed[v] = p; busy = 1
	fi
}
inline place(v, p, busy) {
	atomic { place_turn(v, p, busy) };
	do
	:: !busy -> break
	:: busy ->
		/* set_cpus_allowed_ptr(), without locks */
		aff[v] = p;
		atomic {
#ifdef BUG_PLACE_ONCE
			placing[v]--; p = 0; busy = 0
#else
			if
			:: want[v] != p -> placed[v] = NOBODY_KNOWS
			:: else
			fi;
			place_turn(v, p, busy)
#endif
		}
	od
}
#endif

/* core.c: kf_deliver(): the look at `asleep`, and the wake-up. */
inline deliver(n, p, busy) {
	if
	:: n != NONE ->
#ifdef PLACE
		place(n, p, busy);
#endif
#ifdef BUG_WAKE_BEFORE_STATE
		skip
#else
		atomic {
#ifndef BUG_WAKE_FORGOTTEN
			if
			:: asleep[n] -> ts[n] = ON
			:: else
			fi;
			owed[n]--;
#endif
			n = NONE
		}
#endif
	:: else
	fi
}

/* withdraw.c: take() */
inline take(c, v, n) {
	v = owner[c];
#ifdef BUG_PARKED_EARLY
	st[v] = PARKED;
#else
#ifndef BUG_TAKEN_ASLEEP
	st[v] = (asleep[v] -> PARKED : BLOCKED);
#else
	st[v] = BLOCKED;
#endif
#endif
	co[v] = NONE;
	news[v] = 0;
	aware[v] = 0;
	set_seized(v, !asleep[v]);
	set_place(v, HOUSEKEEPING);
#ifndef BUG_TAKE_WITHOUT_KICK
	kick(v);
#endif
	pass_on(c, n)
}

inline send_away(v, p, busy) {
#ifdef PLACE
	if
	:: v != NONE -> place(v, p, busy)
	:: else
	fi;
#endif
	v = NONE
}

#ifdef WORK
/* withdraw.c: kf_core_look(), its section */
inline look_at_core(c, v, n) {
	if
#ifdef TIMER
	:: owner[c] != NONE && succ[c] != NONE && (is_off(owner[c]) || overdue[c]) -> take(c, v, n)
#else
	:: owner[c] != NONE && succ[c] != NONE && is_off(owner[c]) -> take(c, v, n)
#endif
	:: else
	fi
}
#endif

/* withdraw.c: kf_withdraw(), its section: `to` is DEAD or UNMANAGED */
inline withdraw(v, to, c, n) {
	c = co[v];
	n = NONE;
	if
	:: st[v] == to || st[v] == DEAD
	:: else ->
		st[v] = to;
		co[v] = NONE;
		news[v] = 1;
		aware[v] = 0;
		set_seized(v, 0);
		if
#ifdef BUG_CORE_NOT_FREED
		:: c != NONE && owner[c] == v
#else
		:: c != NONE && owner[c] == v -> pass_on(c, n)
#endif
#ifdef BUG_DEAD_SUCCESSOR
		:: c != NONE && owner[c] != v && succ[c] == v
#else
		:: c != NONE && owner[c] != v && succ[c] == v -> succ[c] = IDLE
#endif
		:: else
		fi
	fi;
	c = NONE;
	set_place(v, AT_HOME);
	owed[v]++
}

/* ...and what follows it: the core's next owner, then the thread itself. */
inline withdrawn(v, n, p, busy) {
	deliver(n, p, busy);
#ifdef PLACE
	place(v, p, busy);
#endif
	atomic {
		if
		:: !asleep[v] -> kick(v)
#ifdef BUG_LEASE_WITHOUT_WAKE
		:: else
#else
		:: else -> ts[v] = ON
#endif
		fi;
		owed[v]--
	}
}

/* run.c: mark_held(). Parked in FluxOS's code only by force, or where its core went on without it. */
inline mark_held(v) {
	assert(g[v] != CRIT || is_late(v) || was_seized(v));
#ifdef EXPORT
	if
#ifdef BUG_ENTRY_NOT_MARKED
	:: !entered && held[v] == H_NONE
	:: entered && held[v] == H_NONE && g[v] == APP -> held[v] = H_HELD
#else
#ifdef BUG_SEIZED_NOT_MARKED
	/* What had been resumed when its core went on without it. */
	:: !entered && !has_core(v) && held[v] == H_NONE
	:: (entered || has_core(v)) && held[v] == H_NONE && g[v] == APP -> held[v] = H_HELD
#else
	:: held[v] == H_NONE && g[v] == APP -> held[v] = H_HELD
#endif
#endif
	:: held[v] == H_NONE && g[v] == CRIT -> held[v] = H_FORCED; set_inside(v, 1)
	:: held[v] == H_NONE && g[v] == DOOR
	:: held[v] != H_NONE
	fi
#endif
}

#ifdef INSIDE
/* run.c: mark_again() */
inline mark_again(v) {
	if
#ifndef BUG_FORCED_NOT_MARKED
	:: inside[v] && held[v] == H_NONE -> held[v] = H_FORCED
#endif
	:: else
	fi
}
#endif

/* notifier.c: sched_out() of a thread in kf_sleep() */
inline sched_out(v) {
	if
	:: asleep[v] && parking(v) ->
		assert(!inguest[v]);
		st[v] = PARKED
	:: else
	fi
}

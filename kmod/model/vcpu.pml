/* SPDX-License-Identifier: GPL-2.0 */
/* A vCPU's thread: the VMM's loop, PARK, RUN and the guest. */
#define out_of_run(v) inguest[v] = 0; inrun[v] = 0; tif[v] = 0
/* RUN from user space: a kick counts from here on, and the look comes next. */
#define into_run(v) inrun[v] = 1

/* A vCPU's thread: PARK, RUN, and the guest and the VMM around them. */
proctype vcpu(byte v) {
	byte c, n, p;
	bit busy;
#if defined(BUG_ENTRY_NOT_MARKED) || defined(BUG_SEIZED_NOT_MARKED) || defined(INSIDE)
	bit entered; /* its guest has run since the core came */
#define set_entered(x) entered = x
#else
#define set_entered(x) skip
#endif

park:	/* park.c: kf_park(). kf_tell() first: a grant that it was not told of stays. */
	atomic {
		if
		:: has_core(v) && news[v] -> news[v] = 0; goto settle
		:: has_core(v) && !news[v] -> goto leave
		:: waits(v) -> goto sleep
		:: st[v] == UNMANAGED -> news[v] = 0; into_run(v); goto look
		:: st[v] == DEAD -> goto dead
		fi
	};

leave:	/* core.c: kf_leave(), as one section; nothing if the core has gone on without it. */
	atomic {
		n = NONE;
		if
		:: has_core(v) ->
			c = co[v];
			st[v] = CEDING;
			co[v] = NONE;
			news[v] = 0;
			if
			:: owner[c] == v -> pass_on(c, n)
			:: else
			fi;
			c = NONE
		:: else
		fi;
		aware[v] = 0;
		set_entered(0);
#ifndef EXPORT
		g[v] = DOOR; /* what is parked is looked at by the variants with EXPORT alone */
#endif
		if
		:: n == NONE -> goto sleep
		:: else
		fi
	};
	deliver(n, p, busy);

sleep:	/* park.c: begin_sleep() */
#ifndef BUG_ASLEEP_AFTER_LOOK
	atomic {
		asleep[v] = 1;
		set_seized(v, 0);
		if
		:: st[v] == BLOCKED -> st[v] = CEDING
		:: else
		fi;
#ifdef COARSE
		/* All the way at once, for the variants that look at something else. */
		if
		:: coarse(v) && waits(v) && !is_killed(v) ->
			if
			:: parking(v) -> st[v] = PARKED
			:: else
			fi;
			ts[v] = OFF;
			goto end_away
		:: else
		fi;
#endif
		ts[v] = SLEEPY;
		goto first
	};
#endif
again:	ts[v] = SLEEPY;
first:
	atomic {
		if
		:: !waits(v) -> ts[v] = ON; asleep[v] = 0; goto awake
		:: else
		fi
	};
#ifdef BUG_ASLEEP_AFTER_LOOK
	atomic { asleep[v] = 1; if :: st[v] == BLOCKED -> st[v] = CEDING; set_seized(v, 0) :: else fi };
#endif
blink:	if
	:: atomic { is_killed(v) -> ts[v] = ON; asleep[v] = 0; goto die }
#ifdef PREEMPT
	/* Preempted on its way: off its CPU as well, though still on the run queue. */
	:: atomic { asleep[v] && parking(v) -> sched_out(v); goto blink }
#endif
#ifdef PLACE
	:: atomic { ts[v] = ON; goto signal }
#endif
	:: atomic { !is_killed(v) && ts[v] == ON -> goto again }
	:: atomic { !is_killed(v) && ts[v] == SLEEPY -> ts[v] = OFF }
	fi;
	/* Dequeued. A wake-up from here on takes effect once it is off its CPU. */
	atomic { sched_out(v) };
end_away:
	if
	:: atomic { coarse(v) && !waits(v) && ts[v] == ON -> asleep[v] = 0; goto awake }
	:: atomic { !(coarse(v) && !waits(v)) && (ts[v] == ON || is_killed(v)) -> goto again }
#ifdef PLACE
	:: atomic { ts[v] == OFF -> ts[v] = ON; goto signal }
#endif
	fi;

#ifdef PLACE
signal:	/* park.c: interrupted() */
	atomic {
		asleep[v] = 0;
		if
		:: waits(v) -> set_place(v, HOUSEKEEPING)
		:: else -> placing[v]++ /* it calls kf_place() all the same */
		fi
	};
	place(v, p, busy);
	atomic {
		if
		:: parking(v) -> st[v] = PARKED
		:: else
		fi;
		goto park
	};
#endif

awake:	/* park.c: kf_tell() */
	atomic {
		if
		:: has_core(v) && news[v] -> news[v] = 0
		:: has_core(v) && !news[v] -> assert(false)
		:: waits(v) -> goto sleep
		:: st[v] == UNMANAGED -> news[v] = 0; into_run(v); goto look
		:: st[v] == DEAD -> goto dead
		fi
	};

settle:	/* The VMM, told of a core: its own claim to the held context. Then RUN. */
	atomic {
#ifdef EXPORT
		if
		:: held[v] == H_HELD || held[v] == H_FORCED -> held[v] = H_NONE
#ifdef BUG_TAKEN_RESUMED
		:: held[v] == H_TAKEN -> held[v] = H_NONE
#else
		:: held[v] == H_TAKEN -> u[v] = 0; g[v] = CRIT; held[v] = H_NONE
#endif
		:: held[v] == H_NONE
		fi;
#endif
#ifdef BLOCK
		skip
#else
		into_run(v);
		goto look
#endif
	};
#ifdef BLOCK
	/* The host may put it to sleep here as well. */
	if
	:: true
	:: atomic {
		may_block(v) ->
		off[v] = 1;
		if
		:: st[v] == CEDING && co[v] != NONE -> queue_look(co[v])
		:: else
		fi
	   };
	   off[v] = 0
	fi;
	atomic { into_run(v); goto look };
#endif
look:	/* run.c: kf_tell(), then may_enter(). The flag has been cleared before: kf_swallow_kick(). */
	atomic {
		if
		:: is_killed(v) -> out_of_run(v); goto die
		:: !is_killed(v) && has_core(v) && news[v] -> out_of_run(v); news[v] = 0; goto settle
		:: !is_killed(v) && has_core(v) && !news[v] && st[v] == RUNNING
		:: !is_killed(v) && has_core(v) && !news[v] && st[v] == CEDING ->
			if
#ifdef INSIDE
			:: g[v] == CRIT && !entered -> mark_again(v); out_of_run(v); goto leave
			:: g[v] == CRIT && entered && !is_forced(v) -> aware[v] = 1
#else
			:: g[v] == CRIT && !is_forced(v) -> aware[v] = 1 /* FluxOS sees the request itself */
#endif
			:: else -> mark_held(v); out_of_run(v); goto leave
			fi
		:: !is_killed(v) && waits(v) ->
			if
			:: parking(v) && g[v] == CRIT -> aware[v] = 1 /* adopted: as with a request for its core */
			:: parking(v) && g[v] != CRIT -> mark_held(v); out_of_run(v); goto leave
#ifdef INSIDE
			:: st[v] == BLOCKED && g[v] == CRIT && !entered -> mark_again(v); out_of_run(v); goto leave
			:: st[v] == BLOCKED && !(g[v] == CRIT && !entered) -> mark_held(v); out_of_run(v); goto leave
#else
			:: st[v] == BLOCKED -> mark_held(v); out_of_run(v); goto leave
#endif
			:: else -> out_of_run(v); goto leave
			fi
		:: !is_killed(v) && st[v] == UNMANAGED -> news[v] = 0
		:: !is_killed(v) && st[v] == DEAD -> out_of_run(v); goto dead
		fi
#ifndef BUG_LOOK_BEFORE_CLEAR
		;
		/* Into KVM_RUN, which looks at the flag with interrupts off before it enters. */
		inguest[v] = 1;
		g[v] = APP;
		set_inside(v, 0);
		set_entered(1)
#endif
	};
#ifdef BUG_LOOK_BEFORE_CLEAR
	atomic { tif[v] = 0; inguest[v] = 1; g[v] = APP; set_entered(1) };
#endif
#ifdef EXPORT
	assert(!(u[1] && u[2]) || !(inguest[1] && inguest[2]));
#endif

guest:	/* What its registers are in the middle of is chosen when it comes out. */
	if
	/* A kick. To clear the flag right away is as good as a moment later: whoever rang has changed the word before. */
	:: atomic {
		tif[v] -> inguest[v] = 0; if :: g[v] = APP :: g[v] = CRIT fi;
#ifndef BUG_LOOK_BEFORE_CLEAR
		tif[v] = 0;
#endif
		goto look
	   }
	/* The yield or the park door: user space, then PARK. */
	:: atomic {
		out_of_run(v); g[v] = DOOR;
#ifdef EXPORT
		if :: u[v] -> u[v] = 0; queued = 1 :: else fi;
#endif
		goto park
	   }
	/* Another door: user space, then RUN. */
	:: atomic { out_of_run(v); if :: g[v] = APP :: g[v] = CRIT fi; into_run(v); goto look }
#ifdef EXPORT
	/* FluxOS looks for work: in its queues, then with a VCPU that is out. */
	:: atomic { v != 3 && !u[v] && queued -> queued = 0; u[v] = 1; goto guest }
	:: atomic { v != 3 && !u[v] && held[3 - v] == H_HELD -> out_of_run(v); g[v] = CRIT; goto steal }
#endif
#ifdef DEATH
	:: atomic { is_killed(v) -> out_of_run(v); goto die }
#endif
#ifdef BLOCK
	/* The host puts the thread to sleep. */
	:: atomic {
		may_block(v) ->
		inguest[v] = 0;
		off[v] = 1;
		if
		:: st[v] == CEDING && co[v] != NONE -> queue_look(co[v])
		:: else
		fi
	   };
	   atomic { off[v] = 0; inguest[v] = 1; goto guest }
#endif
	fi;

#ifdef EXPORT
steal:	/* The VMM's steal door: by compare-and-swap, then the registers, then the word. */
	atomic {
		if
#ifdef BUG_STEAL_WITHOUT_CAS
		:: held[3 - v] == H_HELD || held[3 - v] == H_NONE -> held[3 - v] = H_EXPORTING
#else
		:: held[3 - v] == H_HELD -> held[3 - v] = H_EXPORTING
#endif
		:: else -> into_run(v); goto look
		fi
	};
	atomic {
		/* A vCPU's registers can be read only while KVM does not run it. */
		assert(!inguest[3 - v]);
		u[v] = u[3 - v];
		held[3 - v] = H_TAKEN;
		into_run(v); goto look
	};
#endif

die:	/* A fatal signal in PARK or RUN, or the thread's end: kf_exit_work() */
#ifdef DEATH
	atomic { withdraw(v, DEAD, c, n) };
	deliver(n, p, busy);
	atomic { owed[v]--; ts[v] = ON };
#endif
dead:
	atomic { out_of_run(v); asleep[v] = 0 }
}

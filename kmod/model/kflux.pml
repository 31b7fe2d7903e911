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
#define NONE 0
#define IDLE 7 /* as a successor: the owner shall leave, and nobody follows */

/* flux_vcpu.word: the state. */
#define PARKED 1
#define GRANTING 2
#define RUNNING 3
#define CEDING 4
#define BLOCKED 5
#define UNMANAGED 6
#define DEAD 7

/* The thread as the scheduler sees it. */
#define ON 0     /* TASK_RUNNING */
#define SLEEPY 1 /* TASK_INTERRUPTIBLE, still on its CPU */
#define OFF 2    /* dequeued: only a wake-up brings it back */

/* What the guest's registers are in the middle of. */
#define APP 0  /* a uThread's own code */
#define CRIT 1 /* FluxOS's code, which holds something */
#define DOOR 2 /* a yield or park door: nobody needs these registers */

/* flux_vcpu.held */
#define H_NONE 0
#define H_HELD 1
#define H_EXPORTING 3
#define H_TAKEN 4
#define H_FORCED 5

/* Where a thread is to be put, beside the cores 1 and 2. */
#define AT_HOME 0
#define HOUSEKEEPING 3
#define NOBODY_KNOWS 7

/* struct kf_core. Index 0 is not used. */
byte owner[3];
byte succ[3];
#ifdef HEIR
byte heir[3];
#endif
#ifdef TIMER
bit armed[3];   /* the hrtimer is enqueued */
bit fired[3];   /* it has expired, its handler is on its way to the lock */
bit due[3];     /* the time of the request's present stage has come */
byte stage[3];  /* 1 kick, 2 force, 3 take */
bit overdue[3];
#endif
#ifdef WORK
bit work[3];    /* kf_core_look() is queued */
#endif
#ifdef LEASE
bit holder = 1;
bit claimed[3];
bit ended;      /* ghost: the lease's end is complete, and nobody has adopted the VMs yet */
#endif
#ifdef OFFLINE
bit offline[3];
#endif

#ifdef COMMANDS
/* The arbiter's, in the whole run; the first vCPU of VM A has core 1 from the start. */
byte commands = COMMANDS;
#define may_command (commands > 0)
#else
#define may_command true
#endif

/* struct kf_vcpu. Index 0 is not used. */
byte st[4];
byte co[4];
bit asleep[4];
bit news[4];
byte ts[4];
bit tif[4];     /* TIF_NOTIFY_SIGNAL */
bit inrun[4];   /* inside RUN; a kick at any other time is lost on the way to user space */
bit inguest[4];
bit aware[4];   /* ghost: its thread has seen the request, and went on because the guest was critical */
byte g[4];
#ifdef TIMER
bit forced[4];  /* force == park_req */
bit late[4];    /* ghost: the deadline of its latest request has really passed */
#endif
#ifdef WORK
bit off[4];     /* it sleeps in the host, outside of kf_sleep() */
#endif
#ifdef SEIZE
bit seized[4];  /* ghost: its core went on without it */
#endif
#ifdef DEATH
bit killed[4];
#endif
#ifdef EXPORT
byte held[4];
bit u[4];       /* the uThread of VM A is in these registers... */
bit queued;     /* ...or in a run queue of the guest */
#endif
#ifdef PLACE
byte want[4];   /* vcpu->place */
byte placed[4];
byte aff[4];    /* the affinity itself */
byte placing[4]; /* ghost: how many have changed `want` and are not through with kf_place() */
#endif
byte owed[4];   /* ghost: how many have changed its state and have not woken it yet */

#define has_core(v) (co[v] != NONE && (st[v] == RUNNING || st[v] == CEDING))
#define waits(v) (!has_core(v) && st[v] != UNMANAGED && st[v] != DEAD)
#define parking(v) (st[v] == CEDING && co[v] == NONE)
#define claimable(v) (st[v] == PARKED)

#ifdef PLAN
/* VM A's vCPUs use one core each; VM B's goes wherever it likes. For state spaces that are too big otherwise. */
#ifdef HEIR
#define may_run(v, c) (v == c || c == 1)
#else
#define may_run(v, c) (v == c)
#endif
#else
#define may_run(v, c) true
#endif
#ifdef COARSE
#define coarse(v) (v <= COARSE)
#else
#define coarse(v) false
#endif
#ifdef TIMER
#define is_forced(v) (forced[v] == 1)
#define is_late(v) (late[v] == 1)
#else
#define is_forced(v) false
#define is_late(v) false
#endif
#ifdef SEIZE
#define was_seized(v) (seized[v] == 1)
#define set_seized(v, x) seized[v] = x
#else
#define was_seized(v) false
#define set_seized(v, x) skip
#endif
#ifdef WORK
#define is_off(v) (off[v] && !asleep[v])
#define queue_look(c) work[c] = 1
#else
#define is_off(v) false
#endif
#ifdef LEASE
#define usable(c) (holder && claimed[c])
#else
#ifdef OFFLINE
#define usable(c) (offline[c] == 0)
#else
#define usable(c) true
#endif
#endif
#ifdef DEATH
#define is_killed(v) (killed[v] == 1)
#else
#define is_killed(v) false
#endif
#ifdef PLACE
#define set_place(v, x) want[v] = x; placing[v]++
#else
#define set_place(v, x) skip
#endif

/* With PLAN core 2 has no timer, and its owner is kicked at once; VM A's second vCPU does not block. */
#ifdef PLAN
#define timed(c) (c == 1)
#define may_block(v) (v != 2)
#else
#define timed(c) true
#define may_block(v) true
#endif

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
	assert(g[v] != CRIT || is_late(v) || was_seized(v) || parking(v));
#ifdef EXPORT
	if
#ifdef BUG_ENTRY_NOT_MARKED
	:: !entered && held[v] == H_NONE
	:: entered && held[v] == H_NONE && g[v] == APP -> held[v] = H_HELD
#else
	:: held[v] == H_NONE && g[v] == APP -> held[v] = H_HELD
#endif
	:: held[v] == H_NONE && g[v] == CRIT -> held[v] = H_FORCED
	:: held[v] == H_NONE && g[v] == DOOR
	:: held[v] != H_NONE
	fi
#endif
}

/* notifier.c: sched_out() of a thread in kf_sleep() */
inline sched_out(v) {
	if
	:: asleep[v] && parking(v) ->
		assert(!inguest[v]);
		st[v] = PARKED
	:: else
	fi
}

#define out_of_run(v) inguest[v] = 0; inrun[v] = 0; tif[v] = 0
/* RUN from user space: a kick counts from here on, and the look comes next. */
#define into_run(v) inrun[v] = 1

/* A vCPU's thread: PARK, RUN, and the guest and the VMM around them. */
proctype vcpu(byte v) {
	byte c, n, p;
	bit busy;
#ifdef BUG_ENTRY_NOT_MARKED
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
			aware[v] = 0;
			if
			:: owner[c] == v -> pass_on(c, n)
			:: else
			fi;
			c = NONE
		:: else
		fi;
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
		into_run(v);
		goto look
	};
look:	/* run.c: kf_tell(), then may_enter(). The flag has been cleared before: kf_swallow_kick(). */
	atomic {
		if
		:: is_killed(v) -> out_of_run(v); goto die
		:: !is_killed(v) && has_core(v) && news[v] -> out_of_run(v); news[v] = 0; goto settle
		:: !is_killed(v) && has_core(v) && !news[v] && st[v] == RUNNING
		:: !is_killed(v) && has_core(v) && !news[v] && st[v] == CEDING ->
			if
			:: g[v] == CRIT && !is_forced(v) -> aware[v] = 1 /* FluxOS sees the request itself */
			:: else -> mark_held(v); out_of_run(v); goto leave
			fi
		:: !is_killed(v) && waits(v) ->
			if
			:: st[v] == BLOCKED || parking(v) -> mark_held(v)
			:: else
			fi;
			out_of_run(v); goto leave
		:: !is_killed(v) && st[v] == UNMANAGED -> news[v] = 0
		:: !is_killed(v) && st[v] == DEAD -> out_of_run(v); goto dead
		fi
#ifndef BUG_LOOK_BEFORE_CLEAR
		;
		/* Into KVM_RUN, which looks at the flag with interrupts off before it enters. */
		inguest[v] = 1;
		g[v] = APP;
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

/* request.c: kf_request(), and kf_grant() where the core has no owner. t == IDLE: PARK. */
inline command(c, t, n, f, p, busy) {
	atomic {
		usable(c) && succ[c] == NONE && may_command &&
		(owner[c] != NONE || (claimable(1) && may_run(1, c)) || (claimable(2) && may_run(2, c)) || claimable(3)) ->
#ifdef COMMANDS
		commands--;
#endif
		if
		:: owner[c] != NONE -> t = IDLE
		:: claimable(1) && may_run(1, c) -> t = 1
		:: claimable(2) && may_run(2, c) -> t = 2
		:: claimable(3) -> t = 3
		fi;
		if
		:: owner[c] == NONE -> give(c, t); n = t
		:: else ->
			if
			:: t != IDLE -> st[t] = GRANTING; co[t] = c
			:: else
			fi;
			succ[c] = t;
			f = owner[c];
			st[f] = CEDING;
			aware[f] = 0;
#ifdef TIMER
			forced[f] = 0;
			late[f] = 0;
			overdue[c] = 0;
			if
			:: timed(c) -> stage[c] = 1; armed[c] = 1; due[c] = 0
			:: timed(c) -> stage[c] = 2; armed[c] = 1; due[c] = 0; kick(f)
			:: !timed(c) -> kick(f)
			fi;
#else
			kick(f);
#endif
#ifdef WORK
			/* Nobody is there to be asked. The module drops the lock and takes it again here. */
			if
			:: is_off(f) -> look_at_core(c, f, n)
			:: else -> f = NONE
			fi
#else
			f = NONE
#endif
		fi;
		t = NONE
	};
	deliver(n, p, busy);
	send_away(f, p, busy)
}

/* The holder of the lease. It commands whatever it likes, for ever. */
proctype arbiter() {
	byte t, n, f, p;
	bit busy;
end:	do
	:: command(1, t, n, f, p, busy)
	:: command(2, t, n, f, p, busy)
#ifdef HEIR
	:: atomic { usable(1) -> if :: heir[1] = NONE :: heir[1] = 2 :: heir[1] = 3 fi }
#endif
	od
}

#ifdef WORK
/* deadline.c: the core's hrtimer, whose expiry and whose turn at the lock are two steps; and the core's work. */
proctype clock(byte c) {
	byte n, f, p;
	bit busy;
end:	do
#ifdef TIMER
#ifndef NO_DEADLINE
	:: atomic {
		armed[c] && !fired[c] ->
		armed[c] = 0;
		fired[c] = 1;
		due[c] = 1;
		if
		:: owner[c] != NONE && succ[c] != NONE && stage[c] >= 2 -> late[owner[c]] = 1
		:: else
		fi
	   }
	:: atomic {
		fired[c] ->
		fired[c] = 0;
		if
#ifdef BUG_FORCE_WITHOUT_GENERATION
		/* The handler does the stage that it was set for, to whoever has the core. */
		:: owner[c] != NONE && succ[c] != NONE ->
#else
		:: owner[c] != NONE && succ[c] != NONE && due[c] ->
#endif
			if
			:: stage[c] == 1 -> kick(owner[c]); stage[c] = 2; armed[c] = 1; due[c] = 0
			:: stage[c] == 2 ->
				forced[owner[c]] = 1;
				kick(owner[c]);
				stage[c] = 3; armed[c] = 1; due[c] = 0;
				if
				:: is_off(owner[c]) -> queue_look(c)
				:: else
				fi
			:: stage[c] == 3 -> overdue[c] = 1; queue_look(c)
			fi
		:: else
		fi
	   }
#endif
#endif
	:: atomic { work[c] -> work[c] = 0; look_at_core(c, f, n) };
	   deliver(n, p, busy);
	   send_away(f, p, busy)
	od
}
#endif

#ifdef OFFLINE
/* hotplug.c: core 2 goes and comes back */
proctype hotplug() {
	byte n, f, p;
	bit busy;
end:	do
	:: atomic {
		offline[2] == 0 ->
		offline[2] = 1;
		if
#ifdef BUG_OFFLINE_KEEPS_SUCCESSOR
		:: true
#else
		:: succ[2] != NONE && succ[2] != IDLE -> st[succ[2]] = PARKED; co[succ[2]] = NONE
		:: else
#endif
		fi;
		if
		:: owner[2] != NONE -> succ[2] = IDLE; take(2, f, n)
		:: else
		fi
	   };
	   send_away(f, p, busy)
	:: offline[2] = 0
	od
}
#endif

#ifdef DEATH
/* A thread is killed; VM A's descriptor is released (END). */
proctype reaper() {
	byte c, n, p;
	bit busy;
	atomic { if :: killed[1] = 1 :: killed[3] = 1 :: true fi };
	atomic { withdraw(1, DEAD, c, n) };
	withdrawn(1, n, p, busy);
	atomic { withdraw(2, DEAD, c, n) };
	withdrawn(2, n, p, busy)
}
#endif

#ifdef LEASE
/* withdraw.c: kf_core_unclaim() */
inline unclaim(c) {
	atomic {
		claimed[c] = 0;
#ifndef BUG_CORE_NOT_FREED
		owner[c] = NONE;
#endif
		succ[c] = NONE
#ifdef HEIR
		; heir[c] = NONE
#endif
	}
}

/* vm.c: kf_vm_manage() */
inline manage(v) {
	atomic {
		if
		:: st[v] == UNMANAGED -> st[v] = CEDING; kick(v)
		:: else
		fi
	}
}

/* lease.c: the lease ends; another arbiter adopts the VMs. */
proctype lease() {
	byte c, n, p;
	bit busy;
	/* Once, at any time: before, during or after what the commands lead to. */
	holder = 0;
	unclaim(1);
	unclaim(2);
	atomic { withdraw(1, UNMANAGED, c, n) };
	withdrawn(1, n, p, busy);
	atomic { withdraw(2, UNMANAGED, c, n) };
	withdrawn(2, n, p, busy);
	atomic { withdraw(3, UNMANAGED, c, n) };
	withdrawn(3, n, p, busy);
	ended = 1;
	atomic { ended = 0; holder = 1; claimed[1] = 1; claimed[2] = 1 };
	manage(1);
	manage(2);
	manage(3)
}
#endif

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
#define may_be_inside(v) (!inguest[v] || tif[v] || owed[v] > 0 || has_core(v) || st[v] == UNMANAGED)
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
/* A stranded uThread: parked in a uThread's code, and nobody can take it. */
#define not_stranded(v) (st[v] != PARKED || g[v] != APP || held[v] != H_NONE)
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

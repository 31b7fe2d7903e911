/* SPDX-License-Identifier: GPL-2.0 */
/* Everybody else: the arbiter, the timers, the CPU that goes, the reaper, the lease. */
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

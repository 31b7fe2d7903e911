/* SPDX-License-Identifier: GPL-2.0 */
/* The words of the model: constants, cores, vCPUs, and what a feature that is off stands for. */
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
#ifdef SEIZE
#define INSIDE
bit inside[4];  /* parked in FluxOS's code, and has not run since */
#endif
#endif
#ifdef INSIDE
#define set_inside(v, x) inside[v] = x
#else
#define set_inside(v, x) skip
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

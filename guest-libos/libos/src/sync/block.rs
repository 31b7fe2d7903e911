//! How a uThread goes to sleep on something, and how it is woken.
//!
//! All of `sync` waits by [`Sleeper::sleep`] and is woken by [`wake`] and [`wake_all`]. What is waited for
//! is found by the waker under the lock of its wait list; who may end the wait besides is settled
//! by the uThread's ticket, as [`crate::timer`] says. Besides the deadline another uThread may end
//! it, by [`super::interrupt()`]: see [`sched::interrupt`].

use core::sync::atomic::{AtomicU32, Ordering};

use sched::interrupt::{Interrupt, Shown};
use sched::spin::Spin;
use sched::sync64::AtomicU64;
use sched::ticket;
use sched::timers::NEVER;
use sched::waiters::{Table, Waiters};
use sched::{Id, NOBODY};

use crate::kernel::Kernel;
use crate::log::fatal;
use crate::timer;
use crate::uthread::{place, UThread};
use crate::vcpu::{enter, leave, suspend, After, Local};

/// What a uThread keeps for its waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    back: AtomicU32,
    arg: AtomicU64,
    pub(super) interrupt: Interrupt,
    /// Stands in for the lock of a wait list where there is no list.
    pub(crate) nap: Spin<()>,
}

impl Waiting {
    pub(crate) const fn new() -> Waiting {
        Waiting {
            back: AtomicU32::new(NOBODY),
            arg: AtomicU64::new(0),
            interrupt: Interrupt::new(),
            nap: Spin::new(()),
        }
    }
}

impl Table for Kernel {
    fn back(&self, id: Id) -> &AtomicU32 {
        &known(self, id).waiting.back
    }

    fn arg(&self, id: Id) -> &AtomicU64 {
        &known(self, id).waiting.arg
    }

    fn claim(&self, id: Id) -> bool {
        Kernel::claim(self, id)
    }

    fn settle(&self, id: Id) {
        known(self, id).alarm.ticket.settle();
    }
}

/// A number from nowhere is a broken table; it must not reach other memory.
pub(super) fn known(kernel: &Kernel, id: Id) -> &'static UThread {
    match kernel.uthread(id) {
        Some(uthread) => uthread,
        None => fatal(format_args!("uThread {id} waits, but does not exist")),
    }
}

/// How long a wait may be, and what may end it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Until {
    deadline: u64,
    interruptible: bool,
}

impl Until {
    /// Until it is over.
    pub const EVER: Until = Until {
        deadline: NEVER,
        interruptible: false,
    };

    /// Until the TSC has come to `deadline` at the latest; see [`crate::time::deadline_in`].
    pub const fn at(deadline: u64) -> Until {
        Until {
            deadline,
            interruptible: false,
        }
    }

    /// The same, but an interrupt ends it as well.
    pub const fn or_interrupt(self) -> Until {
        Until {
            deadline: self.deadline,
            interruptible: true,
        }
    }
}

/// Why a wait ended without what was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lapse {
    TimedOut,
    Interrupted,
}

/// Something with a lock that is held by whoever is about to sleep on it.
pub(crate) trait Bed {
    /// Lets the lock go, on the scheduler's stack, the sleeper's context saved. With the lock goes
    /// the right to touch anything of the sleeper's, this included.
    ///
    /// # Safety
    /// Called once for each sleep.
    unsafe fn asleep(&self);

    /// The sleeper was woken by something else than the one it waits for: takes the lock, and takes the
    /// sleeper off what it is still on. Called by itself, with `critical` set.
    fn leave(&self, kernel: &Kernel, me: Id);
}

/// The uThread that is about to wait, with `critical` set.
pub(crate) struct Sleeper {
    pub(crate) me: Id,
    pub(crate) kernel: &'static Kernel,
    pub(super) uthread: &'static UThread,
    until: Until,
    /// Of the ticket, if there is one.
    number: u32,
}

impl Sleeper {
    /// Begins what may become a wait. It ends with [`Sleeper::sleep`] or [`Sleeper::stay`].
    ///
    /// # Safety
    /// `critical` is set, and a uThread calls this.
    #[inline]
    pub(crate) unsafe fn new(until: Until) -> Sleeper {
        // SAFETY: by the caller's promise.
        let local = unsafe { Local::here() };
        let (me, kernel) = (local.current.load(Ordering::Relaxed), local.kernel());
        let uthread = known(kernel, me);
        let number = if until == Until::EVER {
            0
        } else {
            uthread.alarm.ticket.open()
        };
        Sleeper {
            me,
            kernel,
            uthread,
            until,
            number,
        }
    }

    /// There was nothing to wait for.
    #[inline]
    pub(crate) fn stay(self) {
        if self.until != Until::EVER {
            self.uthread.alarm.ticket.close();
        }
    }

    /// Sleeps on `bed`, whose lock is held and on whose list the uThread is.
    ///
    /// # Safety
    /// As said; `critical` is set, and nothing learnt about this vCPU is used after.
    pub(crate) unsafe fn sleep<B: Bed>(self, bed: &B) -> Result<(), Lapse> {
        if self.until == Until::EVER {
            // SAFETY: by the caller's promise; the bed stays until the sleep is over.
            unsafe { suspend(After::Sleep(opened::<B>, (&raw const *bed).cast())) };
            return Ok(());
        }
        let waiting = &self.uthread.waiting;
        let mut shown = None;
        if self.until.interruptible {
            shown = Some(waiting.interrupt.show(self.number));
            // If the ticket is gone already, whoever has it waits for us to sleep, to wake us.
            if self.was_interrupted() && self.uthread.alarm.ticket.expire(self.number) {
                // SAFETY: instead of sleeping. Nobody else wakes us: the ticket is ours.
                unsafe { bed.asleep() };
                return self.lapse(bed, waiting);
            }
        }
        let record = Record {
            bed: &raw const *bed,
            waiting,
            shown,
        };
        // SAFETY: by the caller's promise. The record stays until the list's lock was let go: who
        // was not woken by the list's lock's owner comes for it in `lapse`.
        let ended = unsafe {
            timer::suspend_until(
                self.until.deadline,
                opened_for_more::<B>,
                (&raw const record).cast(),
            )
        };
        match ended {
            ticket::Ended::Woken => {
                waiting.interrupt.over();
                Ok(())
            }
            ticket::Ended::Expired => self.lapse(bed, waiting),
        }
    }

    fn lapse<B: Bed>(&self, bed: &B, waiting: &Waiting) -> Result<(), Lapse> {
        bed.leave(self.kernel, self.me);
        waiting.interrupt.over();
        self.uthread.alarm.ticket.close();
        if self.until.interruptible && self.was_interrupted() {
            return Err(Lapse::Interrupted);
        }
        Err(Lapse::TimedOut)
    }

    fn was_interrupted(&self) -> bool {
        let life = self.uthread.exit.life();
        self.uthread.waiting.interrupt.happened(life)
    }
}

/// # Safety
/// As [`Bed::asleep`].
unsafe fn opened<B: Bed>(bed: *const ()) {
    // SAFETY: passed along by `sleep`, whose uThread sleeps on it.
    unsafe { (*bed.cast::<B>()).asleep() }
}

/// What is to be opened for a sleeper whose wait others may end. On its stack.
struct Record<'a, B> {
    bed: *const B,
    waiting: &'a Waiting,
    shown: Option<Shown>,
}

/// # Safety
/// As [`Bed::asleep`]; `record` is a `Record`.
unsafe fn opened_for_more<B: Bed>(record: *const ()) {
    // SAFETY: the sleeper cannot leave `sleep` before the list's lock is let go, which is last.
    unsafe {
        let record = &*record.cast::<Record<'_, B>>();
        if let Some(shown) = record.shown {
            record.waiting.interrupt.asleep(shown);
        }
        (*record.bed).asleep();
    }
}

/// Makes a uThread runnable that was claimed off a list; it runs next here. With `critical` set.
pub(crate) fn wake(local: &Local, id: Id) {
    local.wake(id);
}

/// As [`wake`], for all on a list of the caller's own; they come after what is runnable here. With
/// `critical` set, which it may clear in between if they are many, so nothing learnt about this vCPU is
/// of any use after.
pub(crate) fn wake_all(mut list: Waiters) {
    const BATCH: u32 = 32;
    while !list.is_empty() {
        // SAFETY: `critical` is set.
        let local = unsafe { Local::here() };
        let kernel = local.kernel();
        for _ in 0..BATCH {
            let Some(id) = list.pop(kernel) else { break };
            local.ready(id, known(kernel, id), place::BLOCKED, false);
        }
        kernel.announce(local.id);
        if !list.is_empty() {
            leave();
            enter();
        }
    }
}

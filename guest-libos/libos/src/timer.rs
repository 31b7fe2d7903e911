//! Deadlines: what a uThread waits with that does not want to wait for ever.
//!
//! # How to wait with a deadline
//!
//! A wait without one is `suspend(After::Sleep(opened, what))`: the uThread is on a wait list whose
//! lock is held, and `opened(what)` lets that lock go once the context is saved. A wait with one
//! has two that may end it, and they settle it by the uThread's [`Ticket`]:
//!
//! 1. With `critical` set and the list's lock held: [`open`], then onto the list.
//! 2. [`suspend_until`]. It returns with `critical` set, perhaps on another vCPU, and says how the
//!    wait ended. The timer is gone by then in either case.
//! 3. `Woken`: somebody took the uThread off the list. `Expired`: the uThread may still be on
//!    the list and takes itself off, under the list's lock. It must do so, and then [`close`], before it waits again or the
//!    list's memory goes; if somebody has popped it meanwhile, it is simply not there any more.
//!
//! Whoever takes a uThread off the list asks [`Kernel::claim`] **with the list's lock still held**
//! and makes it runnable ([`Local::wake`]) only if that says yes. If it says no, the uThread's
//! deadline was first: it is runnable already, and the next in the list is to be woken instead. A
//! claim after the lock was let go could hit the uThread's next wait. Waits without a deadline need
//! no ticket, and a claim on one of them always says yes.
//!
//! So there is no lost wake: a waker either claims, and the timer finds the ticket gone, or does
//! not, and wakes somebody else. And no double wake: the ticket goes to one of them.
//!
//! # Where timers are
//!
//! Each vCPU has a heap with room for every uThread, so a uThread, which waits for one thing at a
//! time, always finds room. A timer is armed on the vCPU that the uThread leaves, after its context was
//! saved and before the list is opened, and taken off by the uThread when it runs again, wherever
//! that is. What is due is fired by any vCPU that comes through its scheduler, its own timers first: a
//! vCPU that is parked, or computes for long, delays nobody. The earliest deadline of the VM is in
//! the summary line, where the arbiter finds that the VM wants a core, and Fluxion, without an arbiter, how
//! long it may sleep.

use core::sync::atomic::{AtomicU32, Ordering};

use arch::clock::tsc;
use flux_abi::SUMMARY_TIMER;
use sched::deadlines::{NoTimer, Places, Timer};
use sched::ticket::{Ended, Ticket};
use sched::timers::{Heaps, Timers, NEVER};
use sched::{Id, NOBODY};

use crate::account::count;
use crate::kernel::Kernel;
use crate::log::fatal;
use crate::uthread::{place, UThread};
use crate::vcpu::{suspend, After, Local};

/// What a uThread keeps for its waits with a deadline.
#[derive(Debug)]
pub(crate) struct Alarm {
    pub(crate) ticket: Ticket,
    /// Its place in the heap of `on`.
    place: AtomicU32,
    /// The vCPU in whose heap its timer is, if it is in any. Written before the timer is armed,
    /// by the vCPU that has the uThread, so relaxed.
    on: AtomicU32,
}

impl Alarm {
    pub(crate) const fn new() -> Alarm {
        Alarm {
            ticket: Ticket::new(),
            place: AtomicU32::new(sched::deadlines::NOWHERE),
            on: AtomicU32::new(0),
        }
    }
}

/// Begins a wait with a deadline of the uThread that runs here, before it is on any list.
pub(crate) fn open(local: &Local) -> Id {
    let (id, uthread) = current(local);
    uthread.alarm.ticket.open();
    id
}

fn current(local: &Local) -> (Id, &'static UThread) {
    let id = local.current.load(Ordering::Relaxed);
    match local.kernel().uthread(id) {
        Some(uthread) => (id, uthread),
        None => fatal(format_args!(
            "vCPU {} waits with uThread {id}, which does not exist",
            local.id
        )),
    }
}

/// Ends a wait that has expired, when the uThread, which runs here, has taken itself off its list.
pub(crate) fn close(local: &Local) {
    current(local).1.alarm.ticket.close();
}

/// Puts the uThread to sleep until it is woken or the TSC has come to `deadline`; [`NEVER`] is
/// never. `opened` as in [`After::Sleep`].
///
/// # Safety
/// As for [`suspend`], after [`open`]; `opened(what)` may be called once, when the context is saved.
pub(crate) unsafe fn suspend_until(deadline: u64, opened: unsafe fn(*const ()), what: *const ()) -> Ended {
    // SAFETY: by the caller's promise.
    unsafe { suspend(After::SleepUntil(deadline, opened, what)) };
    // SAFETY: `critical` is set when a suspended uThread goes on.
    let local = unsafe { Local::here() };
    let (id, uthread) = current(local);
    let ended = uthread.alarm.ticket.ended();
    // Nothing else than the heap's lock need be asked if the timer was fired: who fired it left
    // this behind before it came here, or is about to and finds the ticket closed.
    if uthread.alarm.place.load(Ordering::Relaxed) != sched::deadlines::NOWHERE {
        local.kernel().disarm(id, uthread);
    }
    ended
}

/// For a sleep with nothing to wait for.
///
/// # Safety
/// None needed; the signature is that of [`After::Sleep`].
pub(crate) unsafe fn nothing_to_open(_: *const ()) {}

impl Kernel {
    /// For whoever takes uThread `id` off a wait list, the list's lock still held: whether the
    /// uThread is now the caller's to wake. See this file's text.
    pub(crate) fn claim(&self, id: Id) -> bool {
        self.some(id).alarm.ticket.claim()
    }

    fn some(&self, id: Id) -> &'static UThread {
        match self.uthread(id) {
            Some(uthread) => uthread,
            None => fatal(format_args!(
                "a list or a timer names uThread {id}, which does not exist"
            )),
        }
    }

    fn disarm(&self, id: Id, uthread: &UThread) {
        let on = uthread.alarm.on.load(Ordering::Relaxed);
        let armed = self.locals.get(on as usize);
        if let Some(deadline) = armed.and_then(|on| on.timers.disarm(self, id)) {
            self.earliest.raised(self, deadline);
        }
    }

    /// Whether some timer is due. A load, as long as there are no timers.
    pub(crate) fn timer_due(&self) -> bool {
        let earliest = self.earliest.get();
        earliest != NEVER && tsc() >= earliest
    }

    /// Whether some uThread is runnable that is not in the queue here, or will be at once.
    pub(crate) fn work_elsewhere(&self) -> bool {
        self.page.summary().runnable.load(Ordering::Relaxed) != 0 || self.timer_due()
    }

    /// A stamp tells times apart that are less than half its range from each other, so a later
    /// deadline is shown as one at a quarter of the range: the VM gets a core, finds nothing due,
    /// and shows it again.
    fn shown(&self, deadline: u64) -> u32 {
        let at = deadline.min(tsc().saturating_add(self.clock.horizon()));
        self.clock.stamp_not_before(at)
    }

    /// Before a core is given back: shows the earliest deadline again if it was too far away to be
    /// shown as it is.
    pub(crate) fn show_far_timer(&self) {
        let earliest = self.earliest.get();
        let shown = self.page.summary().next_timer.load(Ordering::Relaxed);
        if earliest != NEVER && self.clock.stamp_not_before(earliest) != shown {
            self.earliest.refresh(self);
        }
    }
}

impl Places for Kernel {
    fn place(&self, id: Id) -> &AtomicU32 {
        &self.some(id).alarm.place
    }
}

impl Heaps for Kernel {
    fn least(&self) -> u64 {
        self.locals
            .iter()
            .map(|local| local.timers.next())
            .min()
            .unwrap_or(NEVER)
    }

    fn show(&self, deadline: u64) {
        let summary = self.page.summary();
        let shown = summary.flags.load(Ordering::Relaxed) & SUMMARY_TIMER != 0;
        if deadline == NEVER {
            summary.flags.fetch_and(!SUMMARY_TIMER, Ordering::Relaxed);
        } else {
            summary.next_timer.store(self.shown(deadline), Ordering::Relaxed);
            if !shown {
                summary.flags.fetch_or(SUMMARY_TIMER, Ordering::Relaxed);
            }
        }
        // Release, last: as in `PageFigures::show`.
        summary.seq.fetch_add(1, Ordering::Release);
    }
}

impl Local {
    /// Arms the timer of a uThread that has just left this vCPU, its context saved and its ticket
    /// open. From here on it may run elsewhere.
    pub(crate) fn arm(&self, id: Id, uthread: &UThread, deadline: u64) {
        if deadline == NEVER {
            return;
        }
        let timer = Timer {
            deadline,
            id,
            number: uthread.alarm.ticket.number(),
        };
        uthread.alarm.on.store(self.id, Ordering::Relaxed);
        let kernel = self.kernel();
        match self.timers.arm(kernel, timer) {
            Ok(()) => {}
            Err(NoTimer) => fatal(format_args!(
                "the timers of vCPU {} are full: some uThread has two",
                self.id
            )),
        }
        if kernel.earliest.lowered(kernel, deadline) {
            self.owes_ring.set(true);
        }
    }

    /// Makes the uThreads runnable here whose deadlines have passed, on whichever vCPU they were
    /// armed. A load, as long as no timer is armed.
    pub(crate) fn fire_due(&self) {
        let kernel = self.kernel();
        let earliest = kernel.earliest.get();
        if earliest == NEVER {
            return;
        }
        let now = self.now();
        if now < earliest {
            return;
        }
        let mut fired = 0;
        for timers in core::iter::once(&self.timers).chain(self.others().map(|other| &other.timers)) {
            while let Some(timer) = timers.take_due(kernel, now) {
                fired += self.expire(timer);
            }
        }
        // In any case: what made us look may be gone already, and then this is what it was.
        kernel.earliest.refresh(kernel);
        if fired > 0 && self.queue.len() > 1 {
            kernel.announce(self.id);
        }
    }

    fn expire(&self, timer: Timer) -> u32 {
        let uthread = self.kernel().some(timer.id);
        if !uthread.alarm.ticket.expire(timer.number) {
            return 0;
        }
        debug_assert_ne!(timer.id, NOBODY);
        self.trace(flux_abi::TRACE_TIMER, 0, timer.id);
        count(&self.guest.timers, 1);
        self.ready(timer.id, uthread, place::BLOCKED, false);
        1
    }

    /// Called before a uThread runs here: if a timer of this vCPU's became the VM's earliest,
    /// vCPUs that sleep without an arbiter may sleep for too long. One that goes to sleep itself
    /// knows of it, so there is nothing to be rung for before.
    pub(crate) fn ring_for_timer(&self) {
        if self.owes_ring.take() {
            self.kernel().announce_timer(self.id);
        }
    }
}

/// Room for the timers of a vCPU.
pub(crate) fn timers(room: Option<&'static mut [Timer]>) -> Timers<'static> {
    Timers::new(room.unwrap_or(&mut []))
}

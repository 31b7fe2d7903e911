//! What all vCPUs of the VM share.

use core::cell::Cell;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use flux_abi::{GuestVcpu, Summary};
use sched::queue::Figures;
use sched::sleepers::Sleepers;
use sched::slots::Slots;
use sched::timers::Earliest;
use sched::waiters::Links;
use sched::{Id, NOBODY};

use crate::options::OnPark;
use crate::page::Page;
use crate::platform::Platform;
use crate::time::Clock;
use crate::uthread::UThread;
use crate::vcpu::Local;
use crate::work::Source;

/// FluxOS's state, made at boot, never moved and never dropped.
pub struct Kernel {
    pub page: Page,
    pub platform: &'static dyn Platform,
    pub clock: Clock,
    /// Ticks that an idle vCPU looks for work before it gives its core back.
    pub(crate) idle_ticks: u64,
    pub(crate) on_park: OnPark,
    pub(crate) locals: &'static [Local],
    pub(crate) uthreads: &'static [UThread],
    pub(crate) slots: Slots<'static>,
    /// When the first timer of all vCPUs is due.
    pub(crate) earliest: Earliest,
    pub(crate) sleepers: &'static Sleepers,
    /// A `&'static &'static dyn Source`, or null: a fat pointer does not fit an atomic.
    pub(crate) source: AtomicPtr<&'static dyn Source>,
}

// SAFETY: the page, the platform and the tables are Sync or consist of it; what `Local` and
// `UThread` keep in cells is touched by one vCPU at a time, as each of them says.
unsafe impl Sync for Kernel {}

impl Kernel {
    /// The kernel that this vCPU runs.
    ///
    /// # Safety
    /// This vCPU has come as far as its scheduler.
    pub(crate) unsafe fn here() -> &'static Kernel {
        // SAFETY: by the caller's promise the private data is there. It may be another vCPU's by
        // now if `critical` is not set; all of them have the same kernel.
        unsafe { Local::anywhere().kernel() }
    }

    pub fn vcpus(&self) -> u32 {
        self.locals.len() as u32
    }

    pub(crate) fn uthread(&self, id: Id) -> Option<&'static UThread> {
        self.uthreads.get((id as usize).wrapping_sub(1))
    }

    /// Work was made ready: sees to it that a vCPU which sleeps is woken, if nobody else is to find it and no
    /// arbiter looks after the VM.
    pub(crate) fn announce(&self, vcpu: u32) {
        if self.is_alone() {
            return;
        }
        let rung = &self.page.summary().rung;
        if self.sleepers.wants_ring(rung, || self.is_unmanaged(vcpu)) {
            self.platform.door(flux_abi::PORT_DOORBELL, 0);
        }
    }

    /// The VM's earliest deadline has come nearer: as [`Kernel::announce`], but who looks for work now may find
    /// some, and be busy when the time has come. So somebody who sleeps is told.
    pub(crate) fn announce_timer(&self, vcpu: u32) {
        if self.sleepers.any() && self.is_unmanaged(vcpu) {
            self.platform.door(flux_abi::PORT_DOORBELL, 0);
        }
    }

    /// Whether there is one vCPU only: it has nobody to wake.
    fn is_alone(&self) -> bool {
        self.locals.len() == 1
    }

    fn is_unmanaged(&self, vcpu: u32) -> bool {
        self.page.host(vcpu).unmanaged.load(Ordering::Relaxed) != 0
    }

    /// One more or fewer uThread is alive. Nobody acts upon that, so nobody is told.
    pub(crate) fn count_alive(&self, delta: i32) {
        add(&self.page.summary().uthreads, delta as u32, self.is_alone());
    }

    /// The guest checked its own data and found it wrong.
    pub fn count_integrity_error(&self) {
        let summary = self.page.summary();
        summary.integrity_errors.fetch_add(1, Ordering::Relaxed);
        summary.seq.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn source(&self) -> Option<&'static dyn Source> {
        let source = self.source.load(Ordering::Acquire);
        // SAFETY: null, or a static reference stored by `serve_from`.
        unsafe { source.as_ref().copied() }
    }

    /// From now on idle vCPUs take work from `source`.
    pub fn serve_from(&self, source: &'static &'static dyn Source) {
        self.source
            .store((&raw const *source).cast_mut(), Ordering::Release);
    }
}

impl Links for Kernel {
    fn link(&self, id: Id) -> &AtomicU32 {
        // A number from nowhere is a broken table; it must not reach other memory.
        match self.uthread(id) {
            Some(uthread) => &uthread.link,
            None => crate::log::fatal(format_args!("wait list names uThread {id}, which does not exist")),
        }
    }
}

/// Adds to a word of the VM's that its vCPUs write. One that is `alone` has it to itself, and needs no locked
/// instruction for it, of which a switch would have half a dozen.
fn add(word: &AtomicU32, by: u32, alone: bool) {
    if alone {
        // Release: as the other one may be.
        word.store(word.load(Ordering::Relaxed).wrapping_add(by), Ordering::Release);
    } else {
        word.fetch_add(by, Ordering::Release);
    }
}

/// Publishes a run queue's figures in the control page.
///
/// The summary line is written by all vCPUs, so it is touched as little as can be: the number of
/// runnable uThreads only when this queue's length has changed, and the sequence number besides
/// only when the oldest stamp has moved by [`GRAIN_NS`] since it was last told. So whoever reads a
/// queue again when the number has changed knows its length, and its oldest stamp to that grain.
pub struct PageFigures {
    guest: &'static GuestVcpu,
    summary: &'static Summary,
    /// Whether its vCPU is the only one.
    alone: bool,
    /// In stamps.
    grain: u32,
    /// The oldest stamp when the sequence number was bumped for this queue the last time. Written
    /// by several; a wrong one is a bump too many, or one that comes a grain later.
    told: AtomicU32,
}

/// How far the oldest stamp may have moved without the host being told.
const GRAIN_NS: u64 = 4_000;

impl PageFigures {
    pub(crate) fn new(page: Page, vcpu: u32, clock: &Clock) -> PageFigures {
        PageFigures {
            guest: page.guest(vcpu),
            summary: page.summary(),
            alone: page.header().vcpus == 1,
            grain: clock.stamps(GRAIN_NS),
            told: AtomicU32::new(0),
        }
    }
}

impl Figures for PageFigures {
    fn show(&self, len: u32, oldest: u32) {
        // The stamp first: who reads a length that is not 0 finds a stamp that was one.
        self.guest.oldest.store(oldest, Ordering::Relaxed);
        let before = if self.alone {
            let before = self.guest.runq_len.load(Ordering::Relaxed);
            self.guest.runq_len.store(len, Ordering::Release);
            before
        } else {
            self.guest.runq_len.swap(len, Ordering::AcqRel)
        };
        if before != len {
            // The sum of what all queues show, because each knows what it showed before.
            add(&self.summary.runnable, len.wrapping_sub(before), self.alone);
        }
        let moved = oldest.wrapping_sub(self.told.load(Ordering::Relaxed)) as i32;
        if before != len || len != 0 && moved.unsigned_abs() > self.grain {
            self.told.store(oldest, Ordering::Relaxed);
            // Release, last: who sees the new number sees the figures. Pairs with the arbiter's read.
            add(&self.summary.seq, 1, self.alone);
        }
    }

    fn oldest(&self) -> u32 {
        self.guest.oldest.load(Ordering::Relaxed)
    }
}

/// A saved stack pointer.
#[derive(Debug, Default)]
pub(crate) struct SavedRsp(pub Cell<u64>);

/// Checks that a uThread goes from one place to another as it must; a wrong step means that it is
/// in two places, and nothing may run on then.
pub(crate) fn step(uthread: &UThread, id: Id, from: u32, to: u32) {
    // Relaxed: the place is only looked at by whoever has the uThread.
    let found = uthread.place.load(Ordering::Relaxed);
    if found != from || id == NOBODY {
        crate::log::fatal(format_args!(
            "uThread {id} is in place {found} instead of {from}, on its way to {to}"
        ));
    }
    uthread.place.store(to, Ordering::Relaxed);
}

//! A vCPU's private data, and the way in and out of FluxOS.

use core::cell::{Cell, UnsafeCell};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use arch::fibre::Fibre;
use arch::gs;
use arch::upcall::Head;
use flux_abi::{Context, GuestVcpu, HostVcpu};
use sched::queue::{Entry, RunQueue};
use sched::timers::Timers;
use sched::{Id, NOBODY};

use crate::account::count;
use crate::kernel::{step, Kernel, PageFigures, SavedRsp};
use crate::log::fatal;
use crate::page::Page;
use crate::trace::{Position, TRACE_WAKE};
use crate::uthread::{place, UThread};

/// Where, from GS base, the units of work done on this vCPU are counted.
pub const DONE: usize = gs::DONE;
/// Where, from GS base, a word lies that is another one on each vCPU.
pub const PRIVATE: usize = gs::PRIVATE;

/// What is to become of a uThread that has just left its vCPU.
#[derive(Clone, Copy, Debug)]
pub(crate) enum After {
    /// Its turn is over: to the tail of the queue.
    Back,
    /// As `Back`, because it has had its time slice.
    Preempt,
    /// It gave way to a park request: to the head of the queue.
    Front,
    /// As `Front`, and the vCPU gives its core back at once.
    Cede,
    /// It waits for something whose list is still locked: call this with that argument.
    Sleep(unsafe fn(*const ()), *const ()),
    /// As `Sleep`, until the TSC has come to this at the latest; see [`crate::timer`].
    SleepUntil(u64, unsafe fn(*const ()), *const ()),
    /// It is done.
    Exit,
}

/// Private data of one vCPU. Reached by others only where a field says so.
#[repr(C)]
pub struct Local {
    /// First, because assembly reads it.
    pub(crate) head: Head,
    pub(crate) id: u32,
    /// The uThread that runs here, also while the vCPU is held. A thief changes it, owning `busy`.
    pub(crate) current: AtomicU32,
    /// Not 0 while a thief uses this vCPU's context slot and `current`. It is taken by a
    /// compare-and-swap and given back with the last read of the slot.
    pub(crate) busy: AtomicU32,
    /// The scheduler's context while a uThread runs.
    pub(crate) scheduler: SavedRsp,
    pub(crate) fibre: Fibre,
    pub(crate) after: Cell<After>,
    /// Not 0 while this vCPU has left its core, or is about to, unless its context is held; see
    /// [`Local::has_core`]. It may be old when it is read, so relaxed.
    pub(crate) away: AtomicU32,
    /// Whether it is counted as one that looks for work; see [`sched::sleepers`].
    pub(crate) looking: Cell<bool>,
    /// Whether it has slept in the host since it found work the last time.
    pub(crate) woken: Cell<bool>,
    /// Passes of the scheduler.
    pub(crate) passes: Cell<u32>,
    /// The TSC as this pass of the scheduler has seen it, and as it was when the uThread began that
    /// runs here; see [`crate::account`].
    pub(crate) now: Cell<u64>,
    pub(crate) began: Cell<u64>,
    /// An address on the scheduler's stack above which no frame of interest lies; 0 before it runs.
    pub(crate) boot_top: AtomicU64,
    /// Registers of a taken context on their way into this vCPU.
    pub(crate) taken: UnsafeCell<Context>,
    /// Open to thieves.
    pub(crate) queue: RunQueue<'static, PageFigures>,
    /// Open to whoever looks for what is due.
    pub(crate) timers: Timers<'static>,
    /// A timer of this vCPU became the VM's earliest, and sleeping vCPUs have not been told.
    pub(crate) owes_ring: Cell<bool>,
    /// Where it is in its trace ring.
    pub(crate) traced: Position,
    pub(crate) kernel: Cell<*const Kernel>,
    pub(crate) guest: &'static GuestVcpu,
    pub(crate) host: &'static HostVcpu,
}

// SAFETY: `current`, `busy`, `queue` and `timers` are made for several vCPUs. The cells are this vCPU's
// alone: they are used with `critical` set, so that no other vCPU can come to run this code as
// "this vCPU"; `kernel` is set once at boot.
unsafe impl Sync for Local {}

impl Local {
    /// This vCPU's private data.
    ///
    /// # Safety
    /// The vCPU has come as far as its scheduler, and `critical` is set. The reference means this
    /// vCPU only until `critical` is cleared or the context is switched.
    #[inline(always)]
    pub(crate) unsafe fn here() -> &'static Local {
        // SAFETY: set to a `Local` that lives for good before the scheduler was entered.
        unsafe { &*(gs::private() as *const Local) }
    }

    /// As [`Local::here`], if the vCPU has its private data already.
    ///
    /// # Safety
    /// GS base and `critical` are set.
    pub(crate) unsafe fn if_booted() -> Option<&'static Local> {
        // SAFETY: null, or as in `here`.
        unsafe { (gs::private() as *const Local).as_ref() }
    }

    /// The private data of some vCPU of this VM, for what is the same in all of them.
    ///
    /// # Safety
    /// The vCPU has come as far as its scheduler.
    #[inline(always)]
    pub(crate) unsafe fn anywhere() -> &'static Local {
        // SAFETY: as above.
        unsafe { &*(gs::private() as *const Local) }
    }

    #[inline(always)]
    pub(crate) fn kernel(&self) -> &'static Kernel {
        // SAFETY: set at boot, before any vCPU gets here, to a kernel that is never dropped.
        unsafe { &*self.kernel.get() }
    }

    /// Makes a uThread that is in no queue runnable here, and shows that it is.
    pub(crate) fn ready(&self, id: Id, uthread: &UThread, from: u32, front: bool) {
        if from == place::BLOCKED {
            count(&self.guest.wakes, 1);
        }
        self.line_up(id, uthread, from, front, self.kernel().clock.stamp());
        self.queue.publish();
    }

    /// As [`Local::ready`], for the scheduler, which shows it before anything else runs here.
    fn line_up(&self, id: Id, uthread: &UThread, from: u32, front: bool, ready: u32) {
        step(uthread, id, from, place::QUEUED);
        let entry = Entry { id, ready };
        let pushed = if front {
            self.queue.push_front(entry)
        } else {
            self.queue.push_back(entry)
        };
        if pushed.is_err() {
            fatal(format_args!(
                "uThread {id} is to run on vCPU {}, but does not exist",
                self.id
            ));
        }
    }

    /// As [`Local::ready`], by number, for a uThread that was blocked. It goes to the head: it
    /// was handed a lock that others wait for, or it is what others were working for.
    pub(crate) fn wake(&self, id: Id) {
        match self.kernel().uthread(id) {
            Some(uthread) => {
                self.trace(TRACE_WAKE, 0, id);
                self.ready(id, uthread, place::BLOCKED, true)
            }
            None => fatal(format_args!("uThread {id} was woken, but does not exist")),
        }
        self.kernel().announce(self.id);
    }

    /// Puts the uThread that has just left into its next place. On the scheduler's stack, so the
    /// uThread's context is whole before anybody can find it.
    pub(crate) fn settle(&self) {
        // Two steps: a thief changes it only while the vCPU is held, which it cannot be here.
        let id = self.current.load(Ordering::Relaxed);
        self.current.store(NOBODY, Ordering::Relaxed);
        let kernel = self.kernel();
        let Some(uthread) = kernel.uthread(id) else {
            fatal(format_args!(
                "vCPU {} came back from uThread {id}, which does not exist",
                self.id
            ));
        };
        self.trace(self.after.get().event(), 0, id);
        let now = kernel.clock.stamp_of(self.now());
        match self.after.get() {
            After::Back => self.line_up(id, uthread, place::RUNNING, false, now),
            After::Preempt => self.settle_preempted(id, uthread, now),
            After::Front => self.line_up(id, uthread, place::RUNNING, true, now),
            After::Cede => {
                self.line_up(id, uthread, place::RUNNING, true, now);
                self.yield_core(true);
            }
            After::Sleep(opened, what) => {
                count(&self.guest.blocks, 1);
                step(uthread, id, place::RUNNING, place::BLOCKED);
                // SAFETY: whoever asked for this sleep left the list locked for this call. After
                // it the uThread may run elsewhere, so nothing of it is touched any more.
                unsafe { opened(what) };
            }
            After::SleepUntil(deadline, opened, what) => {
                count(&self.guest.blocks, 1);
                step(uthread, id, place::RUNNING, place::BLOCKED);
                // Before the list is opened: the one who waits is whole, and whoever fires the
                // timer at once finds it blocked.
                self.arm(id, uthread, deadline);
                // SAFETY: as above. If the deadline has passed, the uThread may run already; it
                // comes for the list's lock first, and this lets it go.
                unsafe { opened(what) };
            }
            After::Exit => {
                step(uthread, id, place::RUNNING, place::FREE);
                kernel.count_alive(-1);
                crate::sync::join::ended(self, id, uthread);
            }
        }
    }
}

impl Local {
    /// One that has had its time slice goes behind all who wait for it to give way, those too that
    /// are not in the queue.
    #[cold]
    #[inline(never)]
    fn settle_preempted(&self, id: Id, uthread: &UThread, now: u32) {
        count(&self.guest.preempts, 1);
        self.fire_due();
        if self.queue.is_empty() {
            if let Some(served) = self.take_work() {
                if let Some(server) = self.kernel().uthread(served) {
                    self.line_up(served, server, place::QUEUED, false, now);
                }
            }
        }
        self.line_up(id, uthread, place::RUNNING, false, now);
    }
}

/// The uThread that runs on a vCPU, for debuggers and tests: it may be another one by now.
pub fn current_of(page: Page, vcpu: u32) -> Option<Id> {
    let guest = page.guest(vcpu);
    let word = |half: &core::sync::atomic::AtomicU32| u64::from(half.load(Ordering::Relaxed));
    let at = (word(&guest.private_lo) | word(&guest.private_hi) << 32) as *const Local;
    // SAFETY: null before the vCPU has come to its scheduler, then its private data for good.
    let local = unsafe { at.as_ref()? };
    Some(local.current.load(Ordering::Relaxed)).filter(|id| *id != NOBODY)
}

/// Enters FluxOS from application code.
#[inline(always)]
pub(crate) fn enter() {
    // SAFETY: uThreads run only on vCPUs whose GS base is set.
    unsafe { gs::set_critical() }
}

/// Goes back to application code.
///
/// Requests are looked for after `critical` is cleared. One that came earlier, with a kick that
/// the host ignored because of `critical`, is seen here; one that comes later finds `critical`
/// clear, and its kick is honoured. There is no request in between.
#[inline(always)]
pub(crate) fn leave() {
    // SAFETY: called by a uThread on its own stack, which is `current` on its vCPU.
    unsafe { gs::clear_critical() };
    while wanted() {
        enter();
        // SAFETY: `critical` is set and a uThread is current.
        unsafe {
            give_way(false);
            gs::clear_critical();
        }
    }
}

/// Whether the uThread that runs here is to give way: the host wants the core, or it has had its
/// time slice.
#[inline(always)]
pub(crate) fn wanted() -> bool {
    // SAFETY: uThreads run with GS base set.
    unsafe { gs::park_asked() || gs::slice_over() }
}

/// Gives way if the host wants the core; if not, and the time slice is over, as it is in any case
/// at an `upcall`, to whoever is next. Who that is, the scheduler finds; if there is nobody it comes back here,
/// with a new slice, so that the request is over either way.
///
/// # Safety
/// As for [`suspend`].
#[cold]
#[inline(never)]
pub(crate) unsafe fn give_way(upcall: bool) {
    // SAFETY: `critical` is set and a uThread is current, by the caller's promise.
    unsafe {
        if gs::park_asked() {
            suspend(After::Front);
        } else if upcall || gs::slice_over() {
            suspend(After::Preempt);
        }
    }
}

/// Leaves the vCPU; returns when the uThread runs again, perhaps on another one.
///
/// # Safety
/// `critical` is set, and a uThread is current, whose stack this is. No reference to this vCPU's
/// private data is used after.
pub(crate) unsafe fn suspend(after: After) {
    // SAFETY: `critical` is set by the caller's promise.
    unsafe {
        let local = Local::here();
        let id = local.current.load(Ordering::Relaxed);
        let Some(uthread) = local.kernel().uthread(id) else {
            fatal(format_args!(
                "vCPU {} leaves uThread {id}, which does not exist",
                local.id
            ));
        };
        local.after.set(after);
        arch::fibre::switch(&uthread.fibre, &local.fibre);
        arch::switch::switch_out(uthread.rsp.0.as_ptr(), local.scheduler.0.get());
        // Others may have run here meanwhile, or this is another vCPU. A held context brings its FS
        // base along; one that was switched away from does not.
        let fs = uthread.fs.get();
        if fs != 0 {
            arch::fs::set_base(fs);
        }
    }
}

//! uThreads: how they begin, give way and end.

use core::cell::Cell;
use core::sync::atomic::{AtomicU32, Ordering};

use sched::{Id, NOBODY};

use crate::kernel::{Kernel, SavedRsp};
use crate::log::fatal;
use crate::vcpu::{enter, leave, suspend, After, Local};

/// Where a uThread is; see the crate's text.
pub(crate) mod place {
    pub const FREE: u32 = 0;
    pub const QUEUED: u32 = 1;
    pub const RUNNING: u32 = 2;
    pub const BLOCKED: u32 = 3;
}

/// One entry of the uThread table. The cells belong to whoever has the uThread: the vCPU that
/// makes it, runs it or switches away from it. Queues and wait lists pass them on with their
/// locks, held contexts with the host's held word.
#[derive(Debug)]
pub(crate) struct UThread {
    pub(crate) rsp: SavedRsp,
    pub(crate) link: AtomicU32,
    pub(crate) place: AtomicU32,
    /// First address above the stack.
    stack_top: u64,
    body: Cell<Option<unsafe fn(u64)>>,
    /// Where the closure lies that `body` is to run.
    closure: Cell<u64>,
}

// SAFETY: see above.
unsafe impl Sync for UThread {}

/// All uThreads are in use.
#[derive(Debug, PartialEq, Eq)]
pub struct NoSlot;

impl UThread {
    pub(crate) fn new(stack_top: u64) -> UThread {
        UThread {
            rsp: SavedRsp::default(),
            link: AtomicU32::new(NOBODY),
            place: AtomicU32::new(place::FREE),
            stack_top,
            body: Cell::new(None),
            closure: Cell::new(0),
        }
    }

    /// Lays `f` on top of the stack and makes a context that runs it.
    ///
    /// # Safety
    /// The uThread is the caller's, and nothing uses its stack.
    pub(crate) unsafe fn start_with<F: FnOnce() + Send + 'static>(&self, f: F) {
        const {
            assert!(
                size_of::<F>() <= 1024 && align_of::<F>() <= 64,
                "what a uThread starts with must be small"
            )
        }
        let at = (self.stack_top - size_of::<F>() as u64) & !63;
        // SAFETY: stacks are some pages, so the closure and the first frame fit, below the top.
        unsafe {
            (at as *mut F).write(f);
            self.closure.set(at);
            self.body.set(Some(call::<F>));
            self.rsp.0.set(arch::switch::prepare(at, begin));
        }
    }
}

/// Takes the closure off the stack's top and runs it.
///
/// # Safety
/// An `F` lies at `at`, and it is taken once.
unsafe fn call<F: FnOnce()>(at: u64) {
    // SAFETY: `start_with` put it there for this call.
    let f = unsafe { (at as *const F).read() };
    f();
}

/// Where every uThread begins: on its own stack, with `critical` set.
extern "C" fn begin() -> ! {
    // SAFETY: `critical` is set, and this uThread is current. What is read belongs to the uThread.
    let (body, closure) = unsafe {
        let local = Local::here();
        let id = local.current.load(Ordering::Relaxed);
        match local.kernel().uthread(id) {
            Some(uthread) => (uthread.body.take(), uthread.closure.get()),
            None => fatal(format_args!("uThread {id} begins, but does not exist")),
        }
    };
    leave();
    if let Some(body) = body {
        // SAFETY: set together with the closure by `start_with`.
        unsafe { body(closure) };
    }
    enter();
    // SAFETY: `critical` is set; nothing of this stack is used after.
    unsafe { suspend(After::Exit) };
    fatal(format_args!("a uThread that had ended was run again"))
}

/// Starts a uThread, which goes to the tail of this vCPU's queue.
pub fn spawn<F: FnOnce() + Send + 'static>(f: F) -> Result<Id, NoSlot> {
    enter();
    // SAFETY: `critical` is set.
    let local = unsafe { Local::here() };
    let result = create(local, f);
    leave();
    result
}

/// As [`spawn`], in FluxOS's code.
pub(crate) fn create<F: FnOnce() + Send + 'static>(local: &Local, f: F) -> Result<Id, NoSlot> {
    let kernel = local.kernel();
    let id = kernel.slots.take().ok_or(NoSlot)?;
    let Some(uthread) = kernel.uthread(id) else {
        fatal(format_args!(
            "the table of free uThreads named {id}, which does not exist"
        ));
    };
    // SAFETY: it was free, so it is ours and its stack is unused.
    unsafe { uthread.start_with(f) };
    kernel.count_alive(1);
    local.ready(id, uthread, place::FREE, false);
    kernel.announce(local.id);
    Ok(id)
}

/// A scheduling point: leaves the core if the host wants it, else lets the next uThread run.
pub fn yield_now() {
    enter();
    // SAFETY: `critical` is set, and a uThread calls this. A park request is honoured by `leave`.
    unsafe {
        if !arch::gs::park_asked() && !Local::here().queue.is_empty() {
            suspend(After::Back);
        }
    }
    leave();
}

/// A scheduling point that only leaves the core if the host wants it. A few instructions else.
#[inline]
pub fn poll() {
    // SAFETY: uThreads run with GS base set.
    if unsafe { arch::gs::park_asked() } {
        enter();
        leave();
    }
}

/// For assembly: a scheduling point that a uThread did not call by itself.
pub(crate) extern "C" fn scheduling_point() {
    enter();
    leave();
}

/// Gives the vCPU's core back at once, although there is work: this uThread.
pub fn cede() {
    enter();
    // SAFETY: `critical` is set, and a uThread calls this.
    unsafe { suspend(After::Cede) };
    leave();
}

/// What all vCPUs share.
pub fn kernel() -> &'static Kernel {
    // SAFETY: uThreads run only after the vCPU came to its scheduler.
    unsafe { Kernel::here() }
}

/// Shows that this vCPU runs now: the TSC, where others count their work.
#[inline(always)]
pub fn show_now() {
    // SAFETY: uThreads run with GS base set.
    unsafe { arch::gs::show_done(arch::clock::tsc()) }
}

/// One more unit of work is done; counted for the vCPU that this runs on.
#[inline(always)]
pub fn count_done() {
    // SAFETY: uThreads run with GS base set.
    unsafe { arch::gs::count_done() }
}

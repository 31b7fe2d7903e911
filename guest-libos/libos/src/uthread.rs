//! uThreads: how they begin, give way and end.

use core::cell::Cell;
use core::sync::atomic::{AtomicU32, Ordering};

use arch::fibre::Fibre;
use sched::exit::Exit;
use sched::{Id, NOBODY};

use crate::kernel::{Kernel, SavedRsp};
use crate::log::fatal;
use crate::name::{Copied, Name};
use crate::timer::Alarm;
use crate::trace::TRACE_SPAWN;
use crate::vcpu::{enter, give_way, leave, suspend, wanted, After, Local};

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
    pub(crate) alarm: Alarm,
    /// What `sync` keeps of its waits.
    pub(crate) waiting: crate::sync::block::Waiting,
    /// Whether somebody is to be told when it ends, and which uThread of this number it is.
    pub(crate) exit: Exit,
    /// What it ended with: its own, and when it has ended the joiner's.
    pub(crate) result: Cell<u64>,
    /// A word for the API built upon this one; the uThread's own.
    pub(crate) user: Cell<u64>,
    /// FS base while it runs, or 0 if it does not use it; see [`set_fs`].
    pub(crate) fs: Cell<u64>,
    /// First address above the stack.
    pub(crate) stack_top: u64,
    pub(crate) name: Name,
    pub(crate) fibre: Fibre,
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
            alarm: Alarm::new(),
            waiting: crate::sync::block::Waiting::new(),
            exit: Exit::new(),
            result: Cell::new(0),
            user: Cell::new(0),
            fs: Cell::new(0),
            stack_top,
            name: Name::new(),
            fibre: Fibre::new(),
            body: Cell::new(None),
            closure: Cell::new(0),
        }
    }

    pub(crate) fn stack_top(&self) -> u64 {
        self.stack_top
    }

    /// Makes the stack of a free uThread ready to be used; for sanitizers.
    pub(crate) fn unfold(&self, stack_bytes: u64) {
        self.fibre
            .begin(self.stack_top.saturating_sub(stack_bytes), stack_bytes);
    }

    /// Lays `f` on top of the stack and makes a context that runs it.
    ///
    /// # Safety
    /// The uThread is the caller's, and nothing uses its stack.
    pub(crate) unsafe fn start_with<F: FnOnce() + Send + 'static>(&self, f: F) {
        self.name.clear();
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
            self.start_at(at, call::<F>);
        }
    }

    /// Makes a context that calls `body(at)`, upon the stack that ends at `at`.
    ///
    /// # Safety
    /// The uThread is the caller's, and nothing uses the stack; `body` may be called once with `at`.
    pub(crate) unsafe fn start_at(&self, at: u64, body: unsafe fn(u64)) {
        self.fs.set(0);
        self.closure.set(at);
        self.body.set(Some(body));
        // SAFETY: by the caller's promise.
        self.rsp.0.set(unsafe { arch::switch::prepare(at, begin) });
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

/// As [`spawn`], with a name for logs and traces, of which 15 bytes are kept.
pub fn spawn_named<F: FnOnce() + Send + 'static>(name: &str, f: F) -> Result<Id, NoSlot> {
    let (kept, named) = (Name::new(), !name.is_empty());
    kept.set(name);
    let kept = kept.get();
    // By the uThread itself: before it runs, nobody knows that it is still the same one.
    spawn(move || {
        if named {
            set_name(kept.as_str());
        }
        f()
    })
}

/// Gives the calling uThread a name, of which 15 bytes are kept.
pub fn set_name(name: &str) {
    with_current(|uthread| uthread.name.set(name));
}

/// The calling uThread's name; empty if it has none.
pub fn name() -> Copied {
    with_current(|uthread| uthread.name.get())
}

/// From here on FS base is `base` whenever the calling uThread runs. Not for ordinary processes,
/// where FS base is the C library's: there nothing happens.
pub fn set_fs(base: u64) {
    enter();
    // SAFETY: `critical` is set.
    let local = unsafe { Local::here() };
    let id = local.current.load(Ordering::Relaxed);
    if let Some(uthread) = local
        .kernel()
        .uthread(id)
        .filter(|_| local.kernel().platform.uthreads_own_fs())
    {
        uthread.fs.set(base);
        // SAFETY: `critical` is set, and this uThread runs here.
        unsafe { arch::fs::set_base(base) };
    }
    leave();
}

pub(crate) fn with_current<R>(f: impl FnOnce(&UThread) -> R) -> R {
    enter();
    // SAFETY: `critical` is set.
    let local = unsafe { Local::here() };
    let id = local.current.load(Ordering::Relaxed);
    let result = match local.kernel().uthread(id) {
        Some(uthread) => f(uthread),
        None => fatal(format_args!("uThread {id} runs, but does not exist")),
    };
    leave();
    result
}

/// As [`spawn`], in FluxOS's code.
pub(crate) fn create<F: FnOnce() + Send + 'static>(local: &Local, f: F) -> Result<Id, NoSlot> {
    // SAFETY: `create_with` hands us a uThread that is ours, its stack unused.
    create_with(local, |uthread| unsafe { uthread.start_with(f) })
}

/// Takes a free uThread, lets `start` make its context, and makes it runnable.
pub(crate) fn create_with(local: &Local, start: impl FnOnce(&UThread)) -> Result<Id, NoSlot> {
    let kernel = local.kernel();
    let id = kernel.slots.take(local.id).ok_or(NoSlot)?;
    let Some(uthread) = kernel.uthread(id) else {
        fatal(format_args!(
            "the table of free uThreads named {id}, which does not exist"
        ));
    };
    uthread.unfold(kernel.page.header().stack_bytes);
    start(uthread);
    kernel.count_alive(1);
    local.trace(TRACE_SPAWN, 0, id);
    local.ready(id, uthread, place::FREE, false);
    kernel.announce(local.id);
    Ok(id)
}

/// A scheduling point: leaves the core if the host wants it, else lets the next uThread run.
pub fn yield_now() {
    enter();
    // SAFETY: `critical` is set, and a uThread calls this. A park request is honoured by `leave`.
    unsafe {
        if !arch::gs::park_asked() {
            let local = Local::here();
            // What is due, or waits where no vCPU is, is for the scheduler to find.
            if !local.queue.is_empty() || local.kernel().work_elsewhere() {
                suspend(After::Back);
            }
        }
    }
    leave();
}

/// A scheduling point that gives way only if the host wants the core, or the time slice is over. A
/// few instructions else.
#[inline]
pub fn poll() {
    if wanted() {
        enter();
        leave();
    }
}

/// For assembly: a scheduling point that a uThread did not call by itself. It comes back with
/// `critical` set, which the assembly clears last.
pub(crate) extern "C" fn scheduling_point(upcall: u32) {
    enter();
    // SAFETY: `critical` is set, and a uThread was interrupted, upon whose stack this is.
    unsafe { give_way(upcall != 0) }
}

/// Gives the vCPU's core back at once, although there is work: this uThread.
pub fn cede() {
    enter();
    // SAFETY: `critical` is set, and a uThread calls this.
    unsafe { suspend(After::Cede) };
    leave();
}

/// The vCPU that this runs on; it may be another one by now.
pub fn vcpu() -> u32 {
    // SAFETY: uThreads run with GS base set to a vCPU that has come to its scheduler.
    unsafe { Local::anywhere().id }
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

//! One vCPU's two sides, and how its thread goes from one to the other.

use std::cell::{Cell, UnsafeCell};
use std::mem::offset_of;
use std::sync::atomic::{AtomicPtr, Ordering};

use arch::fibre;
use arch::switch::switch;

use crate::machine::Entry;
use crate::sanitizer::Fibres;
use crate::signals;

/// Why the guest's side stopped.
#[derive(Clone, Copy, Debug)]
pub enum Stop {
    Door {
        port: u16,
        arg: u32,
    },
    Kicked,
    /// The guest did what the processor refuses.
    Fault {
        signal: i32,
        rip: u64,
        rsp: u64,
        rflags: u64,
        address: u64,
    },
}

/// A vCPU. Used by its own thread only, but for `frame`.
#[derive(Debug)]
pub struct Cpu {
    pub id: u32,
    /// Where the control page is mapped in this process.
    pub page: u64,
    pub boot_stack_top: u64,
    /// The guest's entry and re-entry.
    pub entry: Entry,
    /// Fluxion's side while the guest runs.
    fluxion: UnsafeCell<u64>,
    /// The guest's side while Fluxion runs.
    guest: UnsafeCell<u64>,
    in_guest: Cell<bool>,
    /// The guest's side has been refused something, and says what.
    pub(crate) dying: Cell<bool>,
    stop: Cell<Stop>,
    pub(crate) fibres: Fibres,
    /// The signal frame that holds the interrupted context, or null. Read by a thief's thread,
    /// which the held word has given the right to.
    frame: AtomicPtr<libc::ucontext_t>,
}

// SAFETY: the cells are used by the vCPU's thread, which is one, after it was made.
unsafe impl Sync for Cpu {}
// SAFETY: nothing in it belongs to the thread that makes it.
unsafe impl Send for Cpu {}

thread_local! {
    /// The vCPU that this thread is. Constant and without a destructor, so a signal handler may
    /// look at it.
    static THIS: Cell<*const Cpu> = const { Cell::new(std::ptr::null()) };
}

impl Cpu {
    /// Offsets, for debuggers.
    pub(crate) const IN_GUEST: usize = offset_of!(Cpu, in_guest);
    pub(crate) const GUEST: usize = offset_of!(Cpu, guest);
    pub(crate) const FRAME: usize = offset_of!(Cpu, frame);

    pub fn new(id: u32, page: u64, boot_stack_top: u64, entry: Entry) -> Cpu {
        // SAFETY: the boot stack is this vCPU's and unused.
        let guest = unsafe { arch::switch::prepare(boot_stack_top, begin) };
        Cpu {
            id,
            page,
            boot_stack_top,
            entry,
            fluxion: UnsafeCell::new(0),
            guest: UnsafeCell::new(guest),
            in_guest: Cell::new(false),
            dying: Cell::new(false),
            stop: Cell::new(Stop::Kicked),
            fibres: Fibres::new(boot_stack_top),
            frame: AtomicPtr::new(std::ptr::null_mut()),
        }
    }

    /// Makes the calling thread this vCPU.
    pub fn adopt(&'static self) {
        THIS.set(self);
    }

    /// The vCPU of the calling thread.
    pub fn this() -> Option<&'static Cpu> {
        // SAFETY: null, or set by `adopt` to what lives for good.
        unsafe { THIS.get().as_ref() }
    }

    /// Runs the guest's side until it stops. On the vCPU's thread, the kick blocked.
    pub fn run(&self) -> Stop {
        self.in_guest.set(true);
        // SAFETY: the guest's context was saved when it stopped last, or made by `new`.
        unsafe {
            fibre::switch(&self.fibres.fluxion, &self.fibres.guest);
            switch(self.fluxion.get(), *self.guest.get());
        }
        self.in_guest.set(false);
        self.stop.get()
    }

    /// Stops the guest's side; returns when it is run again. On the vCPU's thread, the kick
    /// blocked, from the guest's side or a signal handler upon it.
    pub fn stop(&self, why: Stop) {
        self.stop.set(why);
        // SAFETY: `run` has saved Fluxion's side, and waits for this.
        unsafe {
            fibre::switch(&self.fibres.guest, &self.fibres.fluxion);
            switch(self.guest.get(), *self.fluxion.get());
        }
    }

    pub fn in_guest(&self) -> bool {
        self.in_guest.get()
    }

    /// As `stop`, with the interrupted context in a signal frame.
    ///
    /// # Safety
    /// `frame` is the frame of the handler that calls this.
    pub unsafe fn stop_in(&self, frame: *mut libc::ucontext_t, why: Stop) {
        // Release pairs with the acquire in `frame`: a thief reads what the kernel has written.
        self.frame.store(frame, Ordering::Release);
        self.stop(why);
        self.frame.store(std::ptr::null_mut(), Ordering::Relaxed);
    }

    /// The frame of the interrupted context, if that is what the guest's side is.
    pub fn frame(&self) -> Option<*mut libc::ucontext_t> {
        let frame = self.frame.load(Ordering::Acquire);
        (!frame.is_null()).then_some(frame)
    }
}

/// Where the guest's side begins, on the boot stack: as every door does when it comes back, it
/// lets the kick in, and then it is the guest.
extern "C" fn begin() -> ! {
    let Some(cpu) = Cpu::this() else {
        std::process::abort()
    };
    signals::let_kicks_in();
    // SAFETY: GS base is set, and the boot stack is this vCPU's.
    unsafe { (cpu.entry)(cpu.id, cpu.page as *mut u8) }
}

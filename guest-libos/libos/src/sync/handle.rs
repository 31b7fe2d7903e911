//! Joining uThreads that run Rust: with what they return.
//!
//! What a uThread starts with and what it ends with lie on top of its own stack, which it keeps
//! until it was joined. If the handle is dropped instead, whoever comes last of the two drops the result.

use core::cell::UnsafeCell;
use core::mem::{forget, ManuallyDrop, MaybeUninit};
use core::sync::atomic::{AtomicU32, Ordering};

use super::block::Until;
use super::join::{begin, detach, JoinError, Tid};
use super::joining::{reap, wait_for};
use crate::uthread::{NoSlot, UThread};

const NEITHER: u32 = 0;
/// The result is there.
const THERE: u32 = 1;
/// Nobody wants it.
const UNWANTED: u32 = 2;

/// What a uThread ends with.
struct Outcome<T> {
    state: AtomicU32,
    value: UnsafeCell<MaybeUninit<T>>,
}

/// What lies on top of the stack. The outcome first: handles know nothing of `F`.
#[repr(C)]
struct Packet<F, T> {
    outcome: Outcome<T>,
    f: ManuallyDrop<F>,
}

/// The right to a uThread's result. Dropping it lets the uThread go on alone.
#[derive(Debug)]
pub struct JoinHandle<T> {
    who: Tid,
    outcome: *const Outcome<T>,
}

// SAFETY: the handle is a claim to the value, and the value may be sent.
unsafe impl<T: Send> Send for JoinHandle<T> {}
// SAFETY: a shared handle tells a name only.
unsafe impl<T: Send> Sync for JoinHandle<T> {}

/// Starts a uThread, which goes to the tail of this vCPU's queue.
pub fn spawn<F, T>(f: F) -> Result<JoinHandle<T>, NoSlot>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    const {
        assert!(
            size_of::<Packet<F, T>>() <= 2048 && align_of::<Packet<F, T>>() <= 64,
            "what a uThread starts and ends with must be small"
        )
    }
    let mut outcome = core::ptr::null();
    let start = |uthread: &UThread| {
        let at = (uthread.stack_top - size_of::<Packet<F, T>>() as u64) & !63;
        let packet = at as *mut Packet<F, T>;
        // SAFETY: the uThread was free, so its stack is unused, and the packet fits. `run` is right
        // about it.
        unsafe {
            packet.write(Packet {
                outcome: Outcome {
                    state: AtomicU32::new(NEITHER),
                    value: UnsafeCell::new(MaybeUninit::uninit()),
                },
                f: ManuallyDrop::new(f),
            });
            outcome = &raw const (*packet).outcome;
            uthread.start_at(at, run::<F, T>);
        }
    };
    let who = begin(start, true)?;
    Ok(JoinHandle { who, outcome })
}

/// # Safety
/// A packet lies at `at` whose closure was not called; called once.
unsafe fn run<F: FnOnce() -> T, T>(at: u64) {
    let packet = at as *mut Packet<F, T>;
    // SAFETY: by the caller's promise. The handle's side only looks at the value once the state says
    // that it is there.
    unsafe {
        let f = ManuallyDrop::take(&mut (*packet).f);
        let outcome = &raw const (*packet).outcome;
        (*(*outcome).value.get()).write(f());
        // Release pairs with the acquire of whoever takes the value; acquire with a handle's drop.
        if (*outcome).state.swap(THERE, Ordering::AcqRel) == UNWANTED {
            (*(*outcome).value.get()).assume_init_drop();
        }
    }
}

impl<T> JoinHandle<T> {
    /// Whom it is about.
    pub fn tid(&self) -> Tid {
        self.who
    }

    /// Waits for the uThread to end; its result. Of oneself: an error, and nobody joins it any more.
    pub fn join(self) -> Result<T, JoinError> {
        let target = wait_for(self.who, Until::EVER)?;
        // SAFETY: the uThread has ended, and keeps its stack until `reap`. The value is taken once,
        // because the handle goes.
        let value = unsafe {
            let outcome = &*self.outcome;
            let there = outcome.state.load(Ordering::Acquire) == THERE;
            there.then(|| (*outcome.value.get()).assume_init_read())
        };
        let who = self.who;
        forget(self);
        // Only a handle's owner joins, so nobody else has.
        reap(target, who)?;
        value.ok_or(JoinError::NoResult)
    }

    /// Lets the uThread go on alone.
    pub fn detach(self) {}
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        // SAFETY: the uThread keeps its stack until it was let go, which is below. A value that is
        // there was not taken, because `join` forgets the handle.
        unsafe {
            let outcome = &*self.outcome;
            // Orders as in `run`.
            if outcome.state.swap(UNWANTED, Ordering::AcqRel) == THERE {
                (*outcome.value.get()).assume_init_drop();
            }
        }
        // SAFETY: this is its handle. It cannot fail: only the handle joins it or lets it go.
        let _ = unsafe { detach(self.who) };
    }
}

//! A lock for very short sections of applications.
//!
//! Its holder may lose its core like anybody else, so nobody spins for long: a vCPU that spins is
//! one that does not look for the holder. Who has not got the lock after a while sleeps, and the
//! holder is found and runs. FluxOS's own spin lock is another one: [`sched::spin`].

use core::sync::atomic::{AtomicU32, Ordering};

use super::block::Until;
use super::words;

const FREE: u32 = 0;
const TAKEN: u32 = 1;
const WAITED_FOR: u32 = 2;

/// About as long as going to sleep and waking up takes.
const SPINS: u32 = 100;

/// One word. All zeroes: free.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct SpinLock(AtomicU32);

/// A lock was let go that nobody has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotLocked;

impl SpinLock {
    pub const fn new() -> SpinLock {
        SpinLock(AtomicU32::new(FREE))
    }

    #[inline]
    pub fn try_lock(&self) -> bool {
        // Acquire pairs with the release in `unlock`.
        self.0
            .compare_exchange(FREE, TAKEN, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    #[inline]
    pub fn lock(&self) {
        if !self.try_lock() {
            self.lock_slowly();
        }
    }

    #[cold]
    fn lock_slowly(&self) {
        for _ in 0..SPINS {
            core::hint::spin_loop();
            if self.0.load(Ordering::Relaxed) == FREE && self.try_lock() {
                return;
            }
        }
        // From here on it is marked as waited for, also by who gets it: others may still wait.
        while self.0.swap(WAITED_FOR, Ordering::Acquire) != FREE {
            // Woken or not, the next look says.
            let _ = words::wait(&self.0, WAITED_FOR, Until::EVER);
        }
    }

    /// Lets the lock go. `Err` if nobody has it.
    #[inline]
    pub fn unlock(&self) -> Result<(), NotLocked> {
        match self.0.swap(FREE, Ordering::Release) {
            FREE => Err(NotLocked),
            TAKEN => Ok(()),
            _ => {
                words::wake(&raw const self.0, 1);
                Ok(())
            }
        }
    }

    /// Whether somebody has it.
    pub fn is_locked(&self) -> bool {
        self.0.load(Ordering::Relaxed) != FREE
    }
}

//! The counting semaphore; units go to those who wait in the order of their arrival.

use sched::semaphore::{self, Acquire};
use sched::Id;

use super::block::{wake, Bed, Lapse, Sleeper, Until};
use crate::kernel::Kernel;
use crate::vcpu::{enter, leave, Local};

pub use sched::semaphore::TooMany;

/// All zeroes: no units.
#[derive(Debug)]
#[repr(transparent)]
pub struct Semaphore(semaphore::Semaphore);

impl Bed for semaphore::Semaphore {
    unsafe fn asleep(&self) {
        // SAFETY: by the caller's promise.
        unsafe { semaphore::Semaphore::asleep(self) }
    }

    fn leave(&self, kernel: &Kernel, me: Id) {
        semaphore::Semaphore::leave(self, kernel, me);
    }
}

impl Semaphore {
    /// With `units` to begin with, [`sched::semaphore::MOST`] at the most.
    pub const fn new(units: u32) -> Semaphore {
        Semaphore(semaphore::Semaphore::new(units))
    }

    /// Takes a unit if there is one.
    #[inline]
    pub fn try_acquire(&self) -> bool {
        self.0.try_acquire()
    }

    /// Takes a unit.
    #[inline]
    pub fn acquire(&self) {
        if !self.0.try_acquire() {
            // Nothing ends this wait but a unit.
            let _ = self.acquire_slowly(Until::EVER);
        }
    }

    /// Takes a unit, unless it takes too long.
    #[inline]
    pub fn acquire_until(&self, until: Until) -> Result<(), Lapse> {
        if self.0.try_acquire() {
            return Ok(());
        }
        self.acquire_slowly(until)
    }

    #[cold]
    fn acquire_slowly(&self, until: Until) -> Result<(), Lapse> {
        enter();
        // SAFETY: `critical` is set, and a uThread calls this; it is on the list when it sleeps.
        let result = unsafe {
            let sleeper = Sleeper::new(until);
            match self.0.acquire(sleeper.kernel, sleeper.me) {
                Acquire::Mine => {
                    sleeper.stay();
                    Ok(())
                }
                Acquire::Sleep => sleeper.sleep(&self.0),
            }
        };
        leave();
        result
    }

    /// Gives a unit. The semaphore may be gone as soon as somebody has it.
    #[inline]
    pub fn release(&self) -> Result<(), TooMany> {
        if self.0.try_release()? {
            return Ok(());
        }
        self.release_slowly()
    }

    #[cold]
    fn release_slowly(&self) -> Result<(), TooMany> {
        enter();
        // SAFETY: `critical` is set.
        let local = unsafe { Local::here() };
        let next = self.0.release(local.kernel());
        if let Ok(Some(next)) = next {
            wake(local, next);
        }
        leave();
        next.map(|_| ())
    }

    /// Whether somebody waits.
    pub fn has_waiters(&self) -> bool {
        self.0.has_waiters()
    }

    /// The units that nobody has.
    pub fn units(&self) -> u32 {
        self.0.units()
    }
}

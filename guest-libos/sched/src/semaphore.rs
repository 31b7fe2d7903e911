//! A counting semaphore. Units go to those who wait in the order of their arrival.

use crate::mutant::mutant;
use crate::spin::Spin;
use crate::sync::{AtomicU32, Ordering};
use crate::waiters::{Table, Waiters};
use crate::Id;

/// Units that nobody has; or this, if there are none and somebody waits.
const WAITED_FOR: u32 = 1 << 31;
/// The most units there can be.
pub const MOST: u32 = WAITED_FOR - 1;

#[derive(Debug)]
pub struct Semaphore {
    word: AtomicU32,
    waiters: Spin<Waiters>,
}

/// What a uThread that wants a unit has to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Acquire {
    /// It has it.
    Mine,
    /// As [`crate::mutex::Lock::Sleep`], with [`Semaphore::asleep`].
    Sleep,
}

/// There would be more units than [`MOST`].
#[derive(Debug, PartialEq, Eq)]
pub struct TooMany;

impl Semaphore {
    /// With `units` to begin with, [`MOST`] at the most.
    #[cfg(not(feature = "loom"))]
    pub const fn new(units: u32) -> Semaphore {
        Semaphore {
            word: AtomicU32::new(if units > MOST { MOST } else { units }),
            waiters: Spin::new(Waiters::new()),
        }
    }

    #[cfg(feature = "loom")]
    pub fn new(units: u32) -> Semaphore {
        Semaphore {
            word: AtomicU32::new(units.min(MOST)),
            waiters: Spin::new(Waiters::new()),
        }
    }

    /// Takes a unit if there is one. Touches nothing of the scheduler.
    #[inline]
    pub fn try_acquire(&self) -> bool {
        let mut units = self.word.load(Ordering::Relaxed);
        while units & MOST != 0 {
            // Acquire pairs with the release of whoever gave the unit.
            match self
                .word
                .compare_exchange_weak(units, units - 1, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => return true,
                Err(now) => units = now,
            }
        }
        false
    }

    /// Takes a unit or queues up for one.
    pub fn acquire(&self, table: &impl Table, me: Id) -> Acquire {
        self.waiters.lock();
        loop {
            if self.try_acquire() {
                // SAFETY: taken above.
                unsafe { self.waiters.unlock() };
                return Acquire::Mine;
            }
            // From here on whoever gives a unit comes to the list for us. Relaxed: nothing is
            // passed on by the mark.
            let marked = self
                .word
                .compare_exchange(0, WAITED_FOR, Ordering::Relaxed, Ordering::Relaxed);
            if matches!(marked, Ok(_) | Err(WAITED_FOR)) {
                if mutant("no mark") {
                    self.word.store(0, Ordering::Relaxed);
                }
                // SAFETY: taken above, and held until `asleep`.
                unsafe { self.waiters.locked(|list| list.push(table, me)) };
                return Acquire::Sleep;
            }
        }
    }

    /// Opens the list again.
    ///
    /// # Safety
    /// Called once after each [`Acquire::Sleep`], on the same vCPU, with the sleeper's context saved.
    pub unsafe fn asleep(&self) {
        // SAFETY: `acquire` left it held for us.
        unsafe { self.waiters.unlock() };
    }

    /// For a uThread whose deadline was first: it waits no more, and has no unit.
    pub fn leave(&self, table: &impl Table, me: Id) {
        self.waiters.with(|list| {
            if list.remove(table, me) && list.is_empty() {
                // The mark goes with the last one. It changes under this lock only.
                self.word.store(0, Ordering::Relaxed);
            }
        });
    }

    /// Gives a unit if nobody waits and there is room; touches nothing of the scheduler.
    #[inline]
    pub fn try_release(&self) -> Result<bool, TooMany> {
        let mut units = self.word.load(Ordering::Relaxed);
        while units != WAITED_FOR {
            if units == MOST {
                return Err(TooMany);
            }
            match self
                .word
                .compare_exchange_weak(units, units + 1, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => return Ok(true),
                Err(now) => units = now,
            }
        }
        Ok(false)
    }

    /// Gives a unit; who gets it, if somebody waited, is to be made runnable. The semaphore is
    /// not touched any more by then, and may be gone as soon as the unit was given.
    pub fn release(&self, table: &impl Table) -> Result<Option<Id>, TooMany> {
        while !self.try_release()? {
            let next = self.waiters.with(|list| {
                let next = list.take(table);
                // The list may be empty because it was when we came; then the mark is gone too,
                // and there may be units.
                if list.is_empty() && self.word.load(Ordering::Relaxed) == WAITED_FOR {
                    self.word.store(0, Ordering::Relaxed);
                }
                next
            });
            if next.is_some() {
                return Ok(next);
            }
        }
        Ok(None)
    }

    /// Whether somebody waits.
    pub fn has_waiters(&self) -> bool {
        self.word.load(Ordering::Relaxed) == WAITED_FOR
    }

    /// The units that nobody has.
    pub fn units(&self) -> u32 {
        self.word.load(Ordering::Relaxed) & MOST
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;
    use crate::fake::Fake;

    fn sleep(semaphore: &Semaphore, table: &Fake, id: Id) {
        assert_eq!(semaphore.acquire(table, id), Acquire::Sleep);
        // SAFETY: follows the Sleep just asserted.
        unsafe { semaphore.asleep() };
    }

    #[test]
    fn units_are_counted() {
        let (semaphore, table) = (Semaphore::new(2), Fake::new());
        assert!(semaphore.try_acquire());
        assert_eq!(semaphore.acquire(&table, 1), Acquire::Mine);
        assert!(!semaphore.try_acquire());
        assert_eq!(semaphore.release(&table), Ok(None));
        assert_eq!(semaphore.units(), 1);
    }

    #[test]
    fn units_go_to_those_who_wait() {
        let (semaphore, table) = (Semaphore::new(0), Fake::new());
        sleep(&semaphore, &table, 1);
        sleep(&semaphore, &table, 2);
        assert_eq!(semaphore.units(), 0);
        assert_eq!(semaphore.try_release(), Ok(false));
        assert_eq!(semaphore.release(&table), Ok(Some(1)));
        assert!(!semaphore.try_acquire(), "it is 1's");
        assert_eq!(semaphore.release(&table), Ok(Some(2)));
        assert_eq!(semaphore.release(&table), Ok(None));
        assert!(semaphore.try_acquire());
    }

    #[test]
    fn those_that_ran_out_of_time_take_no_unit_along() {
        let (semaphore, table) = (Semaphore::new(0), Fake::new());
        table.open(1);
        sleep(&semaphore, &table, 1);
        table.expire(1);
        assert_eq!(semaphore.release(&table), Ok(None));
        assert_eq!(semaphore.units(), 1);
        semaphore.leave(&table, 1);
        assert_eq!(semaphore.units(), 1);

        assert!(semaphore.try_acquire());
        table.open(2);
        sleep(&semaphore, &table, 2);
        table.expire(2);
        semaphore.leave(&table, 2);
        assert_eq!(semaphore.try_release(), Ok(true), "nobody waits any more");
    }

    #[test]
    fn there_is_a_most() {
        let table = Fake::new();
        let semaphore = Semaphore::new(u32::MAX);
        assert_eq!(semaphore.units(), MOST);
        assert_eq!(semaphore.release(&table), Err(TooMany));
        assert!(semaphore.try_acquire());
        assert_eq!(semaphore.release(&table), Ok(None));
    }
}

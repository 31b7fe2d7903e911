//! A lock that puts its waiters to sleep and is handed over directly.
//!
//! The word says all in the common case: free, taken, or taken with waiters. The lock goes from
//! the one who lets it go straight to the one who has waited longest, so nobody can overtake, and
//! a woken uThread never finds the lock gone again.
//!
//! Whoever gets the lock may take its memory away as soon as it has let it go in turn. So the last
//! thing that letting go does to the lock is to free the word, or to let go of the wait list with
//! the next owner not yet awake.

use crate::mutant::mutant;
use crate::spin::Spin;
use crate::sync::{AtomicU32, Ordering};
use crate::waiters::{Table, Waiters};
use crate::Id;

const FREE: u32 = 0;
const TAKEN: u32 = 1;
const CONTENDED: u32 = 2;

/// The lock itself; what it guards is the caller's.
#[derive(Debug)]
pub struct Mutex {
    word: AtomicU32,
    waiters: Spin<Waiters>,
}

/// What a uThread that wants the lock has to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Lock {
    /// It has the lock.
    Mine,
    /// It is on the wait list, whose spin lock is still held: the caller puts the uThread to
    /// sleep and calls [`Mutex::asleep`] once its context is saved. Not before: the one who lets
    /// the lock go may make it runnable at that very moment. When it runs again it has the lock.
    Sleep,
}

impl Mutex {
    #[cfg(not(feature = "loom"))]
    pub const fn new() -> Mutex {
        Mutex {
            word: AtomicU32::new(FREE),
            waiters: Spin::new(Waiters::new()),
        }
    }

    #[cfg(feature = "loom")]
    pub fn new() -> Mutex {
        Mutex {
            word: AtomicU32::new(FREE),
            waiters: Spin::new(Waiters::new()),
        }
    }

    /// Takes the lock if it is free. Touches nothing of the scheduler, so application code calls
    /// it as it is; a uThread held by the host right behind it simply has the lock.
    #[inline]
    pub fn try_lock(&self) -> bool {
        // Acquire pairs with the release in `try_unlock`, or in `unlock` by way of the spin lock.
        self.word
            .compare_exchange(FREE, TAKEN, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    /// Takes the lock or queues up for it.
    pub fn lock(&self, table: &impl Table, me: Id) -> Lock {
        let lock = self.enqueue(table, me);
        if lock == Lock::Mine {
            // SAFETY: `enqueue` has left it held.
            unsafe { self.waiters.unlock() };
        }
        lock
    }

    /// Takes the lock for a uThread that sleeps already, or queues it up; whether it has the lock
    /// now and is to be made runnable.
    pub fn lock_for(&self, table: &impl Table, sleeper: Id) -> bool {
        // As in `try_unlock`.
        if self.word.load(Ordering::Relaxed) == FREE && self.try_lock() {
            return true;
        }
        let lock = self.enqueue(table, sleeper);
        // SAFETY: `enqueue` has left it held.
        unsafe { self.waiters.unlock() };
        lock == Lock::Mine
    }

    /// Leaves the wait list's lock held.
    fn enqueue(&self, table: &impl Table, id: Id) -> Lock {
        self.waiters.lock();
        // The word says CONTENDED from here on unless it was free, so the owner comes to the
        // spin lock to let go, and finds the waiter.
        // Acquire: as in `try_lock`. A failure changed nothing but the mark.
        let was = if mutant("no mark") {
            self.word.load(Ordering::Acquire)
        } else {
            self.word.swap(CONTENDED, Ordering::Acquire)
        };
        if was == FREE {
            // A free lock has no waiters, so the mark goes again. Only the owner and those under
            // the spin lock change the word, and both are us.
            self.word.store(TAKEN, Ordering::Relaxed);
            return Lock::Mine;
        }
        // SAFETY: the spin lock was taken above.
        unsafe { self.waiters.locked(|list| list.push(table, id)) };
        Lock::Sleep
    }

    /// For a uThread whose deadline was first: it waits no more, and does not have the lock.
    pub fn leave(&self, table: &impl Table, me: Id) {
        self.waiters.with(|list| {
            if list.remove(table, me) && list.is_empty() {
                // It was listed, so the word says CONTENDED, and changes under this lock only.
                self.word.store(TAKEN, Ordering::Relaxed);
            }
        });
    }

    /// Opens the wait list again.
    ///
    /// # Safety
    /// Called once after each [`Lock::Sleep`], on the same vCPU, with the sleeper's context saved.
    pub unsafe fn asleep(&self) {
        // SAFETY: `lock` left it held for us.
        unsafe { self.waiters.unlock() };
    }

    /// Lets the lock go if nobody waits; `false` if somebody does, or the lock is not taken.
    #[inline]
    pub fn try_unlock(&self) -> bool {
        // The look first, because a locked instruction in vain costs as much as a good one.
        self.word.load(Ordering::Relaxed) == TAKEN
            && self
                .word
                .compare_exchange(TAKEN, FREE, Ordering::Release, Ordering::Relaxed)
                .is_ok()
    }

    /// Lets the lock go; the uThread that owns it now, if one waited, is to be made runnable.
    /// `Err` if the lock was not taken at all.
    pub fn unlock(&self, table: &impl Table) -> Result<Option<Id>, NotLocked> {
        loop {
            if self.try_unlock() {
                return Ok(None);
            }
            let next = self.waiters.with(|list| {
                if self.word.load(Ordering::Relaxed) == FREE {
                    return Err(NotLocked);
                }
                let next = list.take(table);
                if list.is_empty() {
                    // The mark goes with the last waiter. Nobody changes the word but under this
                    // lock while it says CONTENDED. Release: the data goes along with the lock.
                    self.word.store(TAKEN, Ordering::Release);
                }
                Ok(next)
            })?;
            if next.is_some() {
                return Ok(next);
            }
            // All that waited had run out of time. The lock is still ours, and is let go as one
            // that nobody waits for.
        }
    }

    /// A fault, for tests that must find it: the owner of the lock loses those who wait for it.
    pub fn forget_waiters(&self) {
        self.waiters.with(|list| {
            *list = Waiters::new();
            self.word.store(TAKEN, Ordering::Relaxed);
        });
    }

    /// Whether somebody has it.
    pub fn is_locked(&self) -> bool {
        self.word.load(Ordering::Relaxed) != FREE
    }
}

impl Default for Mutex {
    fn default() -> Mutex {
        Mutex::new()
    }
}

/// A lock was let go that nobody had.
#[derive(Debug, PartialEq, Eq)]
pub struct NotLocked;

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;
    use crate::fake::Fake;

    fn sleep(mutex: &Mutex, table: &Fake, id: Id) {
        assert_eq!(mutex.lock(table, id), Lock::Sleep);
        // SAFETY: follows the Sleep just asserted; there is no context to save in a test.
        unsafe { mutex.asleep() };
    }

    #[test]
    fn uncontended_it_is_one_word() {
        let (mutex, table) = (Mutex::new(), Fake::new());
        assert!(mutex.try_lock());
        assert!(!mutex.try_lock());
        assert!(mutex.try_unlock());
        assert!(!mutex.try_unlock());
        assert_eq!(mutex.unlock(&table), Err(NotLocked));
        assert_eq!(mutex.lock(&table, 1), Lock::Mine);
        assert!(mutex.try_unlock());
    }

    #[test]
    fn it_is_handed_over_in_order() {
        let (mutex, table) = (Mutex::new(), Fake::new());
        assert!(mutex.try_lock());
        sleep(&mutex, &table, 2);
        sleep(&mutex, &table, 3);
        assert!(!mutex.try_unlock(), "there are waiters");
        assert_eq!(mutex.unlock(&table), Ok(Some(2)));
        assert!(!mutex.try_lock(), "it went to 2, not to whoever comes by");
        assert_eq!(mutex.unlock(&table), Ok(Some(3)));
        assert!(mutex.try_unlock(), "nobody waits any more");
        assert!(!mutex.is_locked());
    }

    #[test]
    fn those_that_ran_out_of_time_are_not_owners() {
        let (mutex, table) = (Mutex::new(), Fake::new());
        assert!(mutex.try_lock());
        for id in [2, 3, 4] {
            table.open(id);
            sleep(&mutex, &table, id);
        }
        table.expire(2);
        table.expire(4);
        assert_eq!(mutex.unlock(&table), Ok(Some(3)));
        mutex.leave(&table, 2);
        mutex.leave(&table, 4);
        assert!(mutex.try_unlock(), "nobody waits any more");

        assert!(mutex.try_lock());
        table.open(5);
        sleep(&mutex, &table, 5);
        table.expire(5);
        assert_eq!(mutex.unlock(&table), Ok(None), "nobody is left to have it");
        assert!(!mutex.is_locked());
        mutex.leave(&table, 5);
        assert!(mutex.try_lock(), "who left has changed nothing");
    }

    #[test]
    fn it_is_taken_for_sleepers() {
        let (mutex, table) = (Mutex::new(), Fake::new());
        assert!(mutex.lock_for(&table, 1));
        assert!(!mutex.lock_for(&table, 2), "1 has it");
        assert_eq!(mutex.unlock(&table), Ok(Some(2)));
        assert_eq!(mutex.unlock(&table), Ok(None));
        assert_eq!(mutex.unlock(&table), Err(NotLocked));
    }
}
